"""Every config of a detector loads, builds, trains one step and predicts."""

from pathlib import Path

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope, init_default_scope

CONFIGS = Path(__file__).parents[2] / 'configs'
FILES = sorted(p for p in CONFIGS.rglob('*mask_rcnn_*.py') if '_base_' not in p.parts)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def cfg(request):
    cfg = Config.fromfile(request.param)
    init_default_scope(cfg.default_scope)
    yield cfg
    DefaultScope._instance_dict.clear()


def test_the_flagship_is_where_users_look_for_it():
    assert CONFIGS / 'mask_rcnn_coat_small_1x_coco.py' in FILES


def few_boxes(cfg):
    """Make a detector cheap: its sizes stay, it looks at fewer boxes."""
    cfg.model.train_cfg.rpn_proposal.max_per_img = 20
    cfg.model.test_cfg.rpn.max_per_img = 20
    cfg.model.test_cfg.rcnn.max_per_img = 5
    stages = cfg.model.train_cfg.rcnn
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = 8


@pytest.mark.parametrize('cfg', [p for p in FILES if '_3x_' not in p.name], indirect=True)
def test_a_model_trains_and_predicts(cfg):
    torch.manual_seed(0)
    few_boxes(cfg)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    num_classes = len(cfg.train_dataloader.dataset.get('metainfo', {}).get('classes', range(80)))
    data = demo_mm_inputs(2, [[3, 96, 128]] * 2, num_classes=num_classes, with_mask=True)
    data = model.data_preprocessor(data, training=True)

    loss, log_vars = model.parse_losses(model.train()(**data, mode='loss'))
    assert {'loss_rpn_cls', 'loss_rpn_bbox'} <= set(log_vars)
    assert loss.isfinite()
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []

    with torch.no_grad():
        predictions = model.eval()(**data, mode='predict')
    assert all('masks' in p.pred_instances for p in predictions)


def test_the_optimizer_builds_and_has_every_parameter_once(cfg):
    model = torch.nn.Module()
    model.backbone = MODELS.build(cfg.model.backbone)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    params = [id(p) for group in wrapper.optimizer.param_groups for p in group['params']]
    assert sorted(params) == sorted(map(id, model.parameters()))


def test_the_pipelines_build(cfg):
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        Compose(loader.dataset.pipeline)


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
