import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmvitx.models.layers import (
    ConvAttention,
    DepthwiseConv,
    DropPath,
    PatchEmbed,
    WindowedDepthwiseConv,
    resample_tokens,
)
from mmvitx.models.layers.conv_attention import factorized_context


def tokens_of(feature):
    return feature.flatten(2).mT


# Factorized attention ----------------------------------------------------------------------------


def context_as_in_the_paper(k, v, num_heads):
    """Factorized attention word by word: a softmax over all tokens, the class token the first."""
    k, v = (t.unflatten(-1, (num_heads, -1)).transpose(1, 2) for t in (k, v))
    return k.softmax(2).mT @ v


def test_factorized_context_is_the_papers():
    torch.manual_seed(0)
    k, v = torch.randn(2, 2, 51, 24, dtype=torch.float64) * 3
    ours = factorized_context(k[:, 1:], v[:, 1:], k[:, :1], v[:, :1], num_heads=4)
    torch.testing.assert_close(ours, context_as_in_the_paper(k, v, 4))


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 1e-4), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_attention_at_67000_tokens(dtype, tolerance):
    """A 1024x1040 image at stride 4 has 67,000 tokens: sums must not overflow, nor parts vanish."""
    torch.manual_seed(0)
    size, dim = (250, 268), 32
    attention = ConvAttention(dim, 8)
    crpe = WindowedDepthwiseConv(dim, 8, {3: 2, 5: 3, 7: 3})
    x, cls_token = torch.randn(1, size[0] * size[1], dim), torch.randn(1, 1, dim)
    x[..., : dim // 2] += 3.0  # values that do not cancel in the sum
    with torch.no_grad():
        tokens, norm = (cls_token.double(), x.double()), torch.nn.Identity()
        expected = attention.double()(tokens, norm, size, crpe.double())
        attention, crpe = attention.float(), crpe.float()
        enabled = dtype != torch.float32
        with torch.autocast('cpu', dtype if enabled else torch.bfloat16, enabled=enabled):
            outs = attention((cls_token, x), norm, size, crpe)
    for out, reference in zip(outs, expected, strict=True):
        error = (out.double() - reference).pow(2).mean().sqrt() / reference.pow(2).mean().sqrt()
        assert error < tolerance


def test_without_crpe_the_class_output_is_the_same():
    torch.manual_seed(0)
    attention = ConvAttention(16, 8)
    crpe = WindowedDepthwiseConv(16, 8, {3: 2, 5: 3, 7: 3})
    tokens, norm = (torch.randn(2, 1, 16), torch.randn(2, 12, 16)), torch.nn.LayerNorm(16)
    expected, _ = attention(tokens, norm, (3, 4), crpe)
    (out,) = attention(tokens, norm, (3, 4), None)
    torch.testing.assert_close(out, expected)


# Convolutions and patches ------------------------------------------------------------------------


def test_windows_are_one_convolution_each():
    torch.manual_seed(0)
    crpe = WindowedDepthwiseConv(24, 8, {3: 2, 5: 3, 7: 3})
    feature = torch.randn(2, 24, 9, 11)
    parts = [conv(part) for conv, part in zip(crpe.convs, feature.split([6, 9, 9], 1))]
    ours = crpe(tokens_of(feature), (9, 11))
    torch.testing.assert_close(ours, tokens_of(torch.cat(parts, 1)))


def test_gradients_of_windowed_convolutions():
    torch.manual_seed(0)
    crpe = WindowedDepthwiseConv(8, 8, {3: 2, 5: 3, 7: 3}).double()
    x = torch.randn(2, 30, 8, dtype=torch.float64, requires_grad=True)

    def convolve(x, *_):
        return crpe(x, (5, 6))

    assert torch.autograd.gradcheck(convolve, (x, *crpe.parameters()))


@pytest.mark.parametrize('norm_eps', [1e-5, None])
@pytest.mark.parametrize('size', [(8, 12), (9, 13), (3, 1)])
def test_patch_embedding_is_the_convolution_on_a_padded_map(size, norm_eps):
    torch.manual_seed(0)
    embed = PatchEmbed(3, 8, 4, norm_eps)
    assert ('norm.weight' in embed.state_dict()) == (norm_eps is not None)
    feature = torch.randn(2, 3, *size)
    tokens, grid = embed(feature.permute(0, 2, 3, 1))
    padded = F.pad(feature, (0, -size[1] % 4, 0, -size[0] % 4))
    expected = embed.proj(padded)
    assert grid == tuple(expected.shape[2:])
    torch.testing.assert_close(tokens, embed.norm(tokens_of(expected)))


# Resampling --------------------------------------------------------------------------------------


@pytest.mark.parametrize('scale', [2, 4, 1 / 2, 1 / 4])
def test_resampling_is_bilinear_where_sizes_divide(scale):
    feature = torch.randn(2, 3, 8, 12)
    expected = F.interpolate(feature, scale_factor=scale, mode='bilinear', align_corners=False)
    ours = resample_tokens(tokens_of(feature), (8, 12), scale, tuple(expected.shape[2:]))
    torch.testing.assert_close(ours, tokens_of(expected))


@pytest.mark.parametrize('fine', [(5, 7), (9, 4), (1, 1), (6, 11)])
@pytest.mark.parametrize('factor', [15 / 14, 1.5, 2, 4])
def test_resampling_keeps_places_where_sizes_do_not_divide(fine, factor):
    """A ramp over the image stays that ramp, but for the half cell at the border."""
    coarse = tuple(math.ceil(side / factor) for side in fine)

    def ramp(size, stride):  # the column of a cell's centre, in cells of the fine grid
        return ((torch.arange(size[1]) + 0.5) * stride).expand(1, 1, *size)

    up = resample_tokens(tokens_of(ramp(coarse, factor)), coarse, factor, fine)
    down = resample_tokens(tokens_of(ramp(fine, 1)), fine, 1 / factor, coarse)
    assert (up - tokens_of(ramp(fine, 1))).abs().max() <= factor / 2
    assert (down - tokens_of(ramp(coarse, factor))).abs().max() <= math.ceil(factor) / 2


# Stochastic depth --------------------------------------------------------------------------------


def test_drop_path_drops_whole_samples_of_all_branches_alike():
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    cls_token, x = drop(torch.ones(4000, 1, 2), torch.ones(4000, 3, 2))
    kept = x[:, 0, 0] > 0
    assert torch.equal(x, (kept / 0.75)[:, None, None].expand_as(x))
    assert torch.equal(cls_token[:, 0, 0] > 0, kept)
    assert kept.float().mean() == pytest.approx(0.75, abs=0.03)


def test_drop_path_is_the_identity_in_eval_mode():
    x = torch.randn(2, 3)
    assert DropPath(0.9).eval()(x)[0] is x


@pytest.mark.parametrize('scale', [1.3 * 2 / 3, 0.65, 1.3, 224 / 240 * 16 / 12, 15 / 14, 0.5, 1.5])
def test_every_size_is_reached_however_it_rounds(scale):
    for side in range(1, 400):
        to_side = math.ceil(side * scale)
        out = resample_tokens(torch.zeros(1, side, 1), (side, 1), scale, (to_side, 1))
        assert out.shape == (1, to_side, 1), side


def test_second_derivatives_of_the_windows():
    torch.manual_seed(0)
    conv = WindowedDepthwiseConv(4, 2, {3: 1, 5: 1}).double()
    x = torch.randn(1, 12, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: conv(x, (3, 4)), x)


class Convolved(nn.Module):
    """Convolutions of tokens that are computed from the image, as in a transformer block."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.conv = DepthwiseConv(8, 3)
        self.windowed = WindowedDepthwiseConv(8, 2, {3: 1, 5: 1})

    def forward(self, images):
        size = images.shape[2:]
        x = self.embed(images.flatten(2).transpose(1, 2))
        x = x + self.conv(x, size)
        return x * self.windowed(x, size)


@pytest.mark.filterwarnings('ignore')
def test_inductor_trains_convolutions_of_changing_sizes():
    torch.compiler.reset()
    torch.manual_seed(0)
    model = Convolved()
    compiled = torch.compile(model, fullgraph=True)
    for size in (8, 12), (9, 20), (30, 10):
        images = torch.randn(2, 8, *size)
        results = [
            torch.autograd.grad(each(images).square().sum(), tuple(model.parameters()))
            for each in (model, compiled)
        ]
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5 * ours.abs().max().item())


def test_the_convolution_is_a_proper_operator():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 9, 8, requires_grad=True).permute(0, 3, 1, 2)
    weights = [torch.randn(4, 1, size, size, requires_grad=True) for size in (3, 5)]
    bias = torch.randn(8, requires_grad=True)
    torch.library.opcheck(torch.ops.mmvitx.depthwise_conv.default, (x, bias, weights))
