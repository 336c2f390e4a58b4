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


def test_second_derivatives_are_those_of_plain_layers():
    mlp, norms, groups = build(torch.float64)
    inputs = *groups, *norms.parameters(), *mlp.parameters()
    results = []
    for outs in (mlp(groups, norms), plain(mlp, groups, norms)):
        loss = sum(out.square().sum() for out in outs)
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


def test_one_token_alone():
    mlp, norm = Mlp(4, 6), nn.LayerNorm(4)
    (out,) = mlp([torch.randn(4)], [norm])
    assert out.shape == (4,)
    out.sum().backward()
    assert mlp.fc2.weight.grad.shape == (4, 6)
