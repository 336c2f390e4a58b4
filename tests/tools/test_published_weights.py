"""Published weights reach a model by every way that a user has."""

import numpy as np
import pytest
import torch
from conftest import ROOT, official_detector, official_keys, official_weights
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope

from mmvitx.checkpoints.official import convert_official
from mmvitx.engine import launch
from mmvitx.errors import UserError

ARCH = 'lite_tiny'
COAT = """
model['backbone'] = dict(_delete_=True, type='mmvitx.CoaT', arch='lite_tiny')
model['neck']['in_channels'] = [64, 128, 256, 320]
"""
CLASSIFIER = """
model['backbone'] = dict(type='mmvitx.CoaT', arch='lite_tiny', out_type='cls_token')
model['neck'] = None
model['head'].update(in_channels=320, num_classes=1000)
model['data_preprocessor']['num_classes'] = 1000
"""


@pytest.fixture(autouse=True)
def scopes():
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module')
def official():
    return official_weights(f'coat_{ARCH}')


@pytest.fixture
def classification_file(official, tmp_path):
    torch.save(dict(model=official, epoch=299), tmp_path / 'imagenet.pth')
    return str(tmp_path / 'imagenet.pth')


@pytest.fixture
def detector(write_config, tmp_path):
    """Give a config and an authors' detector for it."""
    config = write_config(tmp_path, extra=COAT)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    path = tmp_path / 'detector.pth'
    torch.save(official_detector(model, official_keys(f'coat_{ARCH}')), path)
    return config, str(path), model.state_dict()


def test_training_starts_from_imagenet_by_one_option(
    official, classification_file, write_config, tool, tmp_path
):
    option = f'model.backbone.init_cfg.checkpoint={classification_file}'
    frozen = ['optim_wrapper.optimizer.lr=0.0', 'optim_wrapper.optimizer.weight_decay=0.0']
    config = write_config(tmp_path, extra=COAT)
    work = ['--work-dir', str(tmp_path / 'work'), '--cfg-options']
    runner = tool('train').main([config, *work, option, *frozen])
    expected = convert_official(official).state_dict
    for name, value in runner.model.backbone.state_dict().items():
        assert torch.equal(value, expected[f'backbone.{name}']), name


def test_a_config_starts_from_the_file_in_the_cache(offline):
    official = official_weights('cait_XXS24_224')
    offline.mkdir(parents=True)
    torch.save(dict(model=official), offline / 'XXS24_224.pth')
    cfg = Config.fromfile(ROOT / 'configs/mask_rcnn_cait_xxs24_1x_coco.py')
    init_default_scope('mmdet')
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    expected = convert_official(official).state_dict
    for name, value in backbone.state_dict().items():
        if not name.startswith(('tap_norms', 'pyramid')):  # of which a classifier has none
            assert torch.equal(value, expected[f'backbone.{name}']), name


def test_what_is_possible_without_network(write_config, tool, tmp_path, offline, capfd):
    """A run needs the weights of its config if it begins, and is told how to do without."""
    published = "model['backbone']['init_cfg'] = dict(checkpoint='mmvitx://coat_lite_tiny')\n"
    config = write_config(tmp_path, extra=COAT + published)
    arguments = [config, '--work-dir', str(tmp_path / 'work')]
    message = f'put it into {offline}; --from-scratch starts from random weights'
    with pytest.raises(UserError, match=message) as error:
        tool('train').main(arguments)
    assert '\n' not in str(error.value)

    tool('train').main([*arguments, '--from-scratch', '--seed', '0'])
    out = capfd.readouterr().out
    assert 'The coat_lite_tiny starts from random weights\n' in out
    checkpoint = str(tmp_path / 'work/epoch_1.pth')
    tool('test').main([config, checkpoint, *arguments[1:]])
    longer = ['--cfg-options', 'train_cfg.max_epochs=2']
    resumed = tool('train').main([*arguments, '--resume', *longer])
    assert resumed.epoch == 2
    resolved = Config.fromfile(tmp_path / 'work/tiny_mmdet.py')
    assert resolved.model.backbone.init_cfg.checkpoint == 'mmvitx://coat_lite_tiny'


def test_a_detector_of_the_authors_is_evaluated(detector, tool, tmp_path, monkeypatch):
    config, path, expected = detector
    built = []
    build = launch.build_runner
    monkeypatch.setattr(
        launch, 'build_runner', lambda *a, **k: built.append(build(*a, **k)) or built[0]
    )
    metrics = tool('test').main([config, path, '--work-dir', str(tmp_path / 'work')])
    assert 'coco/bbox_mAP' in metrics
    for name, value in built[0].model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_detector_is_not_evaluated_with_a_backbone_alone(
    classification_file, write_config, tool, tmp_path
):
    arguments = [write_config(tmp_path, extra=COAT), classification_file]
    arguments += ['--work-dir', str(tmp_path / 'work')]
    with pytest.raises(UserError, match=r'has no weights for .* of the MaskRCNN, neck .16., rpn_'):
        tool('test').main(arguments)
    tool('test').main([*arguments, '--allow-missing'])


def test_the_inferencers_of_mmdet_take_it(detector):
    from mmdet.apis import DetInferencer, init_detector

    config, path, expected = detector
    model = init_detector(config, path, device='cpu', palette='random')
    assert model.dataset_meta['classes'] == ('person', 'bicycle')
    inferencer = DetInferencer(config, path, device='cpu', show_progress=False)
    name = 'neck.fpn_convs.0.conv.weight'
    for ours in (model, inferencer.model):
        assert torch.equal(ours.state_dict()[name], expected[name])
    image = np.zeros((64, 64, 3), np.uint8)
    assert 'predictions' in inferencer(image, no_save_vis=True)


def test_a_classifier_of_mmpretrain_takes_it(classification_file, official, write_config, tmp_path):
    from mmpretrain import get_model

    config = write_config(tmp_path, 'mmpretrain', extra=CLASSIFIER)
    model = get_model(config, pretrained=classification_file)
    assert torch.equal(model.head.fc.weight, official['head.weight'])


def test_a_wrong_init_cfg_is_a_sentence(write_config, tool, tmp_path):
    config = write_config(tmp_path, extra=COAT)
    for option in ('=mmvitx://coat_lite_tiny', '.chekpoint=coat.pth'):
        with pytest.raises(UserError, match=r'init_cfg must be a dict as dict\(checkpoint='):
            option = f'model.backbone.init_cfg{option}'
            tool('train').main([config, '--work-dir', str(tmp_path), '--cfg-options', option])


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.backbone.arch=lite_tinny', 'arch must be one of lite_tiny'),
        (
            'model.backbone.archh=tiny',
            'backbone.archh: CoaT has no such setting: did you mean arch',
        ),
        ('model.backbone.frozen_stages=9', 'frozen_stages must be'),
    ],
)
def test_a_wrong_setting_of_a_backbone_is_a_sentence(write_config, tool, tmp_path, option, message):
    config = write_config(tmp_path, extra=COAT)
    with pytest.raises(UserError, match=message):
        tool('train').main([config, '--work-dir', str(tmp_path), '--cfg-options', option])
