from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmvitx.models.layers import Mlp
from mmvitx.models.layers import mlp as mlp_module

LENGTHS = (1, 5, 7)


def build(dtype=torch.float32, dim=8):
    torch.manual_seed(0)
    mlp = Mlp(dim, 3 * dim).to(dtype)
    norms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-6) for _ in LENGTHS).to(dtype)
    for norm in norms:
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    groups = [torch.randn(2, length, dim, dtype=dtype, requires_grad=True) for length in LENGTHS]
    return mlp, norms, groups


def plain(mlp, groups, norms):
    return [mlp.fc2(F.gelu(mlp.fc1(norm(x)))) for x, norm in zip(groups, norms)]


def gradients(outs, inputs):
    loss = sum(out.float().square().sum() for out in outs)
    return torch.autograd.grad(loss, [t for t in inputs if t.requires_grad])


@pytest.fixture(params=[1 << 20, 24 * 4 * 4, 1])
def pieces(request, monkeypatch):
    """All in one piece, pieces of a few rows that cross the borders of the groups, rows alone."""
    monkeypatch.setattr(mlp_module, 'PIECE_BYTES', request.param)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('frozen', [(), ('fc1',), ('fc2',), ('norms',), ('groups',)])
def test_it_is_two_linear_layers_with_a_gelu(pieces, dtype, frozen):
    mlp, norms, groups = build()
    parts = {'fc1': mlp.fc1, 'fc2': mlp.fc2, 'norms': norms}
    for name in frozen:
        for tensor in groups if name == 'groups' else parts[name].parameters():
            tensor.requires_grad_(False)
    inputs = *groups, *norms.parameters(), *mlp.parameters()
    low = dtype != torch.float32
    with torch.autocast('cpu', dtype if low else torch.bfloat16, enabled=low):
        ours, expected = mlp(groups, norms), plain(mlp, groups, norms)
        with torch.no_grad():
            without_gradients = mlp(groups, norms)
    rtol, atol = (1e-5, 1e-5) if not low else (0.05, 0.05 if dtype == torch.bfloat16 else 0.01)
    for a, b, c in zip(ours, without_gradients, expected, strict=True):
        assert a.dtype == b.dtype == c.dtype and a.is_contiguous()
        torch.testing.assert_close(a, c, rtol=rtol, atol=atol)
        torch.testing.assert_close(b, c, rtol=rtol, atol=atol)
    for a, b in zip(gradients(ours, inputs), gradients(expected, inputs), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=rtol, atol=max(atol, rtol * b.abs().max().item()))


def test_what_norm_and_gelu_put_out_is_not_kept(pieces):
    mlp, norms, groups = build()
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t
    ):
        mlp(groups, norms)
    given = {t.data_ptr() for t in (*groups, *norms.parameters(), *mlp.parameters())}
    kept = sum(t.numel() for pointer, t in kept.items() if pointer not in given)
    assert kept == 2 * sum(LENGTHS) * 24  # the input of the GELU


def test_nothing_is_kept_where_nothing_needs_a_gradient():
    mlp, norms, groups = build()
    for tensor in (*groups, *norms.parameters(), *mlp.parameters()):
        tensor.requires_grad_(False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        outs = mlp(groups, norms)
    assert not kept and not any(out.requires_grad for out in outs)


def test_tokens_in_any_layout():
    mlp, norms, groups = build()
    flipped = [x.detach().mT.contiguous().mT.requires_grad_() for x in groups]
    expected = gradients(mlp(groups, norms), groups)
    for ours, theirs in zip(gradients(mlp(flipped, norms), flipped), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_no_tokens_at_all():
    mlp, norms, _ = build()
    x = torch.zeros(0, 4, 8, requires_grad=True)
    (out,) = mlp([x], norms[:1])
    out.sum().backward()
    assert out.shape == x.grad.shape == (0, 4, 8)


@pytest.mark.parametrize('shared', [False, True])
def test_second_derivatives_are_those_of_plain_layers(shared):
    mlp, norms, groups = build(torch.float64)
    if shared:  # one norm for all groups, of which one is computed from another
        norms = nn.ModuleList([norms[0]] * len(norms))
        inputs = groups[0], *norms[0].parameters(), *mlp.parameters()
    else:
        inputs = *groups, *norms.parameters(), *mlp.parameters()
    results = []
    for function in (mlp, partial(plain, mlp)):
        if shared:
            groups = [groups[0], groups[0].sin(), groups[0].cos()]
        outs = function(groups, norms)
        loss = sum(out.square().sum() for out in outs)
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        results.append(first)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    ours, expected = results[0] + results[1], results[2] + results[3]
    for gradient, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, reference)


def test_one_token_alone():
    mlp, norm = Mlp(4, 6), nn.LayerNorm(4)
    (out,) = mlp([torch.randn(4)], [norm])
    assert out.shape == (4,)
    out.sum().backward()
    assert mlp.fc2.weight.grad.shape == (4, 6)
