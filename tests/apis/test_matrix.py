"""The outcomes in ``docs/backbones.md``; what it means that a config works is said there."""

import gc
from types import SimpleNamespace

import matrix
import pytest
import torch

from mmvitx.apis import trial
from mmvitx.errors import UserError
from mmvitx.models.backbones import CaiT

TABLE = matrix.read_table()
FAST = (
    'mmdet::atss/atss_r50_fpn_1x_coco.py',
    'mmdet::cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py',
    'mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17train_test-mot17test.py',
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
    'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
    'mmpretrain::resnet/resnet50_8xb8_cub.py',
)


@pytest.fixture(autouse=True)
def free_memory():
    yield
    gc.collect()


@pytest.mark.parametrize(
    'name', [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in TABLE]
)
def test_what_the_table_says(name):
    outcome = matrix.try_config(name)
    if outcome.word == TABLE[name].word == matrix.UNTESTABLE:
        pytest.skip(outcome.reason)
    assert outcome == TABLE[name]


@pytest.mark.slow
def test_the_table_has_a_config_of_every_method():
    assert list(TABLE) == matrix.list_configs()
    assert {*FAST} <= {*TABLE}


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['cait_xxs24', 'crossvit_9'])
@pytest.mark.parametrize(
    'name',
    [
        'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
        'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
        'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        'mmpretrain::resnet/resnet50_8xb8_cub.py',
    ],
)
def test_other_families(name, backbone):
    assert matrix.try_config(name, backbone).word == matrix.PASSED


RETINANET = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'


def test_other_strides_are_found():
    size = matrix.SIZES[0]
    cfg = matrix.read(RETINANET)
    theirs = matrix.observe(cfg, size)
    assert theirs['neck'] == [(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)]
    matrix.compare(theirs, theirs)
    cfg.model.backbone = dict(type='mmvitx.CoaT', arch='lite_tiny', out_indices=(0, 1, 2))
    cfg.model.neck.update(in_channels=[64, 128, 256], start_level=0)
    with pytest.raises(matrix.Wrong, match='other sizes'):  # all twice as fine
        matrix.compare(matrix.observe(cfg, size), theirs)
    with pytest.raises(matrix.Wrong, match='nothing to compare'):
        matrix.compare({}, theirs)


def test_missing_gradients_are_found():
    backbone = CaiT(dict(embed_dim=16, depth=4, num_heads=2), out_indices=(0, 1, 2))
    model = SimpleNamespace(backbone=backbone)
    maps = backbone(torch.rand(1, 3, 32, 32))
    sum(x.sum() for x in maps[1:]).backward(retain_graph=True)
    with pytest.raises(matrix.Wrong, match='no gradient'):
        matrix.check_gradients(model)
    maps[0].sum().backward()
    matrix.check_gradients(model)


class TestFailures:
    @staticmethod
    def break_neck(cfg, *args, **kwargs):
        cfg.model.neck.in_channels = [1, 2, 3, 4]

    def test_with_the_new_backbone_only(self, monkeypatch):
        monkeypatch.setattr(matrix, 'use_backbone', self.break_neck)
        with pytest.raises(RuntimeError, match='channels'):
            matrix.try_config(RETINANET)

    def test_with_any_backbone(self, monkeypatch):
        def fail(*args):
            raise RuntimeError('no kernel\non a CPU')

        monkeypatch.setattr(matrix, 'use_backbone', self.break_neck)
        monkeypatch.setattr(trial, 'build_model', fail)
        assert matrix.try_config(RETINANET) == (matrix.UNTESTABLE, 'RuntimeError: no kernel')

    def test_refusals(self, monkeypatch):
        def refuse(cfg, *args, **kwargs):
            name = f'the config {cfg.filename}'
            raise UserError(f'{name} cannot take another backbone: it has two: a and b')

        monkeypatch.setattr(matrix, 'use_backbone', refuse)
        assert matrix.try_config(RETINANET) == (matrix.REFUSED, 'it has two: a and b')


def test_the_table_is_read_as_it_is_written(tmp_path, monkeypatch):
    table = tmp_path / 'table.md'
    table.write_text('# Title\n\n3 configs: works 3.\n\n| config |\n')
    monkeypatch.setattr(matrix, 'TABLE', table)
    outcomes = {
        'mmdet::a/a.py': matrix.Outcome(matrix.PASSED),
        'mmseg::b/b.py': matrix.Outcome(matrix.REFUSED, 'it has two backbones'),
    }
    for _ in range(2):
        matrix.write_table(outcomes)
    assert matrix.read_table() == outcomes
    assert '\n2 configs: works 1, refused 1, not testable here 0.\n' in table.read_text()
