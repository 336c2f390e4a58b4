import pytest
import torch

from mmvitx.checkpoints import CheckpointError
from mmvitx.models import CaiT

# arch -> parameters of the published classifier with its 1000-class head, in millions, and what
# LayerScale starts from (arXiv 2103.17239, table 1 and section 2; xxs36 as in the authors' code)
PAPER = dict(
    xxs24=(12.0, 1e-5),
    xxs36=(17.3, 1e-5),
    xs24=(26.6, 1e-5),
    s24=(46.9, 1e-5),
    s36=(68.2, 1e-6),
    m36=(270.9, 1e-6),
    m48=(356, 1e-6),
)
TINY = dict(embed_dim=16, depth=6, num_heads=2)


def images(height=64, width=96, batch=1):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def part_of(model, name):
    return {n for n, _ in model.named_parameters() if n.split('.')[0] == name}


# The paper's numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize('arch', PAPER)
def test_parameters_are_those_of_the_paper(arch):
    with torch.device('meta'):
        model = CaiT(arch, out_type='cls_token')
    count = sum(p.numel() for p in model.parameters()) + 1000 * (model.out_channels[0] + 1)
    assert count / 1e6 == pytest.approx(PAPER[arch][0], rel=0.01)


@pytest.mark.parametrize('arch', ['xxs24', 'xxs36', 's36'])
def test_layer_scale_starts_as_in_the_authors_code(arch):
    model = CaiT(arch, out_type='cls_token')
    gammas = [p for n, p in model.named_parameters() if n.split('.')[-1].startswith('gamma')]
    assert len(gammas) == 2 * (len(model.blocks) + 2)
    assert all((gamma == PAPER[arch][1]).all() for gamma in gammas)


@pytest.mark.parametrize(('depth', 'init'), [(6, 0.1), (18, 0.1), (24, 1e-5), (25, 1e-6)])
def test_layer_scale_of_other_depths_follows_the_rule(depth, init):
    model = CaiT(dict(TINY, depth=depth))
    assert (model.blocks[-1].gamma_2 == init).all()


def test_stochastic_depth_is_the_same_in_self_attention_and_none_in_class_attention():
    model = CaiT(TINY, out_type='cls_token', drop_path_rate=0.3)
    assert {block.drop_path.rate for block in model.blocks} == {0.3}
    assert not any('drop' in name for name, _ in model.blocks_token_only.named_modules())


# What is built -----------------------------------------------------------------------------------


def test_class_attention_is_built_for_the_class_token_only():
    class_only = 'cls_token', 'blocks_token_only', 'norm'
    for out_type in ('featmap', 'raw'):
        assert not any(part_of(CaiT(TINY, out_type=out_type), part) for part in class_only)
    model = CaiT(TINY, out_type='cls_token')
    assert all(part_of(model, part) for part in class_only)
    assert not part_of(model, 'pyramid') and not part_of(model, 'tap_norms')


def test_default_taps_are_at_even_distances_up_to_the_last_block():
    assert CaiT(dict(TINY, depth=24)).taps == (6, 12, 18, 24)
    assert CaiT(TINY).taps == (2, 3, 5, 6)
    assert CaiT(TINY, out_indices=(1, 3)).taps == (3, 6)
    assert CaiT(dict(TINY, depth=1)).taps == (1, 1, 1, 1)


def test_blocks_behind_the_last_tap_are_not_built():
    assert len(CaiT(TINY, out_indices=(0, 1)).blocks) == 3
    assert len(CaiT(TINY, out_indices=(0, 1), taps=(1, 2)).blocks) == 2
    assert len(CaiT(TINY, out_type='raw', out_indices=(0, 1)).blocks) == 6


def test_a_level_of_the_patches_stride_is_the_normed_tap():
    torch.manual_seed(0)
    model = CaiT(TINY, taps=(6, 6, 4, 6)).eval()
    raw = CaiT(dict(TINY, depth=4), out_type='raw').eval()
    raw.load_state_dict(model.state_dict(), strict=False)
    (tokens,) = raw(images())
    expected = model.tap_norms['2'](tokens).mT.unflatten(2, (4, 6))
    torch.testing.assert_close(model(images())[2], expected)


def test_raw_tokens_are_of_the_patches():
    model = CaiT(TINY, out_type='raw')
    (tokens,) = model(images(60, 90, batch=2))
    assert tokens.shape == (2, 4 * 6, *model.out_channels)
    assert model.strides == (16,)


def test_depth_of_class_attention():
    model = CaiT(TINY, out_type='cls_token')
    names = 'pos_embed', 'blocks.5.gamma_1', 'cls_token', 'blocks_token_only.1.gamma_1', 'norm.bias'
    assert [model.get_layer_depth(name) for name in names] == [
        (depth, 10) for depth in (0, 6, 7, 8, 9)
    ]


# The position embedding --------------------------------------------------------------------------


def test_the_position_embedding_is_resized_to_the_image():
    torch.manual_seed(0)
    model = CaiT(TINY, img_size=64, out_type='raw').eval()
    grid = model.pos_embed.detach().mT.unflatten(2, (4, 4))
    for height, width in [(64, 64), (64, 96), (33, 250)]:
        size = -(-height // 16), -(-width // 16)
        same = CaiT(TINY, img_size=64, out_type='raw').eval()
        same.load_state_dict(model.state_dict())
        resized = torch.nn.functional.interpolate(grid, size, mode='bicubic', align_corners=False)
        embedding = resized.flatten(2).mT
        same.resize_pos_embed.forward = lambda *_, embedding=embedding: embedding
        torch.testing.assert_close(model(images(height, width)), same(images(height, width)))


def test_a_checkpoint_of_another_resolution_is_resized():
    torch.manual_seed(0)
    model = CaiT(TINY, img_size=64, out_type='raw').eval()
    larger = CaiT(TINY, img_size=96, out_type='raw').eval()
    larger.load_state_dict(model.state_dict())
    assert larger.pos_embed.shape == (1, 36, 16)
    torch.testing.assert_close(larger(images(96, 96)), model(images(96, 96)))


def test_weights_of_another_arch_are_named():
    with torch.device('meta'):
        weights = CaiT('xxs36', out_type='cls_token').state_dict()
    with pytest.raises(CheckpointError, match='weights of cait_xxs36, but the backbone is cait_x'):
        CaiT('xxs24').load_state_dict(weights)


# Windows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('num_global_blocks', 'expected'), [(0, ''), (1, '6'), (2, '36'), (4, '2356'), (9, '123456')]
)
def test_global_blocks_are_at_even_distances(num_global_blocks, expected):
    model = CaiT(TINY, window_size=4, num_global_blocks=num_global_blocks)
    found = [i for i, b in enumerate(model.blocks, start=1) if b.attn.window_size is None]
    assert found == list(map(int, expected))


def test_windows_that_cover_the_grid_change_nothing():
    torch.manual_seed(0)
    models = [CaiT(TINY, window_size=size, num_global_blocks=2).eval() for size in (None, 6, 3)]
    for model in models:
        model.load_state_dict(models[0].state_dict())
    plain, covering, smaller = (model(images()) for model in models)
    torch.testing.assert_close(covering, plain)
    assert not torch.allclose(smaller[3], plain[3])


# The compiler and export -------------------------------------------------------------------------


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('settings', [dict(), dict(window_size=3), dict(out_type='cls_token')])
@torch.no_grad()
def test_an_exported_a_traced_and_a_compiled_model_give_the_same(settings):
    model = CaiT(dict(TINY, depth=4), img_size=64, **{'num_global_blocks': 1, **settings}).eval()
    exported = torch.export.export(model, (images(),)).module()
    traced = torch.jit.trace(model, images())
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    assert not any('mmvitx' in str(node.target) for node in exported.graph.nodes)
    assert 'mmvitx::' not in str(traced.inlined_graph)
    for other in (exported, traced, compiled):
        torch.testing.assert_close(other(images()), model(images()))


# Wrong settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(arch=dict(TINY, num_heads=3)), r'num_heads=3 must divide embed_dim=16'),
        (dict(arch=dict(TINY, num_heads=0)), r'num_heads=0 must divide embed_dim=16'),
        (dict(arch=dict(TINY, depth=0)), r'depth and depth_token_only must be at least 1, not 0'),
        (dict(arch='xs36'), r"arch must be one of xxs24, .*, not 'xs36'"),
        (dict(img_size=100), r'img_size must be a multiple of the patch size 16, not 100'),
        (dict(img_size=0), r'img_size must be a multiple of the patch size 16, not 0'),
        (dict(taps=(1, 2, 3)), r'taps must say .* as 4 numbers out of 1..6, not \(1, 2, 3\)'),
        (dict(taps=(0, 1, 2, 3)), r'out of 1..6, not \(0, 1, 2, 3\)'),
        (dict(taps=(1, 2, 3, 7)), r'after how many of the 6 blocks'),
        (
            dict(window_size=0),
            r'window_size must be a number of tokens, at least 1, or None, not 0',
        ),
        (dict(num_global_blocks=-1), r'num_global_blocks must be at least 0, not -1'),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        CaiT(**{'arch': TINY, **settings})
