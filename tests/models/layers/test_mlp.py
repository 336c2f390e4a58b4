import pytest
import torch
import torch.nn.functional as F

from mmvitx.models.layers import Mlp


def gradients(mlp, x, forward, dtype=torch.float32):
    x = x.clone().requires_grad_()
    mlp.zero_grad()
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        out = forward(x)
    out.float().square().sum().backward()
    return [out, x.grad, *(p.grad for p in mlp.parameters() if p.requires_grad)]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('frozen', [(), ('fc1',), ('fc2',)])
def test_it_is_two_linear_layers_with_a_gelu(dtype, frozen):
    torch.manual_seed(0)
    mlp, x = Mlp(8, 24), torch.randn(2, 5, 8)
    for name in frozen:
        getattr(mlp, name).requires_grad_(False)
    ours = gradients(mlp, x, mlp, dtype)
    expected = gradients(mlp, x, lambda x: mlp.fc2(F.gelu(mlp.fc1(x))), dtype)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), F.linear(F.gelu(mlp.fc1(x)), *mlp.fc2.parameters()))


def test_what_the_gelu_puts_out_is_not_kept():
    mlp, x = Mlp(8, 24), torch.randn(2, 5, 8)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t
    ):
        mlp(x)
    weights = {p.data_ptr() for p in mlp.parameters()}
    assert sum(t.numel() for pointer, t in kept.items() if pointer not in weights) == 10 * (8 + 24)


def test_second_derivatives_are_those_of_plain_layers():
    torch.manual_seed(0)
    mlp = Mlp(4, 6).double()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    gradients = []
    for function in (mlp, lambda x: mlp.fc2(torch.nn.functional.gelu(mlp.fc1(x)))):
        (gradient,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        inputs = (x, *mlp.parameters())
        gradients.append(torch.autograd.grad(gradient.square().sum(), inputs))
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain)


def test_one_token_alone():
    mlp = Mlp(4, 6)
    mlp(torch.randn(4)).sum().backward()
    assert mlp.fc2.weight.grad.shape == (4, 6)
