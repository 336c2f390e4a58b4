from __future__ import annotations

import copy
import random
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from torch import nn

from mmvitx.apis import trial

SIZE = (64, 96)
HOSTS = ('mmdet', 'mmseg', 'mmpretrain')


@pytest.fixture(scope='module')
def tiny(tmp_path_factory, write_config):
    """Read the tiny config of a host, with more to it."""

    def read(host, **model):
        cfg = Config.fromfile(write_config(tmp_path_factory.mktemp('trial'), host))
        cfg.merge_from_dict(dict(model=model))
        return cfg

    return read


def run(cfg):
    """Build, train and predict; give the model, its loss and its predictions."""
    with trial.isolated(cfg):
        model = trial.build_model(cfg, SIZE)
        batch = trial.make_batch(cfg, SIZE)
        loss = trial.training_loss(model, batch)
        assert model.training
        predictions = trial.predict(model, batch)
        assert not model.training
    return model, loss, predictions


@pytest.mark.parametrize('host', HOSTS)
def test_a_model_of_each_host(host, tiny):
    cfg = tiny(host)
    before = copy.deepcopy(cfg.to_dict())
    model, loss, predictions = run(cfg)
    assert cfg.to_dict() == before
    assert loss.isfinite()
    loss.backward()
    assert next(model.backbone.parameters()).grad is not None
    assert len(predictions) == 2
    assert run(cfg)[1] == loss  # of the same weights and images


@pytest.mark.parametrize('host', HOSTS)
def test_samples_are_of_the_classes_of_the_model(host, tiny):
    cfg = tiny(host)
    with trial.isolated(cfg):
        batch = trial.make_batch(cfg, SIZE, batch_size=3)
    assert [(x.dtype, x.shape) for x in batch['inputs']] == [(torch.uint8, (3, *SIZE))] * 3
    sample = batch['data_samples'][0]
    assert sample.img_shape == sample.ori_shape == SIZE
    if host == 'mmdet':
        assert sample.gt_instances.labels.tolist() == [0, 1]
        assert sample.gt_instances.masks.masks.shape == (2, *SIZE)
        assert len(sample.ignored_instances) == 1
        boxes = sample.gt_instances.bboxes
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes[:, 2:] < torch.tensor([96, 64])).all()
        assert 'proposals' not in sample  # the model has an RPN
    elif host == 'mmseg':
        assert sample.gt_sem_seg.data.unique().tolist() == [0, 1]
        assert sample.gt_edge_map.data.unique().tolist() == [0, 1]
        assert sample.gt_depth_map.data.min() > 0
    else:
        assert [int(s.gt_label) for s in batch['data_samples']] == [0, 1, 0]


def test_one_class(tiny):
    cfg = tiny('mmdet')
    cfg.model.roi_head.bbox_head.num_classes = 1
    cfg.model.pop('rpn_head')
    with trial.isolated(cfg):
        sample = trial.make_batch(cfg, SIZE)['data_samples'][0]
    assert sample.gt_instances.labels.tolist() == [0, 0]
    assert len(sample.proposals) == 3


@pytest.mark.parametrize('kind', ['Track', 'ReID'])
def test_models_of_several_frames(kind):
    model = dict(data_preprocessor=dict(type=f'{kind}DataPreprocessor'))
    cfg = ConfigDict(model=model, default_scope='mmdet')
    with trial.isolated(cfg):
        batch = trial.make_batch(cfg, SIZE, batch_size=2)
    assert [x.shape for x in batch['inputs']] == [(2, 3, *SIZE)]
    (sample,) = batch['data_samples']
    if kind == 'Track':
        assert (sample.key_frames_inds, sample.ref_frames_inds) == ([0], [1])
        assert [len(s.gt_instances.instances_ids) for s in sample.video_data_samples] == [2, 2]
    else:
        assert sample.gt_label.label.tolist() == [0, 1]


def test_images_have_the_channels_of_the_model():
    model = dict(data_preprocessor=dict(mean=[0] * 6))
    cfg = ConfigDict(model=model, default_scope='mmseg')
    with trial.isolated(cfg):
        assert trial.make_batch(cfg, SIZE)['inputs'][0].shape == (6, *SIZE)


def test_weights_are_left_out(tiny):
    nowhere = dict(type='Pretrained', checkpoint='nowhere.pth')
    cfg = tiny('mmseg', pretrained='nowhere.pth', decode_head=dict(init_cfg=nowhere))
    cfg.model.backbone.init_cfg = [dict(type='Constant', layer='Conv2d', val=0.25), nowhere]
    model, _, _ = run(cfg)
    assert (model.backbone.conv1.weight == 0.25).all()


@pytest.mark.parametrize('norm', ['SyncBN', 'MMSyncBN'])
def test_synchronized_batch_norms(norm, tiny):
    cfg = tiny('mmseg', backbone=dict(norm_cfg=dict(type=norm)))
    model, _, _ = run(cfg)
    assert type(model.backbone.bn1) is not nn.SyncBatchNorm
    assert isinstance(model.backbone.bn1, nn.modules.batchnorm._BatchNorm)


def test_results_are_few_but_of_queries_all(tiny):
    for nms in (dict(type='nms', iou_threshold=0.5), None):
        test_cfg = dict(max_per_img=100, nms=nms) if nms else dict(max_per_img=100)
        cfg = tiny('mmdet')
        cfg.model.test_cfg.rcnn = test_cfg
        with trial.isolated(cfg):
            model = trial.build_model(cfg, SIZE)
        assert model.test_cfg.rcnn.max_per_img == (16 if nms else 100)


def test_a_detector_inside_another_model_has_no_preprocessor(tiny):
    cfg = tiny('mmdet')
    cfg.model.pop('data_preprocessor')
    assert len(run(cfg)[2]) == 2


def test_a_trial_leaves_no_trace(tiny, monkeypatch):
    cfg = tiny('mmdet')
    for named in (MessageHub, MMLogger):
        monkeypatch.setattr(named, '_instance_dict', OrderedDict())
    hub = MessageHub.get_instance('of a training')
    hub.update_info('iter', 7)
    logger = MMLogger.get_instance('of a training')
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(ZeroDivisionError), trial.isolated(cfg):
        inside = MessageHub.get_current_instance()
        assert inside.get_info('iter') == inside.get_info('epoch') == 0
        assert DefaultScope.get_current_instance().scope_name == 'mmdet'
        MMLogger.get_current_instance().info('not into the log of a training')
        trial.training_loss(trial.build_model(cfg, SIZE), trial.make_batch(cfg, SIZE))
        raise ZeroDivisionError
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert MessageHub.get_current_instance() is hub and hub.get_info('iter') == 7
    assert MMLogger.get_current_instance() is logger
