import pytest
import torch

from mmvitx.models.layers.class_attention import ClassAttention


def attention_as_in_the_paper(layer, query, tokens):
    """Keys and values of all tokens, and a softmax of the scores, head by head."""
    q, k, v = (
        linear(x).unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
        for linear, x in ((layer.q, query), (layer.k, tokens), (layer.v, tokens))
    )
    weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
    return layer.proj((weights @ v).transpose(1, 2).flatten(2))


def make(dim=24, num_heads=4, qkv_bias=True, batch=2, length=11):
    torch.manual_seed(0)
    layer = ClassAttention(dim, num_heads, qkv_bias).double()
    query = torch.randn(batch, 1, dim, dtype=torch.float64, requires_grad=True)
    tokens = torch.randn(batch, length, dim, dtype=torch.float64, requires_grad=True)
    return layer, query, tokens


@pytest.mark.parametrize('qkv_bias', [True, False])
@pytest.mark.parametrize(('batch', 'length'), [(1, 1), (2, 11), (3, 200)])
def test_folding_is_exact_forward_and_backward(batch, length, qkv_bias):
    layer, query, tokens = make(qkv_bias=qkv_bias, batch=batch, length=length)
    inputs = (query, tokens, *layer.parameters())
    outs = [layer(query, tokens), attention_as_in_the_paper(layer, query, tokens)]
    direction = torch.randn_like(outs[0])
    grads = [torch.autograd.grad(out, inputs, direction) for out in outs]
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


def test_the_bias_of_the_keys_has_an_exact_zero_for_its_gradient():
    layer, query, tokens = make()
    layer(query, tokens).sum().backward()
    assert torch.equal(layer.k.bias.grad, torch.zeros(24, dtype=torch.float64))


def test_its_gradients():
    layer, query, tokens = make(dim=6, num_heads=2, length=5)

    def attend(query, tokens, *_):
        return layer(query, tokens)

    assert torch.autograd.gradcheck(attend, (query, tokens, *layer.parameters()))


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float16, 3e-3), (torch.bfloat16, 2e-2)])
def test_low_precision_at_many_tokens(dtype, tolerance):
    layer, query, tokens = make(dim=64, num_heads=8, length=5000)
    with torch.no_grad():
        expected = layer(query, tokens)
        layer, query, tokens = layer.float(), query.float(), tokens.float()
        with torch.autocast('cpu', dtype):
            autocast = layer(query, tokens)
        converted = layer.to(dtype)(query.to(dtype), tokens.to(dtype))
    assert autocast.dtype == converted.dtype == dtype
    for out in (autocast, converted):
        error = (out.double() - expected).pow(2).mean() / expected.pow(2).mean()
        assert error.sqrt() < tolerance
