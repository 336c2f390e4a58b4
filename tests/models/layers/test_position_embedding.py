import copy

import pytest
import torch
import torch.nn.functional as F

from mmvitx.models.layers import PositionEmbeddingResizer, resize_position_embedding
from mmvitx.models.layers.position_embedding import MAX_CACHED


def embedding(*shape, seed=0, **settings):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **settings)


@pytest.mark.parametrize('size', [(7, 5), (3, 9), (1, 1)])
@pytest.mark.parametrize('extra', [0, 1, 2])
def test_it_is_bicubic_and_extra_tokens_stay(size, extra):
    pos_embed = embedding(1, extra + 12, 8)
    ours = resize_position_embedding(pos_embed, size, extra, source_size=(3, 4))
    grid = pos_embed[:, extra:].mT.reshape(1, 8, 3, 4)
    expected = F.interpolate(grid, size=size, mode='bicubic', align_corners=False)
    torch.testing.assert_close(ours[:, extra:], expected.flatten(2).mT)
    assert torch.equal(ours[:, :extra], pos_embed[:, :extra])


def test_the_same_size_is_the_same_tensor():
    pos_embed = embedding(1, 17, 8)
    assert resize_position_embedding(pos_embed, (4, 4), 1) is pos_embed
    assert PositionEmbeddingResizer(1)(pos_embed, (4, 4)) is pos_embed


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_low_precision_is_rounded_once(dtype):
    pos_embed = embedding(1, 10, 8).to(dtype)
    ours = resize_position_embedding(pos_embed, (5, 7), 1)
    expected = resize_position_embedding(pos_embed.float(), (5, 7), 1).to(dtype)
    assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    ('shape', 'extra', 'source_size'), [((1, 18, 8), 1, None), ((1, 12, 8), 0, (4, 4))]
)
def test_what_is_no_grid_says_so(shape, extra, source_size):
    with pytest.raises(ValueError, match=r'has 1\d places, .* give its grid \(H, W\)'):
        resize_position_embedding(torch.zeros(shape), (3, 3), extra, source_size)


@torch.no_grad()
def test_it_is_remembered_until_the_embedding_changes():
    resize = PositionEmbeddingResizer(1)
    pos_embed = torch.nn.Parameter(embedding(1, 17, 8))
    first = resize(pos_embed, (5, 6))
    assert resize(pos_embed, (5, 6)) is first

    pos_embed.add_(1.0)
    torch.testing.assert_close(resize(pos_embed, (5, 6)), first + 1.0)
    other = torch.nn.Parameter(embedding(1, 17, 8, seed=1))
    assert torch.equal(resize(other, (5, 6)), resize_position_embedding(other, (5, 6), 1))

    pos_embed.data.zero_()  # unseen by PyTorch's version counter
    resize.eval()
    assert not resize(pos_embed, (5, 6)).any()


@torch.no_grad()
def test_few_sizes_are_remembered():
    resize = PositionEmbeddingResizer()
    pos_embed = embedding(1, 4, 8)
    results = [resize(pos_embed, (3, width)) for width in range(3, 5 + MAX_CACHED)]
    assert len(resize._cached) == MAX_CACHED
    assert resize(pos_embed, (3, 4 + MAX_CACHED)) is results[-1]


def test_in_training_it_has_a_gradient_each_time():
    resize = PositionEmbeddingResizer(1)
    pos_embed = torch.nn.Parameter(embedding(1, 17, 8))
    with torch.no_grad():
        resize(pos_embed, (5, 6))
    for _ in range(2):
        pos_embed.grad = None
        resize(pos_embed, (5, 6)).sum().backward()
        assert pos_embed.grad.sum() == pytest.approx(8 * 31, rel=1e-4)


def test_a_result_remembered_in_inference_mode_serves_training():
    resize = PositionEmbeddingResizer()
    pos_embed = torch.nn.Parameter(embedding(1, 4, 8), requires_grad=False)
    with torch.inference_mode():
        resize(pos_embed, (3, 3))
    x = torch.ones(1, 9, 8, requires_grad=True)
    (x * resize(pos_embed, (3, 3))).sum().backward()
    assert x.grad is not None


def test_a_copy_remembers_nothing_of_the_original():
    resize = PositionEmbeddingResizer()
    with torch.no_grad():
        resize(embedding(1, 4, 8), (3, 3))
    assert not copy.deepcopy(resize)._cached
    assert not resize.state_dict()
