"""What every backbone promises its neighbours, tested on all families alike."""

import copy
import io
import json
import math
import pickle
from itertools import combinations
from pathlib import Path

import pytest
import torch
from families import NO_EFFECT, PATCH_SIZES, PUBLISHED, SMALL
from mmcv.ops import RoIAlign
from mmengine.model import BaseModule
from torch._dynamo.testing import CompileCounter

from mmvitx.engine import parity
from mmvitx.registry import MODELS

STRIDES = (4, 8, 16, 32)
OUT_TYPES = ('featmap', 'cls_token', 'raw')
PARITY = Path(__file__).parents[2] / 'data/parity'


def build(name, **settings):
    torch.manual_seed(0)
    return MODELS.build({**copy.deepcopy(SMALL[name]), **settings})


def images(height, width, batch=1, seed=0):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def levels():
    return [c for n in range(1, 5) for c in combinations(range(4), n)]


def assert_same(ours, theirs, tolerance=1e-4):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.std()


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


# Shapes ------------------------------------------------------------------------------------------


def test_is_a_base_module_of_the_child_registry(name):
    model = build(name)
    assert isinstance(model, BaseModule)
    assert MODELS.scope == 'mmvitx'


@pytest.mark.parametrize('out_indices', levels())
def test_widths_and_strides_are_as_declared(name, out_indices):
    model = build(name, out_indices=out_indices)
    maps = model(images(64, 96, batch=2))
    assert model.strides == tuple(STRIDES[i] for i in out_indices)
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(model.out_channels, model.strides)
    ]


def test_fewer_levels_are_the_same_levels(name):
    full = build(name).eval()
    for out_indices in levels():
        part = build(name, out_indices=out_indices).eval()
        assert not part.load_state_dict(full.state_dict(), strict=False).missing_keys
        expected = full(images(64, 96))
        assert_same(part(images(64, 96)), [expected[i] for i in out_indices])


def test_class_token_shape(name):
    model = build(name, out_type='cls_token')
    (token,) = model(images(64, 96, batch=2))
    assert token.shape == (2, *model.out_channels)
    assert model.strides == ()


@pytest.mark.parametrize(
    'size', [(32, 32), (33, 47), (63, 65), (97, 32), (127, 130), (259, 201), (35, 1000), (1, 1)]
)
def test_any_size_gives_ceil_sizes(name, size):
    maps = build(name).eval()(images(*size))
    assert [tuple(m.shape[2:]) for m in maps] == [
        tuple(math.ceil(side / stride) for side in size) for stride in STRIDES
    ]
    assert all(m.isfinite().all() for m in maps)


def test_maps_are_contiguous_and_roi_align_reads_them_right(name):
    model = build(name).eval()
    rois = torch.tensor([[0, 3.0, 5.0, 60.0, 41.0], [1, 20.0, 2.0, 90.0, 60.0]])
    for feature, stride in zip(model(images(64, 96, batch=2)), model.strides):
        assert feature.is_contiguous()
        align = RoIAlign(7, spatial_scale=1 / stride, sampling_ratio=2)
        copied = torch.empty(feature.shape).copy_(feature)  # in NCHW whatever the feature is in
        assert torch.equal(align(feature, rois), align(copied, rois))


# What the numbers depend on ----------------------------------------------------------------------


@pytest.mark.parametrize('size', [(128, 192), (147, 205)])
@pytest.mark.parametrize('where', [(0.2, 0.3), (0.5, 0.6), (0.93, 0.95)])
def test_an_impulse_moves_each_level_where_it_is(name, size, where):
    model = build(name).double().eval()
    y, x = (int(side * part) for side, part in zip(size, where))
    image = images(*size).double()
    moved = image.clone()
    moved[0, :, y, x] += 5.0
    for before, after, stride in zip(model(image), model(moved), model.strides):
        change = (after - before).pow(2).sum(1)[0]
        row, column = divmod(change.argmax().item(), change.shape[1])
        step = max(stride, PATCH_SIZES.get(name, 4))
        assert abs(row * stride // step - y // step) <= 1
        assert abs(column * stride // step - x // step) <= 1


@pytest.mark.parametrize('out_type', OUT_TYPES)
def test_a_batch_gives_what_its_images_give(name, out_type):
    model = build(name, out_type=out_type).eval()
    batch = images(45, 70, batch=3)
    together = model(batch)
    alone = [model(image[None]) for image in batch]
    assert_same(together, [torch.cat(tensors) for tensors in zip(*alone)])


@pytest.mark.parametrize('name', ['coat', 'coat_lite'])  # the others have no map but by a pyramid
def test_maps_are_the_raw_tokens(name):
    raw = build(name, out_type='raw').eval()(images(64, 96))
    maps = build(name).eval()(images(64, 96))
    for tokens, feature in zip(raw, maps, strict=True):
        assert_same([tokens[:, 1:].mT.reshape(feature.shape)], [feature])


# Training ----------------------------------------------------------------------------------------


def loss_of(outputs):
    return sum((out.float() ** 2).mean() for out in outputs)


@pytest.mark.parametrize('out_type', OUT_TYPES)
def test_every_parameter_has_a_gradient(name, out_type):
    choices = levels() if out_type == 'featmap' else [(0, 1, 2, 3)]
    for out_indices in choices:
        model = build(name, out_type=out_type, out_indices=out_indices, drop_path_rate=0.1)
        loss_of(model(images(64, 96, batch=2))).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == [], out_indices


def test_most_gradients_are_not_zero(name):
    model = build(name)
    loss_of(model(images(64, 96, batch=2))).backward()
    zero = [n for n, p in model.named_parameters() if not p.grad.abs().sum() > 0]
    assert zero == [n for n, _ in model.named_parameters() if n.endswith(NO_EFFECT)]


@pytest.mark.parametrize('out_type', ['featmap', 'cls_token'])
def test_checkpointing_changes_nothing(name, out_type):
    gradients = []
    for with_cp in (False, True):
        model = build(name, out_type=out_type, with_cp=with_cp, drop_path_rate=0.3).train()
        image = images(64, 96, batch=4).requires_grad_()
        torch.manual_seed(1)
        outputs = model(image)
        loss_of(outputs).backward()
        gradients.append([*outputs, image.grad, *(p.grad for p in model.parameters())])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_checkpointing_stores_less(name):
    stored = []
    for with_cp in (False, True):
        model = build(name, with_cp=with_cp)
        kept = {}
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.setdefault(t.data_ptr(), t) if t.numel() else t, lambda t: t
        )
        with hooks:
            model(images(128, 128))
        stored.append(sum(t.numel() for t in kept.values()))
    assert stored[1] < 0.7 * stored[0]


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 2])
def test_frozen_stages_stay_untouched_by_a_step(name, frozen_stages):
    model = build(name, frozen_stages=frozen_stages).train()
    frozen = {
        id(p)
        for stage in range(frozen_stages + 1)
        for part in model.stage_parts(stage)
        for p in ([part] if isinstance(part, torch.nn.Parameter) else part.parameters())
    }
    assert bool(frozen) == (frozen_stages >= 0)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    loss_of(model(images(64, 96, batch=4))).backward()
    optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    expected = {n for n, p in model.named_parameters() if id(p) not in frozen}
    assert changed == {n for n in expected if not n.endswith(NO_EFFECT)}  # zeros, and stay zeros
    for stage in range(frozen_stages + 1):
        for part in model.stage_parts(stage):
            assert not getattr(part, 'training', False)


def test_more_frozen_stages_freeze_more(name):
    counts = []
    for frozen_stages in range(-1, 3):
        model = build(name, frozen_stages=frozen_stages)
        counts.append(sum(p.requires_grad for p in model.parameters()))
    assert counts == sorted(set(counts), reverse=True)


@pytest.mark.parametrize('out_type', OUT_TYPES)
def test_layer_depth_grows_with_depth(name, out_type):
    model = build(name, out_type=out_type)
    depths = {}
    for param_name, _ in model.named_parameters():
        depth, num_layers = model.get_layer_depth(f'backbone.{param_name}', 'backbone.')
        assert model.get_layer_depth(param_name) == (depth, num_layers)
        assert 0 <= depth < num_layers
        depths[param_name] = depth
    assert set(depths.values()) | {num_layers - 1} == set(range(num_layers))
    assert model.get_layer_depth('neck.lateral_convs.0.conv.weight', 'backbone.') == (
        num_layers - 1,
        num_layers,
    )


def test_a_model_can_be_pickled_and_copied(name):
    model = build(name).eval()
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert_same(copied(images(64, 96)), model(images(64, 96)))
        copied.load_state_dict(model.state_dict())


def test_a_model_can_be_traced_with_gradients_on(name):
    model = build(name).eval()
    traced = torch.jit.trace(model, images(64, 96), check_trace=False)
    torch.jit.save(traced, io.BytesIO())
    assert_same(traced(images(64, 96)), model(images(64, 96)))


# Sides that 32 divides and does not, upright and lying. One batch: a batch of 1 compiles by itself.
SIZES = [(64, 96), (97, 130), (128, 128), (75, 259), (200, 111), (160, 352), (333, 80)]


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('name', [name for name in SMALL if name != 'cait_windowed'])
@pytest.mark.filterwarnings('ignore')
def test_seven_sizes_take_two_compilations(name, train):
    """The windows' kinds depend on what divides, so windowed attention is left out."""
    torch.compiler.reset()
    counter = CompileCounter()
    model = build(name).train(train)
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for size in SIZES:
        with torch.set_grad_enabled(train):
            outputs = compiled(images(*size, batch=2))
        assert_same(outputs, model(images(*size, batch=2)))
        if train:
            loss_of(outputs).backward()
    assert counter.frame_count <= 2


# Low precision -----------------------------------------------------------------------------------


def rms_error(outputs, references):
    """The rms of the error over the std, at the worst of the outputs."""
    return max(
        ((out.double() - ref).pow(2).mean().sqrt() / ref.std()).item()
        for out, ref in zip(outputs, references, strict=True)
    )


@pytest.mark.parametrize('published', PUBLISHED)
@torch.no_grad()
def test_low_precision(published):
    record = json.loads((PARITY / f'{published}.json').read_text())
    family = published.split('_')[0]
    weights = parity.seeded_checkpoint(record)
    model = parity.build(record, family, PUBLISHED[published], weights)
    image = torch.from_numpy(parity.random_normal('image', (1, 3, 384, 384)))
    reference = copy.deepcopy(model).double()(image.double())

    errors = {}
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast('cpu', dtype):
            errors[dtype] = rms_error(model(image), reference)
    rounded = copy.deepcopy(model).bfloat16().float()
    of_rounded_weights = rms_error(rounded(image), reference)

    assert errors[torch.float16] < 0.01
    assert errors[torch.bfloat16] < 1.5 * of_rounded_weights


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('out_type', OUT_TYPES)
def test_a_model_of_another_dtype_puts_out_that_dtype(name, out_type, dtype):
    model = build(name, out_type=out_type).to(dtype)
    outputs = model(images(64, 96).to(dtype))
    assert all(out.dtype == dtype and out.isfinite().all() for out in outputs)


# Bad settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(arch='huge'), r"arch must be one of .*, not 'huge'"),
        (dict(arch=None), r'arch must be one of .* or a dict, not None'),
        (dict(arch=dict(embed_dims=(8, 8, 8, 8))), r'arch as a dict needs the keys .*missing'),
        (dict(out_type='features'), r"out_type must be one of featmap, .*, not 'features'"),
        (dict(out_indices=(0, 4)), r'out_indices must name pyramid levels .*, not \(0, 4\)'),
        (dict(out_indices=(2, 1)), r'ascending order'),
        (dict(out_indices=()), r'out_indices must name'),
        (dict(out_indices=3), r'out_indices must name'),
        (dict(frozen_stages=99), r'frozen_stages must be -1 .* up to \d+, not 99'),
        (dict(drop_path_rate=1.0), r'drop_path_rate must be in \[0, 1\), not 1.0'),
    ],
)
def test_a_wrong_setting_says_what_is_right(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, **settings)


@pytest.mark.parametrize('shape', [(1, 4, 64, 64), (3, 64, 64), (1, 3, 0, 64)])
def test_a_wrong_input_says_what_is_right(name, shape):
    with pytest.raises(ValueError, match=r'images must be \(B, 3, H, W\), not'):
        build(name)(torch.zeros(shape))
