import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode

from mmvitx.errors import UserError
from mmvitx.models.flops import multiply_adds
from mmvitx.models.layers import Mlp
from mmvitx.models.layers import linear as linear_module
from mmvitx.models.layers.linear import call_linear, is_plain, linear

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, '_linear_pointwise'), reason='this PyTorch has no oneDNN'
)


@pytest.fixture(params=[False, pytest.param(True, marks=needs_onednn)])
def onednn(request, monkeypatch):
    """Once with MKL, once with oneDNN, whatever is faster here; and count oneDNN's products."""
    library = 'onednn' if request.param else 'mkl'
    monkeypatch.setattr(linear_module, 'choose_library', lambda: library)
    calls, real = [], linear_module._onednn_linear
    monkeypatch.setattr(
        linear_module, '_onednn_linear', lambda *args: calls.append(args) or real(*args)
    )
    yield calls
    assert bool(calls) == request.param


def problem(dtype=torch.float32):
    torch.manual_seed(0)
    shapes = (2, 40, 24), (16, 24), (16,)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def test_outputs_and_gradients(onednn):
    inputs = problem()
    exact = [t.detach().double().requires_grad_() for t in inputs]
    out, expected = linear(*inputs), F.linear(*exact)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(out.square().sum(), inputs)
    reference = torch.autograd.grad(expected.square().sum(), exact)
    for ours, theirs in zip(gradients, reference, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-3, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear(*inputs), out)
        torch.testing.assert_close(linear(inputs[0], inputs[1]), out - inputs[2])


def test_second_derivatives(onednn):
    inputs = problem()
    results = []
    for function in (linear, F.linear):
        first = torch.autograd.grad(function(*inputs).pow(3).sum(), inputs, create_graph=True)
        loss = sum(gradient.square().sum() for gradient in first)
        results.append(torch.autograd.grad(loss, inputs))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def test_only_what_needs_a_gradient_gets_one(onednn):
    x, weight, bias = problem()
    weight.requires_grad_(False)
    linear(x, weight, bias).sum().backward()
    assert weight.grad is None and x.grad is not None
    torch.testing.assert_close(bias.grad, torch.full((16,), 80.0))


def test_the_products_are_counted(onednn):
    inputs = problem()
    assert multiply_adds(lambda: linear(*inputs).sum().backward()) == 3 * 80 * 24 * 16


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_other_dtypes_are_left_to_pytorch(dtype, monkeypatch):
    monkeypatch.setattr(linear_module, 'choose_library', lambda: 'onednn')
    monkeypatch.setattr(linear_module, '_onednn_linear', None)
    inputs = problem(dtype)
    assert linear(*inputs).dtype == dtype
    with torch.autocast('cpu', torch.bfloat16):
        assert linear(*problem()).dtype == torch.bfloat16


@needs_onednn
def test_what_records_a_model_sees_plain_operators(monkeypatch):
    monkeypatch.setattr(linear_module, 'choose_library', lambda: 'onednn')
    layer = nn.Linear(24, 16).requires_grad_(False)
    traced = torch.jit.trace(lambda x: call_linear(layer, x), torch.randn(40, 24))
    assert 'mkldnn' not in str(traced.graph) and 'mmvitx::' not in str(traced.graph)


@needs_onednn
@pytest.mark.parametrize('transposed', [False, True])
def test_it_is_a_proper_operator(transposed):
    x, weight, bias = problem()
    if transposed:
        x, weight = x[0].mT, torch.randn(40, 16).mT
    torch.library.opcheck(torch.ops.mmvitx.linear.default, (x, weight, bias))


@needs_onednn
def test_onednn_gets_no_matrix_with_gaps(monkeypatch):
    monkeypatch.setattr(linear_module, 'choose_library', lambda: 'onednn')
    operands, real = [], torch.ops.mkldnn._linear_pointwise

    def record(x, weight, *args):
        operands.extend((x, weight))
        return real(x, weight, *args)

    monkeypatch.setattr(torch.ops.mkldnn, '_linear_pointwise', record)
    wide = torch.randn(24, 80)
    for matrix in wide.mT, wide.mT[:40], wide[:, :40]:  # whole, rows of a transposed one, columns
        x, weight = torch.randn(32, matrix.shape[-1]), torch.randn(len(matrix), 16)
        torch.testing.assert_close(linear(x, matrix), x @ matrix.mT)
        torch.testing.assert_close(
            linear_module.weight_gradient(weight, matrix), matrix.mT @ weight
        )
    assert len(operands) == 12
    assert all(t.is_contiguous() or t.mT.is_contiguous() for t in operands)


@needs_onednn
@pytest.mark.filterwarnings('ignore')
def test_a_compiler_takes_it_for_any_number_of_rows(monkeypatch):
    monkeypatch.setattr(linear_module, 'choose_library', lambda: 'onednn')
    torch.compiler.reset()
    graphs = []

    def record(graph, inputs):
        graphs.append(str(graph.graph))
        return graph

    layer = nn.Linear(24, 16)
    compiled = torch.compile(lambda x: call_linear(layer, x), backend=record, fullgraph=True)
    for rows in 40, 50, 60, 70:
        x = torch.randn(2, rows, 24)
        torch.testing.assert_close(compiled(x), layer(x))
    assert len(graphs) <= 2 and all('mmvitx.linear' in graph for graph in graphs)


class Adapter(nn.Linear):
    """A layer that has replaced another, as adapters do."""

    def forward(self, x):
        return super().forward(x) + 1


def test_replaced_layers_and_hooks_are_called():
    mlp, norm, x = Mlp(8, 16), nn.LayerNorm(8), torch.randn(2, 20, 8)
    (plain,) = mlp([x], [norm])
    adapted = copy.deepcopy(mlp)
    adapted.fc2 = Adapter(16, 8)
    adapted.fc2.load_state_dict(mlp.fc2.state_dict())
    torch.testing.assert_close(adapted([x], [norm])[0], plain + 1)
    mlp.fc2.register_forward_hook(lambda layer, args, out: out + 2)
    torch.testing.assert_close(mlp([x], [norm])[0], plain + 2)
    torch.testing.assert_close(
        call_linear(mlp.fc2, torch.zeros(20, 16)), mlp.fc2.bias + 2 + 0 * x[0]
    )


def change_nothing(layer):
    pass


def replace_forward(layer):
    layer.forward = lambda x: x


def replace_weight(layer):
    class Quantized(nn.Parameter):
        pass

    layer.weight = Quantized(layer.weight.data)


@pytest.mark.parametrize(
    ('change', 'plain'),
    [
        (change_nothing, True),
        (replace_forward, False),
        (replace_weight, False),
        (lambda layer: layer.register_parameter('bias', None), False),
        (lambda layer: layer.register_forward_pre_hook(print), False),
        (lambda layer: layer.register_full_backward_hook(print), False),
        (lambda layer: layer.register_full_backward_pre_hook(print), False),
    ],
)
def test_what_is_more_than_its_parameters_is_not_plain(change, plain):
    layer = nn.Linear(4, 2)
    change(layer)
    assert is_plain(layer) == plain


# Which library. ----------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch):
    """Nothing is chosen yet; gives what :func:`_measure` finds, and keeps its calls."""
    calls = []

    def be(mkl, onednn):
        monkeypatch.setattr(
            linear_module, '_measure', lambda: calls.append(1) or dict(mkl=mkl, onednn=onednn)
        )
        linear_module.choose_library.cache_clear()
        return calls

    monkeypatch.delenv(linear_module.VARIABLE, raising=False)
    choose_library = linear_module.choose_library
    be(1.0, 1.0)
    yield be
    choose_library.cache_clear()


@needs_onednn
@pytest.mark.parametrize(
    ('mkl', 'onednn', 'chosen'),
    [(2.0, 1.0, 'onednn'), (1.6, 1.0, 'onednn'), (1.4, 1.0, 'mkl'), (1.0, 2.0, 'mkl')],
)
def test_onednn_is_chosen_where_it_is_much_faster(measured, mkl, onednn, chosen):
    calls = measured(mkl, onednn)
    assert [linear_module.choose_library() for _ in range(3)] == [chosen] * 3
    assert len(calls) == 1


@needs_onednn
@pytest.mark.parametrize('library', linear_module.LIBRARIES)
def test_the_environment_chooses_without_a_measurement(measured, library, monkeypatch):
    calls = measured(2.0, 1.0)
    monkeypatch.setenv(linear_module.VARIABLE, library)
    assert linear_module.choose_library() == library and not calls


def test_an_unknown_library_is_refused(measured, monkeypatch):
    monkeypatch.setenv(linear_module.VARIABLE, 'blas')
    with pytest.raises(UserError, match="MMVITX_LINEAR must be one of mkl.*not 'blas'"):
        linear(torch.randn(40, 24), torch.randn(16, 24))


@needs_onednn
def test_the_measurement_and_its_caller_leave_each_other_alone(monkeypatch):
    seen, real = [], linear_module.compute

    def record(library, x, weight):
        modes = torch.is_autocast_enabled('cpu'), torch.is_inference_mode_enabled()
        seen.append((library, type(x), x.device.type, x.dtype, torch.get_num_threads(), *modes))
        return real(library, x, weight)

    monkeypatch.setattr(linear_module, 'compute', record)
    monkeypatch.setattr(linear_module, 'TURNS', 2)
    monkeypatch.delenv(linear_module.VARIABLE, raising=False)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.device('meta'), FakeTensorMode(), torch.inference_mode(), torch.autocast('cpu'):
            linear_module.choose_library.__wrapped__()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    expected = torch.Tensor, 'cpu', torch.float32, 1, False, False
    assert seen == [(library, *expected) for library in linear_module.LIBRARIES] * 2
    assert torch.equal(torch.get_rng_state(), state)


def test_what_does_not_need_it_measures_nothing(measured):
    calls = measured(2.0, 1.0)
    layer = nn.Linear(24, 16).requires_grad_(False)
    call = Call(layer)
    torch.jit.trace(call, torch.randn(40, 24), check_trace=False)  # the check would run it
    torch.export.export(call, (torch.randn(40, 24),))
    linear(torch.randn(40, 24).double(), layer.weight.double())
    linear(torch.randn(2, 24), layer.weight)  # a class token each
    linear(torch.randn(40, 24, device='meta'), layer.weight.to('meta'))
    assert not calls


class Call(nn.Module):
    """Calls a layer as the models do."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return call_linear(self.layer, x)


@needs_onednn
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('mkl', [1.0, 2.0])
def test_to_a_compiler_the_choice_is_a_constant(measured, mkl):
    calls = measured(mkl, 1.0)
    torch.compiler.reset()
    call = Call(nn.Linear(24, 16))
    compiled = torch.compile(call, backend='aot_eager', fullgraph=True)
    for rows in 40, 50:
        x = torch.randn(2, rows, 24, requires_grad=True)
        compiled(x).sum().backward()
        torch.testing.assert_close(x.grad, call.layer.weight.sum(0).expand_as(x))
    assert len(calls) == 1


def test_without_onednn_the_package_works():
    code = """
import torch
namespace = type(torch.ops.mkldnn)
real = namespace.__getattr__
def missing(self, name):
    if name == '_linear_pointwise':
        raise AttributeError(name)
    return real(self, name)
namespace.__getattr__ = missing
torch.ops.mkldnn.__dict__.pop('_linear_pointwise', None)
from mmvitx.models.backbones import CoaT
from mmvitx.errors import UserError
from mmvitx.models.flops import multiply_adds
from mmvitx.models.layers.linear import choose_library
model = CoaT('lite_tiny')
assert multiply_adds(lambda: model(torch.zeros(1, 3, 64, 64))) > 0
assert choose_library() == 'mkl'
"""
    subprocess.run([sys.executable, '-c', code], check=True)
