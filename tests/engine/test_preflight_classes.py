"""What can be wrong with the data of a classifier is one sentence, before the run."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmvitx.engine import cli, preflight
from mmvitx.errors import UserError


@pytest.fixture
def data(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    for split in ('train', 'val'):
        for name in ('bird', 'cat', 'dog'):
            folder = tmp_path / 'data' / split / name
            folder.mkdir(parents=True)
            for i in range(2):
                cv2.imwrite(str(folder / f'{i}.png'), image)
    return tmp_path / 'data'


def config(data, num_classes=3, preprocessor=None, **settings) -> Config:
    def loader(split):
        return dict(
            dataset=dict(type='CustomDataset', data_root=str(data), data_prefix=split, **settings)
        )

    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(type='ImageClassifier', head=dict(num_classes=num_classes)),
            data_preprocessor=dict(num_classes=preprocessor or num_classes),
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
            val_evaluator=dict(type='Accuracy', topk=(1,)),
        )
    )


def check(cfg):
    preflight.check_data(cfg, ('train', 'val'))


def test_folders_of_classes(data):
    check(config(data))
    check(config(data, metainfo=dict(classes=('bird', 'cat', 'dog'))))


def test_number_of_classes(data):
    with pytest.raises(UserError, match=r'3 classes \(bird, cat, dog\) but model.head.num_classes'):
        check(config(data, num_classes=10))
    with pytest.raises(UserError, match='but data_preprocessor.num_classes is 4'):
        check(config(data, preprocessor=4))


def test_folders_are_missing(data):
    classes = dict(metainfo=dict(classes=('bird', 'cat', 'cow', 'dog')))
    with pytest.raises(UserError, match='holds 3 folders .* 4 classes, of which are missing: cow'):
        check(config(data, num_classes=4, **classes))
    shutil.rmtree(data / 'val/cat')
    with pytest.raises(UserError, match='not the same folders of classes: cat in one of them'):
        check(config(data, num_classes=3))
    (data / 'val/cat').mkdir()
    with pytest.raises(UserError, match='no images of cat in .*val'):
        check(config(data))
    shutil.rmtree(data / 'train')
    with pytest.raises(UserError, match='image folder .*train does not exist'):
        check(config(data))
    (data / 'train').mkdir()
    with pytest.raises(UserError, match='train holds no folders: expected one a class, as .*cat'):
        check(config(data))


def test_a_folder_of_imagenet_is_missing(tmp_path):
    (tmp_path / 'train').mkdir()
    cfg = config(tmp_path, 1000)
    cfg.train_dataloader.dataset = dict(type='ImageNet', data_root=str(tmp_path), split='train')
    cfg.val_dataloader.dataset = dict(type='ImageNet', data_root=str(tmp_path), split='val')
    with pytest.raises(UserError, match='train holds no folders'):
        check(cfg)
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text('n01440764/a.JPEG 0\n')
    with pytest.raises(UserError, match='image folder .*val does not exist'):
        check(cfg)


def test_classes_in_another_order_than_the_folders(data):
    for classes in (('dog', 'cat', 'bird'), ('bird', 'cat', 'cow')):
        with pytest.raises(UserError, match='numbered by the folders .* bird, cat, dog; name them'):
            check(config(data, metainfo=dict(classes=classes)))
    check(config(data, metainfo=dict(classes=('Vogel', 'Katze', 'Hund'))))  # names for them


def test_a_folder_without_images(data):
    for path in (data / 'val/cat').iterdir():
        path.rename(path.with_suffix('.txt'))
    with pytest.raises(UserError, match='no images of cat in .*val'):
        check(config(data))


def test_a_list_without_names_of_classes(data):
    (data / 'list.txt').write_text('bird/0.png 0\ncat/0.png 7\n')
    with pytest.raises(UserError, match='line 2 of .*list.txt has the class 7, but .* 3 classes'):
        check(config(data, ann_file='list.txt'))
    (data / 'list.txt').write_text('')
    with pytest.raises(UserError, match=r'list.txt is empty: expected lines as cat/1.jpg 0'):
        check(config(data, ann_file='list.txt'))


def test_labels_in_a_list(data):
    classes = dict(ann_file='list.txt', metainfo=dict(classes=('bird', 'cat', 'dog')))
    for line, message in (
        ('dog/0.png 3', r'line 2 of .*list.txt has the class 3, but .* 3 classes, counted from 0'),
        ('dog/0.png', "line 2 of .*list.txt is 'dog/0.png': expected a file and the number"),
    ):
        (data / 'list.txt').write_text(f'bird/0.png 0\n{line}\n')
        with pytest.raises(UserError, match=message):
            check(config(data, **classes))
    (data / 'list.txt').write_text('bird/0.png 0\ndog/0.png 2\n')
    check(config(data, **classes))


def test_more_top_classes_than_there_are(data):
    cfg = config(data)
    cfg.val_evaluator.topk = (1, 5)
    with pytest.raises(UserError, match=r'val_evaluator.topk is .1, 5., but the model has 3'):
        check(cfg)


def test_evaluations_skip_nothing(data):
    cfg = config(data, pipeline=[dict(type='LoadImageFromFile', ignore_empty=True)])
    preflight.check_data(cfg, ('train',))
    with pytest.raises(UserError, match='ignore_empty skips .* evaluations need all of them'):
        check(cfg)


SPOILED = {'no image': b'text', 'empty': b'', 'missing': None}


@pytest.mark.parametrize('spoiled', SPOILED)
def test_an_image_that_cannot_be_read_is_named(write_config, tiny_data, tool, tmp_path, spoiled):
    """In training and evaluation; on request a training takes another one in its place."""
    data = shutil.copytree(tiny_data, tmp_path / 'data')
    name, content = data / 'images/1.png', SPOILED[spoiled]
    name.unlink() if content is None else name.write_bytes(content)
    config = write_config(tmp_path, 'mmpretrain', root=data)
    with pytest.raises(UserError, match=f'the image {name} cannot be read') as raised:
        tool('train').main([config, '--work-dir', str(tmp_path / 'work')])
    assert '\n' not in str(raised.value)

    skip = 'train_dataloader.dataset.pipeline.0.ignore_empty=True'
    options = ['--cfg-options', skip, f'val_dataloader.dataset.data_root={tiny_data}']
    tool('train').main([config, '--work-dir', str(tmp_path / 'work'), *options])
    with pytest.raises(UserError, match=f'the image {name} cannot be read'):
        tool('test').main(
            [config, str(tmp_path / 'work/epoch_1.pth'), '--work-dir', str(tmp_path / 'work')]
        )


def test_an_error_in_a_worker_is_one_line(monkeypatch, capsys):
    text = 'Caught UserError in DataLoader worker process 0.\nOriginal Traceback:\n  File "a.py"\n'
    monkeypatch.setenv('LOCAL_RANK', '0')

    def main():
        raise UserError(f'{text}mmvitx.errors.UserError: the image a.png cannot be read\n')

    with pytest.raises(SystemExit):
        cli.run(main)
    assert capsys.readouterr().err == 'error: the image a.png cannot be read\n'
