from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModule, BaseTTAModel
from torch import nn

from mmvitx.checkpoints import CheckpointError
from mmvitx.engine import preflight
from mmvitx.errors import UserError
from mmvitx.models.backbones import CoaT

COCO = dict(
    images=[dict(id=1, file_name='a "b"/ü.jpg', height=4, width=4)],
    annotations=[dict(id=1, image_id=1, category_id=7, bbox=[0, 0, 2, 2], area=4)],
    categories=[dict(id=7, name='é'), dict(id=9, name='[dog]')],
)


@pytest.mark.parametrize(
    'order', ['images categories annotations', 'categories annotations images']
)
@pytest.mark.parametrize('style', [dict(), dict(indent=1), dict(separators=(',', ':'))])
@pytest.mark.parametrize('ascii', [True, False])
def test_reads_categories_and_first_image(tmp_path, order, style, ascii):
    path = tmp_path / 'coco.json'
    coco = {key: COCO[key] for key in order.split()}
    path.write_text(json.dumps(coco, ensure_ascii=ascii, **style) + '\n', encoding='utf-8')
    assert preflight.read_coco_head(str(path)) == (['é', '[dog]'], 'a "b"/ü.jpg')


def test_the_words_of_the_lists_may_stand_elsewhere(tmp_path):
    path = tmp_path / 'coco.json'
    words = dict(contains=['images', 'categories'], categories='two')
    path.write_text(json.dumps(dict(info=words, **COCO, about=words)))
    assert preflight.read_coco_head(str(path)) == (['é', '[dog]'], 'a "b"/ü.jpg')


def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    with pytest.raises(UserError, match='cannot be read .Is a directory'):
        preflight.read_coco_head(str(tmp_path))

    def refuse(*args):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('builtins.open', refuse)  # root, who may run this, opens everything
    with pytest.raises(UserError, match='a.json.* cannot be read .Permission denied'):
        preflight.read_coco_head('a.json')


@pytest.mark.parametrize(
    'content, reason',
    [
        ('', 'is empty'),
        ('<xml>', 'does not begin with {'),
        ('[1, 2]', 'does not begin with {'),
        ('{"a": 1}', 'has no list "images"'),
        ('{"images": [], "annotations": []}', 'has no list "categories"'),
        ('{"images": [], "categories": []}', 'has no list "annotations"'),
        (json.dumps(COCO)[:-9], 'as if truncated'),
        ('{"images": [], "annotations": [], "categories": {}}', 'has no list "categories"'),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1}]}',
            'lacks its "id" or "name"',
        ),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}', 'no COCO JSON'),
    ],
)
def test_no_coco_file(tmp_path, content, reason):
    path = tmp_path / 'coco.json'
    path.write_text(content)
    with pytest.raises(UserError) as error:
        preflight.read_coco_head(str(path))
    assert str(path) in str(error.value) and reason in str(error.value)
    assert '\n' not in str(error.value)


@pytest.fixture
def data(tiny_data, tmp_path):
    """A copy of the tiny dataset that a test may spoil."""
    return shutil.copytree(tiny_data, tmp_path / 'data')


def config(data, **dataset) -> Config:
    """What is checked of a config; the model is a Cascade's."""
    boxes = [dict(type='Shared2FCBBoxHead', num_classes=3) for _ in range(3)]
    roi_head = dict(bbox_head=boxes, mask_head=dict(num_classes=3))
    base = dict(
        type='CocoDataset',
        data_root=str(data),
        ann_file='coco.json',
        data_prefix=dict(img='images'),
        metainfo=dict(classes=('square', 'bar', 'plate')),
    )
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(backbone=dict(num_classes=1000), roi_head=roi_head),
            train_dataloader=dict(dataset={**base, **dataset}),
        )
    )


WRAPPERS = {
    'plain': (lambda dataset: dataset, 'dataset'),
    'repeated': (lambda dataset: dict(type='RepeatDataset', dataset=dataset), 'dataset.dataset'),
    'balanced': (
        lambda dataset: dict(
            type='MultiImageMixDataset',
            dataset=dict(type='ClassBalancedDataset', dataset=dataset),
        ),
        'dataset.dataset.dataset',
    ),
    'concatenated': (
        lambda dataset: dict(type='ConcatDataset', datasets=[dict(dataset), dict(dataset)]),
        'dataset.datasets.0',
    ),
}


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_a_dataset_is_found_in_its_wrappers(data, wrapper):
    wrap, where = WRAPPERS[wrapper]
    cfg = config(data)
    cfg.train_dataloader.dataset = wrap(cfg.train_dataloader.dataset)
    preflight.check_data(cfg, ('train',))
    (data / 'coco.json').unlink()
    setting = f'--cfg-options train_dataloader.{where}.ann_file='
    with pytest.raises(UserError, match=setting):
        preflight.check_data(cfg, ('train',))


@pytest.mark.parametrize(
    'head', ['bbox_head.0', 'bbox_head.2', 'mask_head'], ids=lambda head: head.replace('.', '_')
)
def test_number_of_classes_in_nested_heads(data, head):
    cfg = config(data)
    cfg.merge_from_dict({f'model.roi_head.{head}.num_classes': 80})
    with pytest.raises(UserError, match=f'3 classes .*model.roi_head.{head}.num_classes is 80'):
        preflight.check_data(cfg, ('train',))


@pytest.mark.parametrize(
    'dataset, message',
    [
        (dict(data_root='nowhere'), 'data root nowhere does not exist'),
        (dict(ann_file=''), 'annotation file .* COCO dataset cannot be read .Is a directory'),
        (dict(ann_file='no.json'), 'annotation file .*no.json does not exist'),
        (dict(data_prefix=dict(img='no')), 'image folder .*no does not exist'),
        (dict(data_prefix=dict(img='masks/..')), 'does not hold 0.png, the first image of'),
        (dict(ann_file='classes.txt'), 'classes.txt is no COCO JSON'),
        (
            dict(metainfo=dict(classes=('square', 'circle', 'plate'))),
            r'lacks \(circle\): its categories are square, bar, plate',
        ),
        (
            dict(metainfo=dict(classes=('bar', 'square', 'plate'))),
            'must be in the order of the categories',
        ),
        (dict(metainfo=None), r'lacks \(person, .* 80 in all\)'),
        (dict(metainfo=dict(classes='bar')), r"text 'bar', .* write classes=\('bar',\)"),
        (dict(metainfo=dict(classes=('bar', 'plate'))), 'has 2 classes .*bar, plate'),
    ],
)
def test_what_is_wrong_with_the_data_is_one_sentence(data, dataset, message):
    with pytest.raises(UserError, match=message) as error:
        preflight.check_data(config(data, **dataset), ('train',))
    assert 'train_dataloader' in str(error.value) or 'COCO' in str(error.value)
    assert '\n' not in str(error.value)


def segmentation(data, **dataset) -> Config:
    base = dict(
        type='BaseSegDataset',
        data_root=str(data),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        img_suffix='.png',
        metainfo=dict(
            classes=('ground', 'square', 'bar', 'plate'), palette=[[60 * i] * 3 for i in range(4)]
        ),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
    )
    model = dict(decode_head=dict(num_classes=4), auxiliary_head=[dict(num_classes=4)])
    dataset = {**base, **dataset}
    loader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dataset))
    settings = dict(default_scope='mmseg', model=model, train_dataloader=loader)
    return Config(settings, cfg_text='-', filename='mine.py')


def with_label(mask, label=9):
    mask[:2, :2] = label
    return mask


METAINFO = dict(classes=('ground', 'square', 'bar', 'plate'))

# What is wrong with a segmentor's data: (what becomes of the mask of an image, settings, message).
SEGMENTATION_ERRORS = {
    'label': (with_label, {}, 'label map .*masks/2.png holds the label 9: expected 0 to 3'),
    'size': (
        lambda mask: mask[:, :60],
        {},
        'masks/2.png has 60 x 64 pixels, but its image .*images/2.png has 64 x 64',
    ),
    'colour': (lambda mask: np.stack([mask] * 3, 2), {}, r'2.png is a picture of .*\(64, 64, 3\)'),
    'gone': (lambda mask: None, {}, 'masks/2.png does not exist, as 1 of 8 images and label maps'),
    'reduced': (
        lambda mask: with_label(mask, 5),
        dict(reduce_zero_label=True),
        'label map .*masks/2.png holds the label 4: expected 0 to 3',
    ),
    'folder': (None, dict(data_prefix=dict(img_path='images', seg_map_path='no')), 'label folder'),
    'suffix': (None, dict(img_suffix='.jpg'), r'split .*images with \*.jpg of .* is empty'),
    'list': (None, dict(ann_file='empty.txt'), 'split .*empty.txt of .*dataset.dataset is empty'),
    'palette': (None, dict(metainfo=METAINFO), 'config mine.py names .* but no palette'),
    'short palette': (
        None,
        dict(metainfo=dict(**METAINFO, palette=[[0, 0, 0]])),
        'config mine.py is refused: palette does not match classes',
    ),
    'classes': (
        None,
        dict(metainfo=dict(classes=('a', 'b'), palette=[[0] * 3] * 2)),
        'has 2 classes .*model.decode_head.num_classes is 4, model.auxiliary_head.0.num_classes',
    ),
}


@pytest.mark.parametrize('error', SEGMENTATION_ERRORS)
def test_what_is_wrong_with_label_maps_is_one_sentence(data, error):
    change, settings, message = SEGMENTATION_ERRORS[error]
    (data / 'empty.txt').touch()
    preflight.check_data(segmentation(data), ('train',))
    if change:
        path = str(data / 'masks/2.png')
        mask = change(cv2.imread(path, cv2.IMREAD_UNCHANGED))
        (data / 'masks/2.png').unlink()
        if mask is not None:
            cv2.imwrite(path, mask)
    with pytest.raises(UserError, match=message) as raised:
        preflight.check_data(segmentation(data, **settings), ('train',))
    assert '\n' not in str(raised.value)


def test_a_label_map_that_is_no_picture(data):
    (data / 'masks/2.png').write_text('PNG')
    with pytest.raises(UserError, match='masks/2.png cannot be read as a picture'):
        preflight.check_data(segmentation(data), ('train',))


def test_data_without_labels_need_none(data):
    shutil.rmtree(data / 'masks')
    settings = dict(data_prefix=dict(img_path='images'), pipeline=[dict(type='LoadImageFromFile')])
    cfg = segmentation(data, **settings)
    preflight.check_data(cfg, ('train',))
    preflight.add_label_checks(cfg, ('train',))
    assert len(cfg.train_dataloader.dataset.dataset.pipeline) == 1


@pytest.mark.parametrize('ignored', [255, 9])
def test_all_label_maps_are_checked_when_loaded(data, ignored):
    """The rest of them, of which a run reads none before."""
    cfg = segmentation(data, ignore_index=ignored)
    for _ in range(2):  # as of test_dataloader = val_dataloader
        preflight.add_label_checks(cfg, ('train', 'val'))
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    assert [step.type for step in pipeline][1:] == ['LoadAnnotations', 'mmvitx.CheckSegMap']
    check = Compose([pipeline[-1]])
    results = dict(
        img_path='a.jpg',
        seg_map_path='a.png',
        ori_shape=(4, 4),
        gt_seg_map=with_label(np.zeros((4, 4), np.uint8)),
    )
    assert check(dict(img_path='a.jpg')) == dict(img_path='a.jpg')  # of an inferencer
    if ignored == 9:
        assert check(results) is results
    else:
        with pytest.raises(UserError, match='a.png holds the label 9'):
            check(results)


def test_what_is_not_on_this_machine_is_left_to_the_run(data):
    preflight.check_data(config(data, data_root='s3://bucket/'), ('train',))
    settings = dict(ann_file='no.json', backend_args=dict(backend='petrel'))
    preflight.check_data(config(data, **settings), ('train',))


def test_classes_in_a_file(data):
    (data / 'names.txt').write_text('square\nbar\nplate\n')
    preflight.check_data(config(data, metainfo=dict(classes=f'{data}/names.txt')), ('train',))


@pytest.mark.parametrize('dataset', ['CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST'])
def test_what_downloads_itself_may_be_missing(dataset):
    dataset = dict(type=dataset, data_root='nowhere', split='train')
    cfg = Config(dict(default_scope='mmpretrain', model={}, train_dataloader=dict(dataset=dataset)))
    preflight.check_data(cfg, ('train',))
    cfg.train_dataloader.dataset.download = False
    with pytest.raises(UserError, match='data root nowhere does not exist'):
        preflight.check_data(cfg, ('train',))


def test_the_file_of_an_evaluator(data):
    cfg = config(data)
    cfg.val_dataloader = cfg.train_dataloader
    cfg.val_evaluator = [dict(type='CocoMetric', ann_file='nowhere.json')]
    preflight.check_data(cfg, ('train',))
    with pytest.raises(UserError, match='nowhere.json .*--cfg-options val_evaluator.ann_file='):
        preflight.check_data(cfg, ('train', 'val'))


def weights_of(tmp_path, checkpoint, **settings):
    path = tmp_path / 'weights.pth'
    torch.save(checkpoint, path)
    return preflight.read_weights(Config(dict(load_from=str(path), **settings)))


def test_weights_are_compared_by_name_and_shape(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3))
    for fitting in (
        dict(state_dict=model.state_dict()),
        model.state_dict(),
        {f'module.{name}': value for name, value in model.state_dict().items()},
        {'0.bias': torch.zeros(3), 'head.weight': torch.zeros(1)},
    ):
        preflight.check_weights(weights_of(tmp_path, fitting), model)
    preflight.check_weights(None, model)

    for other in ({'0.bias': torch.zeros(4)}, {'1.bias': torch.zeros(3)}, dict(model={})):
        with pytest.raises(CheckpointError, match='none of the . tensors .* fits the Sequential'):
            preflight.check_weights(weights_of(tmp_path, other), model)


def test_resuming_needs_more_than_weights(tmp_path):
    with pytest.raises(CheckpointError, match='no message_hub, meta, optimizer.* load_from='):
        weights_of(tmp_path, dict(state_dict={}), resume=True)
    with pytest.raises(CheckpointError, match='holds a list, a dict of weights was expected'):
        weights_of(tmp_path, [torch.zeros(1)])


def test_weights_are_compared_with_what_a_merging_model_holds(tmp_path):
    class Merging(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return data_samples_list

    weights = weights_of(tmp_path, {'0.bias': torch.zeros(3)})
    inner = nn.Sequential(nn.Linear(2, 3))
    model = Merging.__new__(Merging)
    nn.Module.__init__(model)
    model.module = inner
    preflight.check_weights(weights, model)


class Part(BaseModule):
    def __init__(self, **init_cfg):
        super().__init__(init_cfg=dict(type='Pretrained', **init_cfg))
        self.fc = nn.Linear(2, 3)


class Converter(Part):
    def init_weights(self):
        from mmengine.runner import CheckpointLoader

        CheckpointLoader.load_checkpoint(self.init_cfg['checkpoint'])


def part_of(tmp_path, checkpoint, kind=Part, **settings) -> nn.Module:
    torch.save(checkpoint, tmp_path / 'part.pth')
    part = kind(checkpoint=str(tmp_path / 'part.pth'), **settings)
    return nn.ModuleDict(dict(neck=nn.Linear(1, 1), backbone=part))


@pytest.mark.parametrize(
    'checkpoint, prefix',
    [
        ({'fc.weight': torch.ones(3, 2)}, None),
        ({'module.fc.weight': torch.ones(3, 2), 'head': torch.ones(1)}, None),
        (dict(state_dict={'backbone.fc.weight': torch.ones(3, 2)}), 'backbone'),
        ({'backbone.fc.weight': torch.ones(3, 2)}, 'backbone.'),
    ],
)
def test_a_pretrained_part_fits(tmp_path, checkpoint, prefix):
    model = part_of(tmp_path, checkpoint, prefix=prefix)
    preflight.check_pretrained(model)
    model['backbone'].init_weights()
    assert model['backbone'].fc.weight.eq(1).all()  # mmengine agrees


@pytest.mark.parametrize(
    'checkpoint, prefix, first',
    [
        ({'fc.weight': torch.ones(3, 3)}, None, r'first of the checkpoint is fc.weight \(3, 3\)'),
        (dict(ema={'fc.weight': torch.ones(3, 2)}), None, 'first of the checkpoint is None'),
        (
            {'backbone.fc.weight': torch.ones(3, 2)},
            None,
            'first of the checkpoint is backbone.fc.weight',
        ),
        ({'fc.weight': torch.ones(3, 2)}, 'backbone', 'first of the checkpoint is None'),
    ],
)
def test_a_pretrained_part_that_does_not_fit(tmp_path, checkpoint, prefix, first):
    model = part_of(tmp_path, checkpoint, prefix=prefix)
    message = rf'none of the . tensors .* \(model.backbone.init_cfg\) fits the Part: the {first}'
    with pytest.raises(CheckpointError, match=message):
        preflight.check_pretrained(model)


def test_published_names_are_checked_before_the_run(tmp_path, monkeypatch):
    model = nn.ModuleDict(dict(backbone=Part(checkpoint='mmvitx://coat_smal')))
    with pytest.raises(CheckpointError, match='did you mean coat_small'):
        preflight.check_pretrained(model)
    with pytest.raises(CheckpointError, match='did you mean coat_small'):
        preflight.read_weights(Config(dict(load_from='mmvitx://coat_smal')))


def test_what_a_training_starts_from_is_said(monkeypatch):
    lines = []
    monkeypatch.setattr(preflight, 'print_log', lambda text, logger: lines.append(text))
    for backbone in (
        dict(arch='lite_tiny'),
        dict(arch='lite_tiny', init_cfg=dict(checkpoint='mine.pth')),
        dict(arch={**CoaT.archs['lite_tiny'], 'serial_depths': (1, 1, 1, 1)}),
    ):
        model = nn.ModuleDict(dict(backbone=CoaT(**backbone)))
        for scope, from_scratch in ('mmdet', False), ('mmdet', True), ('mmpretrain', False):
            runner = SimpleNamespace(model=model, cfg=Config(dict(default_scope=scope)))
            preflight.note_start(runner, None, from_scratch)
    hint = (
        'The coat_lite_tiny starts from random weights. From those of ImageNet it starts with '
        '--cfg-options model.backbone.init_cfg.checkpoint=mmvitx://coat_lite_tiny'
    )
    assert lines == [
        hint,
        *[hint.partition('. ')[0]] * 2,
        *['The coat_lite_tiny starts from mine.pth'] * 3,
        *['The CoaT starts from random weights'] * 3,
    ]


def test_a_part_that_converts_its_file_is_left_alone(tmp_path):
    preflight.check_pretrained(part_of(tmp_path, dict(model={}), Converter))


def test_what_a_checkpoint_fills_needs_no_file(tmp_path):
    """Part by part: a detector for other classes takes a whole backbone, and a part of its head."""
    model = nn.ModuleDict({name: Part(checkpoint='no.pth') for name in ('backbone', 'head')})
    weights = {name: value for name, value in model.state_dict().items() if name != 'head.fc.bias'}
    taken = preflight.check_weights(weights_of(tmp_path, weights), model)
    preflight.drop_pretrained(model, taken)
    assert model['backbone'].init_cfg is None
    assert model['head'].init_cfg['checkpoint'] == 'no.pth'


def test_a_pretrained_part_must_be_there(tmp_path):
    model = nn.ModuleDict(dict(backbone=Part(checkpoint=str(tmp_path / 'no.pth'))))
    message = 'no.pth does not exist; --from-scratch starts from random weights'
    with pytest.raises(CheckpointError, match=message):
        preflight.check_pretrained(model)
    model['backbone'].init_cfg['checkpoint'] = 'torchvision://resnet50'
    preflight.check_pretrained(model)
