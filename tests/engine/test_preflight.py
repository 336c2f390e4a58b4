from __future__ import annotations

import pytest
from mmengine.config import Config

from mmvitx.engine import preflight
from mmvitx.errors import UserError


def config(data, **dataset) -> Config:
    base = dict(
        type='CocoDataset',
        data_root=str(data),
        ann_file='coco.json',
        data_prefix=dict(img='images'),
    )
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(backbone=dict(type='ResNet')),
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
    preflight.check_paths(cfg, ('train',))
    (data / 'coco.json').unlink()
    setting = f'--cfg-options train_dataloader.{where}.ann_file='
    with pytest.raises(UserError, match=setting):
        preflight.check_paths(cfg, ('train',))


@pytest.mark.parametrize(
    'dataset, message',
    [
        (dict(data_root='nowhere'), 'data root nowhere does not exist'),
        (dict(ann_file='no.json'), 'annotation file .*no.json does not exist'),
        (dict(data_prefix=dict(img='no')), 'image folder .*no does not exist'),
        (dict(data_prefix=dict(seg_map_path='no')), 'label folder .*no does not exist'),
        (dict(data_prefix='no'), 'image folder .*no does not exist'),
        (dict(metainfo=dict(classes=3)), r'metainfo.classes is 3: expected the names'),
        (dict(metainfo=dict(classes='bar')), r"text 'bar', .* write classes=\('bar',\)"),
    ],
)
def test_a_path_that_does_not_exist(data, dataset, message):
    with pytest.raises(UserError, match=message) as error:
        preflight.check_paths(config(data, **dataset), ('train',))
    assert 'train_dataloader.dataset.' in str(error.value) and '\n' not in str(error.value)


def test_what_is_not_on_this_machine_is_left_to_the_run(data):
    preflight.check_paths(config(data, data_root='s3://bucket/'), ('train',))
    elsewhere = dict(backend_args=dict(backend='petrel'))
    preflight.check_paths(config(data, ann_file='no.json', **elsewhere), ('train',))
    loading = [dict(type='LoadImageFromFile', **elsewhere)]
    settings = dict(data_prefix=dict(img='no'), pipeline=loading)
    preflight.check_paths(config(data, **settings), ('train',))


def test_classes_in_a_file(data):
    (data / 'names.txt').write_text('square\nbar\nplate\n')
    preflight.check_paths(config(data, metainfo=dict(classes=f'{data}/names.txt')), ('train',))


@pytest.mark.parametrize('dataset', ['CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST'])
def test_what_downloads_itself_may_be_missing(dataset):
    dataset = dict(type=dataset, data_root='nowhere', split='train')
    cfg = Config(dict(default_scope='mmpretrain', model={}, train_dataloader=dict(dataset=dataset)))
    preflight.check_paths(cfg, ('train',))
    cfg.train_dataloader.dataset.download = False
    with pytest.raises(UserError, match='data root nowhere does not exist'):
        preflight.check_paths(cfg, ('train',))


def test_the_file_of_an_evaluator(data):
    cfg = config(data)
    cfg.val_dataloader = cfg.train_dataloader
    cfg.val_evaluator = [dict(type='CocoMetric', ann_file='nowhere.json')]
    preflight.check_paths(cfg, ('train',))
    with pytest.raises(UserError, match='nowhere.json .*--cfg-options val_evaluator.ann_file='):
        preflight.check_paths(cfg, ('train', 'val'))


def test_settings_that_are_no_dicts(data):
    cfg = config(data)
    cfg.val_dataloader, cfg.val_evaluator = dict(dataset=3), 'CocoMetric'
    with pytest.raises(UserError, match='val_dataloader.dataset is 3: expected the settings of a'):
        preflight.check_paths(cfg, ('val',))
    cfg.val_dataloader = cfg.train_dataloader
    with pytest.raises(UserError, match="val_evaluator is 'CocoMetric': expected the settings of"):
        preflight.check_paths(cfg, ('val',))


def test_more_top_classes_than_there_are():
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(head=dict(num_classes=3)),
            val_evaluator=dict(type='Accuracy', topk=(1, 5)),
        )
    )
    with pytest.raises(UserError, match=r'val_evaluator.topk is .1, 5., but the model has 3'):
        preflight.check_paths(cfg, ('val',))


@pytest.mark.parametrize(
    'settings, where',
    [
        (dict(train_cfg=dict(max_iters=-5)), 'train_cfg.max_iters'),
        (dict(train_cfg=dict(max_epochs=0)), 'train_cfg.max_epochs'),
        (dict(train_cfg=dict(max_epochs=1, val_interval=0)), 'train_cfg.val_interval'),
        (dict(default_hooks=dict(logger=dict(interval=0))), 'default_hooks.logger.interval'),
        (dict(custom_hooks=[dict(interval='ten')]), 'custom_hooks.0.interval'),
    ],
)
def test_a_run_that_would_do_nothing(settings, where):
    with pytest.raises(UserError, match=f'{where} is .*: expected a positive whole number'):
        preflight.check_settings(Config(dict(model={}, **settings)))


def test_settings_that_cannot_be_meant():
    endless = dict(
        train_cfg=dict(by_epoch=True, max_epochs=1),
        train_dataloader=dict(sampler=dict(type='mmengine.InfiniteSampler')),
    )
    for settings, message in (
        ({}, 'has no model'),
        (dict(model=dict(loss_weight=float('nan'))), 'model.loss_weight is nan'),
        (dict(model=dict(data_preprocessor=dict(std=[1, 0, 1]))), 'data_preprocessor.std .* be 0'),
        (dict(model={}, **endless), 'InfiniteSampler, whose first epoch would never end'),
    ):
        with pytest.raises(UserError, match=message):
            preflight.check_settings(Config(settings))
    endless['train_dataloader']['num_batch_per_epoch'] = 2
    preflight.check_settings(Config(dict(model={}, **endless)))


def test_intervals_that_mean_never():
    hooks = dict(checkpoint=dict(interval=-1), visualization=dict(interval=None))
    assert not preflight.check_settings(Config(dict(model={}, default_hooks=hooks)))


def test_a_misspelt_setting_of_a_config():
    settings = dict(model={}, optim_wraper={}, optim_wrapper={}, train_pipeline=[])
    assert preflight.check_settings(Config(settings)) == [
        'nothing reads optim_wraper of the config; did you mean optim_wrapper?'
    ]


def test_folders_of_classes():
    class Folders:
        def __init__(self, *names, **metainfo):
            self.folder_to_idx = {name: i for i, name in enumerate(names)}
            self.metainfo = metainfo

    same = dict(train=Folders('cat', 'dog'), val=Folders('cat', 'dog'), other=object())
    preflight.check_folders_of_classes(same)
    preflight.check_folders_of_classes({})
    with pytest.raises(UserError, match='train and val take .* not the same ones: cow, dog in one'):
        preflight.check_folders_of_classes({**same, 'val': Folders('cat', 'cow')})
    for classes in ('dog', 'cat'), ('cat', 'cow'):
        wrong = dict(train=Folders('cat', 'dog', classes=classes))
        with pytest.raises(UserError, match='numbered by the folders, .*: cat, dog; name them so'):
            preflight.check_folders_of_classes(wrong)
    named = dict(train=Folders('cat', 'dog', classes=('Katze', 'Hund')))
    preflight.check_folders_of_classes(named)
