import math

import pytest
import torch

from mmvitx.models import CrossViT
from mmvitx.models.backbones.crossvit import FUSIONS
from mmvitx.models.layers import resize_position_embedding

# (arch, image size) -> parameters of the authors' classifier with a 1000-class head a branch, in
# millions, as their code counts them
PARAMS = {
    ('tiny', 240): 7.01,
    ('small', 240): 26.86,
    ('base', 240): 105.03,
    ('9', 240): 8.55,
    ('15', 240): 27.53,
    ('18', 240): 43.27,
    ('9_dagger', 240): 8.78,
    ('15_dagger', 240): 28.21,
    ('18_dagger', 240): 44.27,
    ('15_dagger', 408): 28.50,
    ('18_dagger', 408): 44.61,
}
TWO = dict(embed_dims=(8, 16), depths=(1, 2, 0), num_heads=(2, 2), mlp_ratios=(2, 2), num_blocks=2)
THREE = dict(
    embed_dims=(8, 16, 12),
    depths=(2, 1, 1, 0),
    num_heads=(2, 2, 3),
    mlp_ratios=(2, 2, 2),
    num_blocks=2,
    patch_sizes=(8, 16, 24),
)
ARCHS = {2: TWO, 3: THREE}


def build(arch=TWO, **settings):
    torch.manual_seed(0)
    return CrossViT(arch, **{'img_size': 96, **settings})


def images(height, width, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def loss_of(outputs):
    return sum(out.square().mean() for out in outputs)


# Architectures and views -------------------------------------------------------------------------


@pytest.mark.parametrize(('arch', 'img_size'), PARAMS)
def test_parameters_are_those_of_the_authors(arch, img_size):
    model = CrossViT(arch, img_size=img_size, out_type='cls_token')
    heads = 1000 * (model.out_channels[0] + 2)
    count = sum(p.numel() for p in model.parameters()) + heads
    assert count / 1e6 == pytest.approx(PARAMS[arch, img_size], abs=0.006)


@pytest.mark.parametrize(
    ('img_size', 'grids'), [(240, ((20, 20), (14, 14))), (408, ((34, 34), (24, 24)))]
)
def test_views_and_position_embeddings_of_published_sizes(img_size, grids):
    model = CrossViT('tiny', img_size=img_size, out_type='raw')
    assert model.position_embeddings() == {
        'pos_embed.0': (1, grids[0]),
        'pos_embed.1': (1, grids[1]),
    }
    tokens = model(images(img_size, img_size, batch=1))
    assert [t.shape[1] for t in tokens] == [1 + math.prod(grid) for grid in grids]


@pytest.mark.parametrize('size', [(96, 96), (97, 50), (240, 95), (1, 300)])
def test_a_grid_has_the_ceil_size_of_its_stride(size):
    model = build(out_type='raw')
    assert model.strides == pytest.approx((12, 16 * 240 / 224))
    for tokens, stride in zip(model(images(*size)), model.strides):
        assert tokens.shape[1] == 1 + math.prod(math.ceil(n / stride - 1e-6) for n in size)


def test_strides_of_8_and_16_need_no_resampling():
    settings = dict(view_scales=(1.5, 1.0), out_indices=(1, 2))
    model, raw = build(**settings).eval(), build(**settings, out_type='raw').eval()
    raw.load_state_dict(
        {**raw.state_dict(), **{k: v for k, v in model.state_dict().items() if k[:4] != 'norm'}}
    )
    assert model.level_branches == ((0, 8), (1, 16))
    for b, (feature, tokens) in enumerate(zip(model(images(70, 100)), raw(images(70, 100)))):
        expected = model.norm[str(b)](tokens[:, 1:])
        torch.testing.assert_close(feature.flatten(2).mT, expected)


def test_the_dagger_pads_what_its_patches_do_not_divide():
    model = build(dict(TWO, conv_embed=True), view_scales=(1, 1), out_type='raw').eval()
    padded = torch.zeros(2, 3, 48, 48)
    padded[:, :, :37, :41] = images(37, 41)
    for ours, expected in zip(model(images(37, 41))[1:], model(padded)[1:]):
        torch.testing.assert_close(ours, expected)


def test_weights_of_another_resolution_are_resized():
    weights = build(img_size=240, out_type='cls_token').state_dict()
    model = build(img_size=408, out_type='cls_token')
    model.load_state_dict(weights)
    resized = resize_position_embedding(weights['pos_embed.1'], (24, 24), num_extra_tokens=1)
    assert torch.equal(model.pos_embed['1'], resized)


# Outputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('branches', ARCHS)
def test_the_class_token_is_the_raw_ones_normed_and_concatenated(branches):
    model, raw = (build(ARCHS[branches], out_type=t).eval() for t in ('cls_token', 'raw'))
    raw.load_state_dict(model.state_dict(), strict=False)
    tokens = [norm(t[:, 0]) for norm, t in zip(model.norm.values(), raw(images(70, 100)))]
    torch.testing.assert_close(model(images(70, 100))[0], torch.cat(tokens, 1))


def test_the_nearest_branch_serves_a_level():
    assert build().level_branches == ((0, 8), (0, 8), (1, 16), (1, 16))
    model = build(THREE, view_scales=(2.0, 1.0, 0.75))  # strides 4, 16, 32
    assert model.level_branches == ((0, 8), (0, 8), (1, 16), (2, 16))
    assert model.out_channels == (8, 8, 16, 12)


@pytest.mark.parametrize('arch', ['9', '9_dagger'])
def test_published_weights_hold_all_but_the_pyramid(arch):
    published = CrossViT(arch, out_type='cls_token').state_dict()
    model = CrossViT(arch)
    missing = model.load_state_dict(published, strict=False).missing_keys
    assert missing
    assert all(name.startswith('pyramid.') for name in missing)


def test_what_a_level_does_not_use_is_not_built():
    names = set(build(out_indices=(2,)).state_dict())
    assert not any(name.startswith(('norm.0', 'pyramid')) for name in names)
    last = {name.split('.')[2:4] == ['blocks', '0'] for name in names if name[:9] == 'blocks.1.'}
    assert last == {False}  # the fine branch ends where the coarse one last reads it
    fused = {name.split('.')[3] for name in names if name.startswith('blocks.0.fusion.')}
    assert fused == {'1'}  # the class token that attended to the fine branch's patches

    alone = build(dict(TWO, num_blocks=1), out_indices=(0,))
    assert set(alone.patch_embed) == {'0'}
    assert [m.shape[1:] for m in alone(images(64, 96))] == [(8, 16, 24)]


# Fusion ------------------------------------------------------------------------------------------


@pytest.mark.parametrize('branches', ARCHS)
@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('out_type', ['featmap', 'cls_token', 'raw'])
def test_each_fusion_gives_every_parameter_a_gradient(fusion, branches, out_type):
    levels = [(0, 1, 2, 3), (0,), (2,), (3,)] if out_type == 'featmap' else [(0,)]
    for out_indices in levels:
        model = build(
            ARCHS[branches], fusion=fusion, out_type=out_type, out_indices=out_indices, img_size=48
        )
        loss_of(model(images(40, 60))).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == [], out_indices


@pytest.mark.parametrize('branches', ARCHS)
@pytest.mark.parametrize('fusion', FUSIONS)
def test_each_fusion_trains(fusion, branches):
    model = build(ARCHS[branches], fusion=fusion, out_type='cls_token', img_size=48)
    head = torch.nn.Linear(*model.out_channels, 4)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=5e-3)
    losses = []
    for _ in range(25):
        logits = head(model(images(40, 60, batch=4))[0])
        losses.append(torch.nn.functional.cross_entropy(logits, torch.arange(4)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]


def encoded_for(model, sizes):
    """What the encoders of a block could put out: random tokens that can have gradients."""
    generator = torch.Generator().manual_seed(1)
    dims = [p.shape[-1] for p in model.cls_token.values()]
    return {
        b: torch.randn(1, 1 + math.prod(size), dim, generator=generator, requires_grad=True)
        for (b, size), dim in zip(sizes.items(), dims)
    }


def places_read(output, encoded):
    """Of each branch, which of its tokens an output depends on."""
    grads = torch.autograd.grad(output.sum(), list(encoded.values()), allow_unused=True)
    return {
        b: [] if g is None else g[0].any(1).nonzero().flatten().tolist()
        for b, g in zip(encoded, grads)
    }


SIZES = {0: (6, 6), 1: (3, 3), 2: (2, 2)}


def test_class_tokens_go_round_in_a_ring():
    model = build(THREE, out_type='raw')
    encoded = encoded_for(model, SIZES)
    fused = model.blocks[0].fuse(encoded, SIZES)
    for b in range(3):
        read = places_read(fused[b].cls_token.square(), encoded)
        other, none = (b + 1) % 3, (b + 2) % 3
        patches = list(range(1, encoded[other].shape[1]))
        assert read == {b: [0], other: patches, none: []}
        assert torch.equal(fused[b].patches, encoded[b][:, 1:])


def test_a_second_cross_attention_sees_the_patches_too():
    model = build(dict(TWO, depths=(1, 2, 2)), out_type='raw')
    first, second = model.blocks[0].fusion['0']
    cls_token, tokens = torch.randn(1, 1, 16), torch.randn(1, 10, 16)
    expected = second(first(cls_token, tokens), tokens)
    torch.testing.assert_close(model.blocks[0].fusion['0'](cls_token, tokens), expected)
    assert 'blocks.0.fusion.0.1.attn.q.weight' in model.state_dict()


def test_class_token_fusion_leaves_patches_alone():
    model = build(THREE, fusion='class-token', out_type='raw')
    encoded = encoded_for(model, SIZES)
    fused = model.blocks[0].fuse(encoded, SIZES)
    for b in range(3):
        assert places_read(fused[b].cls_token.square(), encoded) == {0: [0], 1: [0], 2: [0]}
        assert torch.equal(fused[b].patches, encoded[b][:, 1:])


def test_pairwise_fusion_adds_patches_of_the_same_place():
    model = build(THREE, fusion='pairwise', out_type='raw')
    encoded = encoded_for(model, SIZES)
    fused = model.blocks[0].fuse(encoded, SIZES)  # strides 8, 16, 24; 48 pixels
    for b in range(3):
        assert places_read(fused[b].cls_token.square(), encoded) == {0: [0], 1: [0], 2: [0]}
    corner = places_read(fused[0].patches[:, -1].square(), encoded)
    assert corner == {0: [36], 1: [9], 2: [4]}
    assert 1 not in places_read(fused[1].patches[:, -1].square(), encoded)[0]


def test_all_attention_reads_everything():
    model = build(THREE, fusion='all-attention', out_type='raw')
    encoded = encoded_for(model, SIZES)
    fused = model.blocks[0].fuse(encoded, SIZES)
    read = places_read(fused[2].patches[:, 0].square(), encoded)
    assert read == {b: list(range(x.shape[1])) for b, x in encoded.items()}


# Settings ----------------------------------------------------------------------------------------


def test_stochastic_depth_rises_as_in_the_authors_code():
    model = CrossViT('18', drop_path_rate=0.34, out_type='cls_token')
    for k, block in enumerate(model.blocks):
        rates = pytest.approx([0.02 * n for n in range(6 * k, 6 * k + 6)])
        assert [layer.drop_path.rate for layer in block.blocks['1']] == rates
        assert block.blocks['0'][0].drop_path.rate == pytest.approx(0.02 * 6 * k)
        for fusion in block.fusion.values():
            assert fusion.drop_path.rate == pytest.approx(0.02 * (6 * k + 5))


def test_layers_are_positions_in_the_blocks():
    model = CrossViT('small')
    depths = {
        'pos_embed.1': 0,
        'cls_token.0': 0,
        'patch_embed.0.proj.weight': 0,
        'blocks.0.blocks.0.0.norm1.weight': 1,
        'blocks.0.blocks.1.3.norm1.weight': 4,
        'blocks.0.fusion.1.attn.q.weight': 4,
        'blocks.2.blocks.1.0.mlp.fc1.weight': 9,
        'norm.1.weight': 13,
        'pyramid.ups.4.proj.weight': 13,
    }
    names = dict(model.named_parameters())
    for name, depth in depths.items():
        assert name in names
        assert model.get_layer_depth(name) == (depth, 14)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(fusion='sum'), r"fusion must be one of cross-attention, .*, not 'sum'"),
        (dict(view_scales=(1, 1, 1)), r'view_scales need one number a branch each'),
        (dict(view_scales=(1, 0)), r'view_scales, patch_sizes and img_size must be positive'),
        (dict(img_size=0), r'img_size must be positive'),
        (dict(arch=dict(TWO, num_heads=(2, 3))), r'num_heads=\(2, 3\) must divide the widths'),
        (dict(arch=dict(TWO, embed_dims=(8,))), r'for two branches or more'),
        (dict(arch=dict(TWO, depths=(1, 2))), r'need one number a branch each'),
        (dict(arch=dict(TWO, depths=(0, 2, 0))), r'encoder layers in depths must be at least 1'),
        (dict(arch=dict(TWO, num_blocks=0)), r'num_blocks and the encoder layers'),
        (
            dict(arch=dict(TWO, conv_embed=True, patch_sizes=(8, 16))),
            r'conv_embed is for patch_sizes out of 12, 16, not \(8, 16\)',
        ),
    ],
)
def test_numbers_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**{'arch': TWO, **settings})
