"""What becomes of an image file that cannot be read."""

from __future__ import annotations

import functools
import traceback
from logging import WARNING

import cv2
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from mmvitx.errors import UserError


def name_unreadable_images() -> None:
    """Make the hosts' ``LoadImageFromFile`` name a file that it cannot read, or skip it.

    On its own, ``ignore_empty=True`` skips an image whatever the error is, a failing network or a
    missing library included; without it, the error does not name a file that is empty or that the
    decoder refuses. After this call ``ignore_empty=True`` skips only files that are missing or that
    the decoder refuses, with a warning (in a training, whose datasets then take another image;
    those of evaluations refuse). Without it these are an error of one sentence. Any other error is
    raised as it is.
    """
    load = LoadImageFromFile.transform
    if hasattr(load, '__wrapped__'):
        return

    skipped = set()

    @functools.wraps(load)
    def transform(self, results):
        path = results['img_path']
        skip, self.ignore_empty = self.ignore_empty, False
        try:
            return load(self, results)
        except PermissionError as e:
            raise UserError(
                f'no permission to read the image {path}: change its permissions'
            ) from e
        except Exception as e:
            if isinstance(e, FileNotFoundError):
                reason = 'no such file'
            elif _is_refused_by_decoder(e):
                reason = 'no image, or damaged'
            else:
                raise
            if not skip:
                raise UserError(
                    f'the image {path} cannot be read ({reason}): mend or remove it, or have a '
                    'training skip such images with ignore_empty=True in its LoadImageFromFile'
                ) from e
            skipped.add(path)
            print_log(
                f'skipping the image {path}: {reason}; {len(skipped)} so far in this process',
                logger='current',
                level=WARNING,
            )
            return None
        finally:
            self.ignore_empty = skip

    LoadImageFromFile.transform = transform


def _is_refused_by_decoder(error: Exception) -> bool:
    """Whether the decoder refused the content; else storage, a library or a setting failed.

    OpenCV raises ``cv2.error`` or returns None, on which the transform asserts. Other decoders
    raise any exception, from below ``mmcv.imfrombytes``. A library that is not installed
    (``None.open``) and a wrong setting fail in that function itself.
    """
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, (ImportError, MemoryError)):
        return False
    return (
        isinstance(error, cv2.error)
        or (isinstance(error, AssertionError) and names[-1] == 'transform')
        or 'imfrombytes' in names[:-1]
    )
