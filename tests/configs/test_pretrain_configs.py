"""Every config of a classifier builds, has its authors' recipe, and sees images as they do."""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper as build_any_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope, init_default_scope
from PIL import Image
from torchvision import transforms

from mmvitx.checkpoints.published import PUBLISHED

CONFIGS = Path(__file__).parents[2] / 'configs'
FILES = {path.name.partition('_8xb')[0]: path for path in CONFIGS.glob('pretrain/*.py')}
CLASSIFIERS = {name: entry for name, entry in PUBLISHED.items() if entry.size}
ONE_OF_EACH = ['coat_lite_tiny', 'crossvit_9', 'cait_xxs24_384', 'cait_xxs24']


@pytest.fixture(autouse=True)
def scope(offline):
    init_default_scope('mmpretrain')
    yield
    DefaultScope._instance_dict.clear()


@functools.cache
def _read(name):
    return Config.fromfile(FILES[name])


def read(name: str) -> Config:
    return copy.deepcopy(_read(name))


def build(cfg: Config):
    cfg.model.data_preprocessor = cfg.data_preprocessor
    return MODELS.build(cfg.model)


def build_optim_wrapper(model, settings):
    assert settings.type == 'AmpOptimWrapper'  # which needs an accelerator
    return build_any_optim_wrapper(model, {**settings, 'type': 'OptimWrapper'})


def test_there_is_one_of_every_published_model():
    assert len(CLASSIFIERS) == 29 and {*CLASSIFIERS} <= {*FILES}


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_a_config_says_what_is_published(name):
    cfg, entry = read(name), CLASSIFIERS[name]
    backbone = cfg.model.backbone
    assert f'{backbone.type.removeprefix("mmvitx.").lower()}_{backbone.arch}' == entry.arch
    _, resize, crop, _ = cfg.test_dataloader.dataset.pipeline
    assert crop.crop_size == cfg.train_dataloader.dataset.pipeline[1].scale == entry.size
    assert resize.scale == int(entry.size / (entry.crop if entry.crop == 1 else 224 / 256))
    assert resize.edge == 'short' and resize.interpolation == 'bicubic'
    comment = FILES[name].read_text().split('_base_')[0].replace('\n# ', ' ')
    assert f'{entry.metrics["top-1"]} by' in comment and 'distilled' in comment
    assert ('not distilled' in comment) or name.startswith('cait')
    per_gpu = int(re.search(r'_8xb(\d+)_', FILES[name].name)[1])
    assert cfg.train_dataloader.batch_size == per_gpu
    assert cfg.auto_scale_lr.base_batch_size == 8 * per_gpu
    init = cfg.load_from
    assert init is None or PUBLISHED[init.removeprefix('mmvitx://')].arch == entry.arch


@pytest.mark.parametrize('name', FILES)
def test_the_head_fits_the_backbone(name):
    cfg = read(name)
    with torch.device('meta'):  # as quick as it gets
        backbone = MODELS.build(cfg.model.backbone)
    assert (cfg.model.head.in_channels,) == backbone.out_channels
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs
    Compose(cfg.train_dataloader.dataset.pipeline)


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_the_index_names_the_figures(name):
    index = yaml.safe_load((CONFIGS / 'pretrain/metafile.yml').read_text())
    (model,) = (model for model in index['Models'] if model['Name'] == name)
    assert model['Weights'] == CLASSIFIERS[name].url
    assert model['Config'] == str(FILES[name].relative_to(CONFIGS.parent))
    (result,) = model['Results']
    assert result['Metrics'] == {'Top 1 Accuracy': CLASSIFIERS[name].metrics['top-1']}


@pytest.mark.parametrize('name', ONE_OF_EACH)
@pytest.mark.parametrize('shape', [(301, 400), (523, 377)])
def test_images_are_seen_as_by_the_authors(name, shape, tmp_path):
    """Resize, crop and normalization are torchvision's, of which all authors made theirs."""
    cfg, entry = read(name), CLASSIFIERS[name]
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), shape[::-1])
    cv2.imwrite(str(tmp_path / 'image.png'), pixels)
    ours = Compose(cfg.test_dataloader.dataset.pipeline)(
        dict(img_path=str(tmp_path / 'image.png'), gt_label=0)
    )
    preprocessor = MODELS.build(dict(type='ClsDataPreprocessor', **cfg.data_preprocessor))
    ours = preprocessor(dict(inputs=[ours['inputs']], data_samples=[ours['data_samples']]))
    crop = entry.crop if entry.crop == 1 else 224 / 256
    theirs = transforms.Compose(
        [
            transforms.Resize(int(entry.size / crop), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(entry.size),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )(Image.open(tmp_path / 'image.png'))
    torch.testing.assert_close(ours['inputs'][0], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', ONE_OF_EACH[:2] + ['cait_xxs24'])
def test_a_classifier_trains_and_predicts(name):
    cfg = read(name)
    torch.manual_seed(0)
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    params = [id(p) for group in wrapper.optimizer.param_groups for p in group['params']]
    assert sorted(params) == sorted(map(id, model.parameters()))
    by_name = {id(p): name for name, p in model.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        for p in group['params']:
            name = by_name[id(p)]
            embedding = 'cls_token' in name or 'pos_embed' in name
            assert (group['weight_decay'] == 0) == (p.ndim == 1 or embedding), name

    from mmpretrain.structures import DataSample

    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
    loss, _ = model.parse_losses(model.train()(**data, mode='loss'))
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in model.parameters())
    assert model.eval()(**data, mode='predict')[0].pred_score.shape == (1000,)


def test_the_schedules_are_the_authors():
    coat, small, lite = read('coat_tiny'), read('coat_small'), read('coat_lite_medium_384')
    assert (coat.optim_wrapper.optimizer.lr, coat.auto_scale_lr.base_batch_size) == (2e-3, 2048)
    assert coat.custom_hooks[0].momentum == pytest.approx(4e-5)
    assert not coat.custom_hooks[0].evaluate_on_ema
    assert 'custom_hooks' not in small and small.optim_wrapper.clip_grad.max_norm == 5
    assert small.param_scheduler[0].end == 20 and small.model.backbone.drop_path_rate == 0.2
    assert lite.optim_wrapper.optimizer.lr < lite.param_scheduler[0].eta_min
    crossvit = read('crossvit_18')
    assert crossvit.optim_wrapper.optimizer.lr == 4e-3 and 'custom_hooks' not in crossvit
    assert read('cait_s24').train_cfg.max_epochs == 400
    for cfg in (coat, small, crossvit):
        warmup = cfg.param_scheduler[0]
        assert warmup.start_factor * cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-6)


def test_half_sized_weights_of_a_joint_head_learn_like_two_heads():
    """The mean of CrossViT's two heads, and one head with lr_mult 0.5 and decay_mult 2."""
    torch.manual_seed(0)
    two = torch.nn.ModuleList(torch.nn.Linear(3, 4).double() for _ in range(2))
    model = torch.nn.Module()
    model.head = torch.nn.Module()
    model.head.fc = torch.nn.Linear(6, 4).double()
    with torch.no_grad():
        model.head.fc.weight.copy_(torch.cat([head.weight for head in two], 1) / 2)
        model.head.fc.bias.copy_(sum(head.bias for head in two) / 2)
    settings = read('crossvit_9').optim_wrapper
    settings.optimizer.eps = 1e-14
    theirs = torch.optim.AdamW(
        [
            dict(params=[head.weight for head in two], weight_decay=0.05),
            dict(params=[head.bias for head in two], weight_decay=0.0),
        ],
        lr=settings.optimizer.lr,
        eps=1e-14,
    )
    ours = build_optim_wrapper(model, settings)
    for _ in range(20):
        x, y = torch.randn(8, 6).double(), torch.randint(0, 4, (8,))
        logits = sum(head(part) for head, part in zip(two, x.split(3, 1))) / 2
        torch.testing.assert_close(model.head.fc(x), logits, rtol=0, atol=1e-9)
        for optimizer, out in ((theirs, logits), (ours.optimizer, model.head.fc(x))):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(out, y).backward()
            optimizer.step()


@pytest.mark.parametrize('path', CONFIGS.glob('transfer/*.py'), ids=lambda path: path.stem)
def test_transfer(path):
    cfg = Config.fromfile(path)
    backbone, head = (MODELS.build(cfg.model[part]) for part in ('backbone', 'head'))
    assert (head.in_channels,) == backbone.out_channels
    assert PUBLISHED[cfg.load_from.removeprefix('mmvitx://')].arch == backbone.arch_name
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        Compose(loader.dataset.pipeline)
        classes = getattr(DATASETS.get(loader.dataset.type), 'METAINFO', {}).get('classes')
        assert classes is None or len(classes) == head.num_classes
