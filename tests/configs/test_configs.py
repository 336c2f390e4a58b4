"""Every config of a detector or segmentor loads, builds, trains one step and predicts."""

import re
from pathlib import Path

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmvitx.checkpoints.published import PUBLISHED

CONFIGS = Path(__file__).parents[2] / 'configs'
DETECTORS = ('mask_rcnn_', 'cascade_mask_rcnn_', 'faster_rcnn_', 'retinanet_')
SEGMENTORS = ('upernet_', 'semantic_fpn_')
FILES = sorted(
    p
    for p in CONFIGS.rglob('*.py')
    if p.name.startswith(DETECTORS + SEGMENTORS) and '_base_' not in p.parts
)


pytestmark = pytest.mark.usefixtures('offline')  # nothing here needs the weights


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def cfg(request):
    cfg = Config.fromfile(request.param)
    init_default_scope(cfg.default_scope)
    yield cfg
    DefaultScope._instance_dict.clear()


def test_the_flagship_is_where_users_look_for_it():
    assert CONFIGS / 'mask_rcnn_coat_small_1x_coco.py' in FILES


def make_cheap(cfg):
    """Make a detector cheap: its sizes stay, it looks at fewer boxes."""
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (96, 128)
        return
    if 'roi_head' not in cfg.model:
        return
    cfg.model.train_cfg.rpn_proposal.max_per_img = 20
    cfg.model.test_cfg.rpn.max_per_img = 20
    cfg.model.test_cfg.rcnn.max_per_img = 5
    stages = cfg.model.train_cfg.rcnn
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = 8


def make_batch(cfg, height, width):
    """Make a batch of two images as the host's pipeline does."""
    if cfg.default_scope == 'mmdet':
        classes = cfg.train_dataloader.dataset.get('metainfo', {}).get('classes', range(80))
        shapes = [[3, height, width]] * 2
        return demo_mm_inputs(2, shapes, num_classes=len(classes), with_mask=True)
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(2):
        num_classes = cfg.model.decode_head.num_classes
        labels = torch.randint(num_classes, (1, height, width), generator=generator)
        meta = dict(img_shape=(height, width), ori_shape=(2 * height, 2 * width))
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=meta))
    images = torch.randint(256, (2, 3, height, width), generator=generator)
    return dict(inputs=list(images), data_samples=samples)


@pytest.mark.parametrize('cfg', [p for p in FILES if '_3x_' not in p.name], indirect=True)
def test_a_model_trains_and_predicts(cfg):
    torch.manual_seed(0)
    make_cheap(cfg)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    height, width = (96, 128) if cfg.default_scope == 'mmdet' else (75, 101)
    if 'class_weight' in str(cfg.model):  # with which mmseg fails on the labels of a padding
        height, width = 96, 128
    data = model.data_preprocessor(make_batch(cfg, height, width), training=True)
    assert data['inputs'].shape[2:] == (96, 128)

    loss, log_vars = model.parse_losses(model.train()(**data, mode='loss'))
    losses = {'decode.loss_ce'}
    if cfg.default_scope == 'mmdet':
        name = 'loss_rpn_{}' if 'rpn_head' in cfg.model else 'loss_{}'
        losses = {name.format('cls'), name.format('bbox')}
    assert losses <= set(log_vars)
    assert ('aux.loss_ce' in log_vars) == ('auxiliary_head' in cfg.model)
    assert loss.isfinite()
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []

    with torch.no_grad():
        if cfg.default_scope == 'mmseg':  # padded to a multiple of 32, and the padding cut off
            data = model.data_preprocessor(make_batch(cfg, height, width))
            assert data['inputs'].shape[2:] == (96, 128)
        predictions = model.eval()(**data, mode='predict')
    if cfg.default_scope == 'mmdet':
        has_masks = 'mask_head' in cfg.model.get('roi_head', {})
        assert all(('masks' in p.pred_instances) == has_masks for p in predictions)
        assert ('segm' in cfg.val_evaluator.metric) == has_masks
    else:
        assert all(p.pred_sem_seg.shape == (2 * height, 2 * width) for p in predictions)


@pytest.mark.parametrize(
    'cfg', [CONFIGS / 'demo/semantic_fpn_coat_lite_tiny_digits.py'], indirect=True
)
def test_whole_images_and_windows(cfg):
    """One window that is the whole image gives what the whole image gives; several others."""
    logits = []
    for mode, crop, stride in (('whole', 96, 64), ('slide', 96, 64), ('slide', 64, 43)):
        cfg.model.test_cfg = dict(mode=mode, crop_size=(crop, crop), stride=(stride, stride))
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).eval()
        with torch.no_grad():
            data = model.data_preprocessor(make_batch(cfg, 90, 70))
            logits.append(model(**data, mode='predict')[0].seg_logits.data)
    assert torch.allclose(logits[0], logits[1], atol=1e-5)
    assert logits[2].shape == logits[0].shape and not torch.allclose(logits[0], logits[2])


@pytest.mark.parametrize(
    'path', [p for p in FILES if p.name.startswith(SEGMENTORS)], ids=lambda path: path.stem
)
def test_the_heads_take_the_levels_of_their_backbone(path):
    """Their widths, and the auxiliary head the level of stride 16."""
    cfg = Config.fromfile(path)
    init_default_scope('mmseg')
    backbone = MODELS.build(cfg.model.backbone)
    widths = (cfg.model.get('neck') or cfg.model.decode_head).in_channels
    assert tuple(widths) == backbone.out_channels
    auxiliary = cfg.model.get('auxiliary_head')
    if auxiliary:
        level = backbone.strides.index(16)
        assert (auxiliary.in_index, auxiliary.in_channels) == (level, widths[level])
    DefaultScope._instance_dict.clear()


def without_scopes(node):
    """Leave out what mmengine notes of inherited settings."""
    if isinstance(node, dict):
        return {k: without_scopes(v) for k, v in node.items() if k != '_scope_'}
    return [without_scopes(v) for v in node] if isinstance(node, list) else node


@pytest.mark.parametrize(('head', 'k'), [('upernet', 160), ('semantic_fpn', 80)])
def test_the_segmentation_recipe_is_swins(head, k):
    ours = Config.fromfile(CONFIGS / f'{head}_coat_small_{k}k_ade20k.py')
    name = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
    swin = Config.fromstring(f'_base_ = {name!r}', '.py')
    swin.param_scheduler[1].end = swin.train_cfg.max_iters = 1000 * k
    swin.train_cfg.val_interval = 100 * k
    for key in ('train_cfg', 'param_scheduler', 'train_dataloader', 'val_dataloader'):
        assert without_scopes(ours[key]) == without_scopes(swin[key]), key
    assert ours.optim_wrapper.optimizer == swin.optim_wrapper.optimizer
    assert ours.model.data_preprocessor.size == swin.model.data_preprocessor.size
    assert ours.auto_scale_lr.base_batch_size == 8 * ours.train_dataloader.batch_size


def test_the_optimizer_builds_and_has_every_parameter_once(cfg):
    model = torch.nn.Module()
    model.backbone = MODELS.build(cfg.model.backbone)
    cfg.optim_wrapper.type = 'OptimWrapper'  # another one needs an accelerator
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    params = [id(p) for group in wrapper.optimizer.param_groups for p in group['params']]
    assert sorted(params) == sorted(map(id, model.parameters()))


def test_weights_and_precision_are_in_the_config(cfg):
    """The demonstrations alone start from random weights."""
    with torch.device('meta'):  # as quick as it gets
        backbone = MODELS.build(cfg.model.backbone)
    precision = cfg.optim_wrapper.type
    if 'demo' in Path(cfg.filename).parts:
        assert (backbone.init_cfg, precision) == (None, 'OptimWrapper')
        return
    assert backbone.init_cfg.keys() == {'type', 'checkpoint'}
    entry = PUBLISHED[backbone.init_cfg['checkpoint'].removeprefix('mmvitx://')]
    assert entry.arch == backbone.arch_name and entry.size in (224, 240)
    detects = Path(cfg.filename).name.startswith(DETECTORS)
    assert precision == ('AmpOptimWrapper' if detects else 'OptimWrapper')


def test_the_pipelines_build(cfg):
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        Compose(loader.dataset.pipeline)
    if 'tta_pipeline' in cfg:
        Compose(cfg.tta_pipeline)


@pytest.mark.parametrize('schedule', ['1x', '3x'])
def test_the_detection_recipe_is_the_authors(schedule):
    cfg = Config.fromfile(CONFIGS / f'mask_rcnn_coat_small_{schedule}_coco.py')
    epochs, steps = {'1x': (12, [8, 11]), '3x': (36, [27, 33])}[schedule]
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == epochs
    assert cfg.param_scheduler[1].milestones == steps
    assert cfg.param_scheduler[0].end == 500
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    assert cfg.model.backbone.drop_path_rate == 0.2
    assert cfg.auto_scale_lr.base_batch_size == 16


@pytest.mark.parametrize('path', [p for p in FILES if '_3x_' in p.name], ids=lambda p: p.stem)
def test_3x_differs_from_1x_in_the_schedule_only(path):
    long = Config.fromfile(path)
    short = Config.fromfile(str(path).replace('_3x_', '_1x_'))
    differing = {key for key in long if long[key] != short[key]}
    assert differing == {'train_cfg', 'param_scheduler'}


def test_configs_keep_more_than_one_checkpoint():
    """Other programs than our tools delete the old one before the new one is whole."""
    texts = {path: path.read_text() for path in CONFIGS.rglob('*.py')}
    kept = {path: re.findall(r'max_keep_ckpts=(\d+)', text) for path, text in texts.items()}
    assert sum(map(len, kept.values())) >= 4
    assert [path for path, numbers in kept.items() if '1' in numbers] == []
