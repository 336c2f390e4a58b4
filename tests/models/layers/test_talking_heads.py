import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from mmvitx.models.layers import talking_heads
from mmvitx.models.layers.talking_heads import (
    TalkingHeadsAttention,
    talking_heads_attention,
    whole_matrix_attention,
)


def inputs(batch=2, length=11, heads=3, dim=4, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = (batch, length, 3, heads, dim), (heads, heads), (heads,), (heads, heads), (heads,)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 4 queries of 3 heads and 11 keys, so that the last of three is shorter."""
    monkeypatch.setattr(talking_heads, 'MIN_ROWS', 1)
    monkeypatch.setattr(talking_heads, 'BLOCK_BYTES', {'cpu': 4 * 3 * 11 * 4})


def blocks_of(qkv):
    return list(talking_heads._plan(qkv))


# The equation ------------------------------------------------------------------------------------


def attention_as_in_the_paper(qkv, pre_weight, pre_bias, post_weight, post_bias):
    """Linear layers on the heads as the last axis, one image and one query at a time."""
    outs = []
    for q, k, v in (image.unbind(1) for image in qkv):  # (N, h, d) each
        for query in q:
            scores = (query * k).sum(-1) / q.shape[-1] ** 0.5  # (N, h)
            weights = nn.functional.linear(scores, pre_weight, pre_bias).softmax(0)
            weights = nn.functional.linear(weights, post_weight, post_bias)
            outs.append((weights[..., None] * v).sum(0).flatten())
    return torch.stack(outs).unflatten(0, qkv.shape[:2])


def test_the_whole_matrix_form_is_the_papers():
    arguments = inputs()
    torch.testing.assert_close(
        whole_matrix_attention(*arguments), attention_as_in_the_paper(*arguments)
    )


@pytest.mark.parametrize(
    ('batch', 'length', 'heads'), [(1, 1, 3), (3, 1, 1), (2, 11, 3), (1, 12, 3), (5, 3, 3)]
)
def test_blocks_are_the_whole_forward_and_backward(small_blocks, batch, length, heads):
    arguments = inputs(batch, length, heads)
    outs = [f(*arguments) for f in (talking_heads_attention, whole_matrix_attention)]
    direction = torch.randn_like(outs[0])
    grads = [torch.autograd.grad(out, arguments, direction) for out in outs]
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


def test_the_bias_of_the_first_mix_has_an_exact_zero_for_its_gradient():
    arguments = inputs()
    talking_heads_attention(*arguments).sum().backward()
    assert torch.equal(arguments[2].grad, torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize('length', [1, 7])
def test_gradients_of_blocks(monkeypatch, length):
    monkeypatch.setattr(talking_heads, 'MIN_ROWS', 1)
    monkeypatch.setattr(talking_heads, 'BLOCK_BYTES', {'cpu': 3 * 2 * 7 * 4})
    arguments = inputs(2, length, 2, 3)
    assert torch.autograd.gradcheck(talking_heads_attention, arguments)


def test_blocks_cover_every_query_of_every_image_once(small_blocks):
    for batch, length in [(1, 1), (7, 2), (2, 11), (3, 40)]:
        qkv = torch.zeros(batch, length, 3, 3, 4)
        count = torch.zeros(batch, length)
        for items, blocks in blocks_of(qkv):
            for rows in blocks:
                count[items, rows] += 1
        assert torch.equal(count, torch.ones(batch, length))


def test_large_scores_do_not_overflow():
    arguments = inputs(dtype=torch.float32)
    qkv = arguments[0].detach() * 100
    out = talking_heads_attention(qkv, *arguments[1:])
    expected = whole_matrix_attention(*(t.double() for t in (qkv, *arguments[1:])))
    assert (out - expected).abs().max() < 1e-4 * expected.std()


# Memory ------------------------------------------------------------------------------------------


def test_no_more_is_stored_than_the_arguments():
    arguments = inputs(1, 300, dtype=torch.float32)
    stored = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: stored.append(t) or t, lambda t: t):
        talking_heads_attention(*arguments)
    assert sum(t.numel() for t in stored) == sum(t.numel() for t in arguments)


def test_memory_grows_with_the_number_of_tokens():
    """The whole matrices of 4096 tokens would take 512 MB each, of which training stores several.

    In a process of its own, whose peak nothing else has set.
    """
    script = """
        import resource, torch
        from mmvitx.models.layers.talking_heads import TalkingHeadsAttention

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

        layer = TalkingHeadsAttention(32, 8)
        for tokens in (16, 4096):
            layer(torch.randn(1, tokens, 32), (1, tokens)).sum().backward()
            print(peak())
    """
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-c', textwrap.dedent(script)]
    before, after = map(float, subprocess.check_output(command, env=env, text=True).split())
    assert after - before < 64


# Precision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize('form', [talking_heads_attention, whole_matrix_attention])
@pytest.mark.parametrize('autocast', [False, True])
def test_low_precision_costs_no_more_than_its_rounding(form, dtype, tolerance, autocast):
    arguments = inputs(1, 50, 4, 8)
    rounded = [t.detach().to(dtype).requires_grad_() for t in arguments]
    given = [rounded[0], *(t.detach().float().requires_grad_() for t in rounded[1:])]
    given = given if autocast else rounded  # autocast hands over low precision and float32
    with torch.autocast('cpu', dtype, enabled=autocast):
        out = form(*given)
    expected_inputs = [t.detach().double().requires_grad_() for t in rounded]
    expected = whole_matrix_attention(*expected_inputs)
    assert out.dtype == dtype
    assert (out - expected).abs().max() < tolerance * expected.abs().max()

    direction = torch.randn_like(expected).to(dtype)
    grads = torch.autograd.grad(out, given, direction)
    expected_grads = torch.autograd.grad(expected, expected_inputs, direction.double())
    for grad, expected_grad, argument in zip(grads, expected_grads, given, strict=True):
        assert grad.dtype == argument.dtype
        # an exact zero, but for the rounding of the whole-matrix form
        assert (grad - expected_grad).abs().max() <= tolerance * expected_grad.abs().max() + 1e-5


# The compiler and export -------------------------------------------------------------------------


@pytest.mark.filterwarnings('ignore')
def test_it_is_a_sound_operator():
    arguments = inputs(dtype=torch.float32)
    torch.library.opcheck(torch.ops.mmvitx.talking_heads_attention.default, arguments)


@pytest.mark.filterwarnings('ignore')
def test_the_compiler_sees_one_operator_for_any_number_of_tokens():
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    layer = TalkingHeadsAttention(12, 3)
    compiled = torch.compile(layer, backend=backend, fullgraph=True, dynamic=True)
    for size in [(5, 8), (6, 7), (11, 13)]:
        x = torch.randn(2, size[0] * size[1], 12)
        torch.testing.assert_close(compiled(x, size), layer(x, size))
    assert len(graphs) == 1
    code = graphs[0].code
    assert code.count('torch.ops.mmvitx.talking_heads_attention') == 1
    assert 'softmax' not in code


class Traceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = TalkingHeadsAttention(12, 3).requires_grad_(False)

    def forward(self, x):
        return self.layer(x, (3, 4))


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('strict', [False, True])
def test_what_is_exported_holds_plain_operators(strict):
    model, x = Traceable(), torch.randn(2, 12, 12)
    exported = torch.export.export(model, (x,), strict=strict).module()
    code = exported.print_readable(print_output=False)
    assert 'softmax' in code and 'mmvitx::' not in code and 'ops.mmvitx' not in code
    torch.testing.assert_close(exported(x), model(x))


def test_what_is_traced_holds_plain_operators():
    model, x = Traceable(), torch.randn(2, 12, 12)
    traced = torch.jit.trace(model, x)
    code = str(traced.inlined_graph)
    assert 'softmax' in code and 'mmvitx::' not in code and 'ops.mmvitx' not in code
    torch.testing.assert_close(traced(x), model(x))


# Windows -----------------------------------------------------------------------------------------


def layers(window_size, dim=12, heads=3):
    """Global and windowed attention of the same weights."""
    torch.manual_seed(0)
    layer = TalkingHeadsAttention(dim, heads).double()
    windowed = TalkingHeadsAttention(dim, heads, window_size).double()
    windowed.load_state_dict(layer.state_dict())
    return layer, windowed


@pytest.mark.parametrize('size', [(4, 4), (3, 4), (1, 1), (2, 3)])
def test_a_window_that_covers_the_grid_is_global_attention(size):
    layer, windowed = layers(4)
    x = torch.randn(2, size[0] * size[1], 12, dtype=torch.float64)
    torch.testing.assert_close(windowed(x, size), layer(x, size))


@pytest.mark.parametrize('size', [(8, 8), (8, 5), (5, 8), (9, 11), (1, 9), (9, 1), (4, 7)])
def test_each_window_attends_to_its_real_tokens_only(size):
    layer, windowed = layers(4)
    grid = torch.randn(2, *size, 12, dtype=torch.float64)
    expected = torch.empty_like(grid)
    for top in range(0, size[0], 4):
        for left in range(0, size[1], 4):
            window = grid[:, top : top + 4, left : left + 4]
            out = layer(window.flatten(1, 2), window.shape[1:3])
            expected[:, top : top + 4, left : left + 4] = out.view_as(window)
    torch.testing.assert_close(windowed(grid.flatten(1, 2), size), expected.flatten(1, 2))


def test_gradients_of_windows():
    _, windowed = layers(2, dim=4, heads=2)
    x = torch.randn(2, 15, 4, dtype=torch.float64, requires_grad=True)

    def attend(x, *_):
        return windowed(x, (3, 5))

    assert torch.autograd.gradcheck(attend, (x, *windowed.parameters()))
