import math

import pytest
import torch
import torch.nn.functional as F

from mmvitx.models.layers import Pyramid

STRIDES = (4, 8, 16, 32)
SIZES = [(64, 96), (63, 65), (97, 32), (35, 130), (17, 1), (1, 1)]


def tokens_for(in_strides, image_size, dims, batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    sides = [[math.ceil(n / s) for n in image_size] for s in in_strides]
    return [
        torch.randn(batch, math.prod(size), dim, generator=generator).to(dtype)
        for size, dim in zip(sides, dims)
    ]


def as_map(tokens, stride, image_size):
    return tokens.mT.unflatten(2, [math.ceil(n / stride) for n in image_size])


@pytest.mark.parametrize('image_size', SIZES)
@pytest.mark.parametrize('in_stride', [8, 16])
def test_levels_are_convolutions_and_pools(image_size, in_stride):
    torch.manual_seed(0)
    dims = (8, 12, 16, 20)
    pyramid = Pyramid(dims, [in_stride] * 4, STRIDES)
    levels = tokens_for([in_stride] * 4, image_size, dims)
    for x, stride, ours in zip(levels, STRIDES, pyramid(levels, image_size)):
        up = pyramid.ups[str(stride)]
        expected = as_map(x, in_stride, image_size)
        factor = in_stride // stride
        if factor == 2:
            expected = up.proj(expected)
        elif factor == 4:
            first, norm, gelu, second = up
            expected = first.proj(expected).permute(0, 2, 3, 1)
            expected = second.proj(gelu(norm(expected)).permute(0, 3, 1, 2))
        for _ in range({2: 1, 4: 2}.get(stride // in_stride, 0)):
            expected = F.max_pool2d(expected, 2, 2, ceil_mode=True)
        height, width = (math.ceil(n / stride) for n in image_size)
        assert ours.shape[2:] == (height, width)
        assert ours.is_contiguous()
        torch.testing.assert_close(ours, expected[:, :, :height, :width])


def test_a_map_of_its_level_stays_as_it_is():
    pyramid = Pyramid((8, 12), (8, 16), (8, 16))
    levels = tokens_for((8, 16), (50, 70), (8, 12))
    for stride, x, ours in zip((8, 16), levels, pyramid(levels, (50, 70))):
        assert torch.equal(ours, as_map(x, stride, (50, 70)))
    assert not list(pyramid.parameters())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    pyramid = Pyramid((8,) * 4, (16,) * 4, STRIDES).to(dtype)
    maps = pyramid(tokens_for((16,) * 4, (40, 50), (8,) * 4, dtype=dtype), (40, 50))
    assert all(m.dtype == dtype and m.isfinite().all() for m in maps)


def test_autocast_keeps_the_dtype_of_the_tokens():
    pyramid = Pyramid((8,) * 4, (16,) * 4, STRIDES)
    with torch.autocast('cpu', torch.bfloat16):
        maps = pyramid(tokens_for((16,) * 4, (40, 50), (8,) * 4), (40, 50))
    assert all(m.dtype == torch.float32 for m in maps)


def test_every_parameter_has_a_gradient():
    pyramid = Pyramid((8,) * 4, (16,) * 4, STRIDES)
    maps = pyramid(tokens_for((16,) * 4, (40, 50), (8,) * 4), (40, 50))
    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad.any() for p in pyramid.parameters())


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (((8, 8), (16,), (4, 8)), 'one number a level each'),
        (((8,), (12,), (4,)), r'in_strides must be out of \(8, 16\)'),
        (((8,), (16,), (2,)), r'out_strides distinct out of \(4, 8, 16, 32\)'),
        (((8, 8), (16, 16), (4, 4)), r'not \(16, 16\) and \(4, 4\)'),
    ],
)
def test_wrong_settings_say_what_is_right(settings, message):
    with pytest.raises(ValueError, match=message):
        Pyramid(*settings)
