"""The outcomes in ``docs/backbones.md``; what it means that a config works is said there."""

import gc

import matrix
import pytest

from mmvitx.apis import trial, use_backbone

TABLE = matrix.read_table()
FAST = (
    'mmdet::atss/atss_r50_fpn_1x_coco.py',
    'mmdet::cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py',
    'mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17train_test-mot17test.py',
    'mmdet::detr/detr_r18_8xb2-500e_coco.py',
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
    'mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb4-80k_isaid-896x896.py',
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
        'mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb4-80k_isaid-896x896.py',
        'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        'mmpretrain::resnet/resnet50_8xb8_cub.py',
    ],
)
def test_other_families(name, backbone):
    assert matrix.try_config(name, backbone).word == matrix.PASSED


class TestTheChecks:
    """They find what a model that runs may have wrong."""

    NAME = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'

    @pytest.fixture
    def cfg(self):
        cfg = matrix.read(self.NAME)
        use_backbone(cfg, matrix.BACKBONE, pretrained=False)
        return cfg

    def test_strides(self, cfg):
        theirs = matrix.observe(matrix.read(self.NAME), trial.SIZE)
        assert theirs['neck'][0] == (32, 40)
        matrix.compare(matrix.observe(cfg, trial.SIZE), theirs)
        cfg.model.backbone.out_indices = (0, 1, 2)  # all twice as fine
        cfg.model.neck.in_channels = [64, 128, 256]
        with pytest.raises(matrix.Wrong, match='other sizes'):
            matrix.compare(matrix.observe(cfg, trial.SIZE), theirs)
        with pytest.raises(matrix.Wrong, match='nothing to compare'):
            matrix.compare({}, theirs)

    def test_gradients(self, cfg):
        cfg.model.backbone.out_indices = (0, 1, 2, 3)
        cfg.model.neck.update(in_channels=[64, 128, 256, 320], start_level=1)
        with trial.isolated(cfg):
            model = trial.build_model(cfg)
            trial.training_loss(model, trial.make_batch(cfg)).backward()
        with pytest.raises(matrix.Wrong, match='no gradient'):
            matrix.check_gradients(model)

    def test_what_fails_only_with_the_new_backbone(self, monkeypatch):
        def use_another(cfg, *args, **kwargs):
            cfg.model.neck.in_channels = [1, 2, 3, 4]

        monkeypatch.setattr(matrix, 'use_backbone', use_another)
        with pytest.raises(RuntimeError, match='channels'):
            matrix.try_config(self.NAME)

    def test_what_fails_with_any_backbone(self, monkeypatch):
        def fail(*args):
            raise RuntimeError('no kernel\nfor a | CPU')

        monkeypatch.setattr(trial, 'training_loss', fail)
        outcome = matrix.try_config(self.NAME)
        assert outcome == (matrix.UNTESTABLE, 'RuntimeError: no kernel')


def test_the_table_is_read_as_it_is_written(tmp_path, monkeypatch):
    table = tmp_path / 'table.md'
    table.write_text('# Title\n\n3 configs: 3 refused.\n\n| config |\n')
    monkeypatch.setattr(matrix, 'TABLE', table)
    outcomes = {
        'mmdet::a/a.py': matrix.Outcome(matrix.PASSED),
        'mmseg::b/b.py': matrix.Outcome(matrix.REFUSED, 'it has two backbones'),
    }
    for _ in range(2):
        matrix.write_table(outcomes)
    assert matrix.read_table() == outcomes
    assert '\n2 configs: 1 works, 1 refused, 0 not testable here.\n' in table.read_text()
