"""Which images a training skips on request, and what stops it nevertheless."""

from __future__ import annotations

import errno
import re

import cv2
import numpy as np
import pytest
from mmcv.image import io as mmcv_io
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio

from mmvitx.datasets import unreadable
from mmvitx.datasets.unreadable import name_unreadable_images
from mmvitx.errors import UserError


@pytest.fixture(autouse=True)
def wrapped(monkeypatch):
    """Each test wraps the transform anew, and leaves mmcv's own behind."""
    original = LoadImageFromFile.transform
    original = getattr(original, '__wrapped__', original)
    monkeypatch.setattr(LoadImageFromFile, 'transform', original)
    name_unreadable_images()


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    return path


def load(path, skip, backend='cv2'):
    transform = LoadImageFromFile(imdecode_backend=backend, ignore_empty=skip)
    return transform(dict(img_path=str(path)))


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('spoiled', ['missing', 'empty', 'text', 'cut off'])
def test_missing_and_damaged_files_are_skipped_or_named(image, spoiled, backend, monkeypatch):
    assert load(image, False, backend)['img'].shape == (32, 32, 3)
    content = dict(empty=b'', text=b'<html>404</html>').get(spoiled, image.read_bytes()[:60])
    image.unlink() if spoiled == 'missing' else image.write_bytes(content)
    lines = []
    monkeypatch.setattr(unreadable, 'print_log', lambda text, **kwargs: lines.append(text))
    assert load(image, True, backend) is None
    assert load(image, True, backend) is None
    reason = 'no such file' if spoiled == 'missing' else 'no image, or damaged'
    assert lines == [f'skipping the image {image}: {reason}; 1 so far in this process'] * 2
    with pytest.raises(UserError, match=rf'a.png cannot be read \({reason}\): mend or remove it'):
        load(image, False, backend)


@pytest.mark.parametrize('skip', [True, False])
@pytest.mark.parametrize(
    'error',
    [
        ConnectionResetError(errno.ECONNRESET, 'Connection reset by peer'),
        TimeoutError('the object store does not answer'),
        OSError(errno.EIO, 'Input/output error'),
        RuntimeError('AccessDenied'),
        AssertionError('no such bucket'),
        ImportError('Please install boto3'),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_the_storage_pass_through(image, monkeypatch, error, skip):
    def get(*args, **kwargs):
        raise error

    monkeypatch.setattr(fileio, 'get', get)
    with pytest.raises(type(error)) as raised:
        load(image, skip)
    assert raised.value is error


@pytest.mark.parametrize('skip', [True, False])
def test_no_permission_is_a_sentence_and_not_skipped(image, monkeypatch, skip):
    def get(*args, **kwargs):  # root, who may run this, reads everything
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(fileio, 'get', get)
    with pytest.raises(UserError, match=f'no permission to read the image {re.escape(str(image))}'):
        load(image, skip)


@pytest.mark.parametrize(
    ('backend', 'name'), [('pillow', 'Image'), ('turbojpeg', 'jpeg'), ('tifffile', 'tifffile')]
)
def test_a_missing_library_is_not_the_image(image, monkeypatch, backend, name):
    monkeypatch.setattr(mmcv_io, name, None)  # as mmcv leaves it where it cannot import it
    with pytest.raises(AttributeError, match='NoneType'):
        load(image, True, backend)


@pytest.mark.parametrize('error', [MemoryError(), ImportError('no codec')])
def test_what_happens_to_a_decoder_is_not_the_image(image, monkeypatch, error):
    def read(buffer):
        raise error

    monkeypatch.setattr(mmcv_io, 'tifffile', type('tifffile', (), dict(imread=read)))
    with pytest.raises(type(error)):
        load(image, True, 'tifffile')


def test_a_wrong_setting_is_not_the_image(image):
    transform = LoadImageFromFile(color_type='colour', ignore_empty=True)
    with pytest.raises(KeyError, match='colour'):
        transform(dict(img_path=str(image)))
