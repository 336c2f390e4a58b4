import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

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
    monkeypatch.setattr(linear_module, 'HAS_FAST_ONEDNN', request.param)
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
    monkeypatch.setattr(linear_module, 'HAS_FAST_ONEDNN', True)
    monkeypatch.setattr(linear_module, '_onednn_linear', None)
    inputs = problem(dtype)
    assert linear(*inputs).dtype == dtype
    with torch.autocast('cpu', torch.bfloat16):
        assert linear(*problem()).dtype == torch.bfloat16


@needs_onednn
def test_what_records_a_model_sees_plain_operators(monkeypatch):
    monkeypatch.setattr(linear_module, 'HAS_FAST_ONEDNN', True)
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
    monkeypatch.setattr(linear_module, 'HAS_FAST_ONEDNN', True)
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
    monkeypatch.setattr(linear_module, 'HAS_FAST_ONEDNN', True)
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
from mmvitx.models.flops import multiply_adds
from mmvitx.models.layers.linear import HAS_FAST_ONEDNN
model = CoaT('lite_tiny')
assert multiply_adds(lambda: model(torch.zeros(1, 3, 64, 64))) > 0
assert not HAS_FAST_ONEDNN
"""
    subprocess.run([sys.executable, '-c', code], check=True)
