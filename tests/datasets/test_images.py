"""Headers of image files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from mmvitx.datasets.images import Header, read_headers


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp'])
@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_opencv_turns_the_same_images(tmp_path, suffix, orientation):
    path = str(tmp_path / f'a.{suffix}')
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (40, 20)).save(path, exif=exif)
    header = read_headers([path])[path]
    assert header == Header(40, 20, orientation, 'RGB')
    assert header.turned == (cv2.imread(path).shape == (40, 20, 3))


def test_what_has_no_header(tmp_path):
    damaged, empty, missing, good = (str(tmp_path / name) for name in 'abcd')
    cv2.imwrite(f'{good}.png', np.zeros((3, 5), np.uint8))
    content = (tmp_path / 'd.png').read_bytes()
    (tmp_path / 'a').write_bytes(content[:20])
    (tmp_path / 'b').touch()
    found = read_headers([damaged, empty, missing, f'{good}.png', empty])
    assert found == {damaged: None, empty: None, missing: None, f'{good}.png': (5, 3, 1, 'L')}
