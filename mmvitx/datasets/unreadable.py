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
    """Let the hosts' ``LoadImageFromFile`` name a file that it cannot read, or skip it.

    By itself it skips everything if it has ``ignore_empty=True``, even what a failing network or a
    missing library keeps it from reading, and else names neither an empty file nor one that its
    decoder refuses. With this, ``ignore_empty=True`` skips files that are missing or that the
    decoder refuses, with a warning (in a training, whose datasets then take another image; those of
    evaluations refuse), and else the error is one sentence. Any other error passes through.
    """
    load = LoadImageFromFile.transform
    if hasattr(load, '__wrapped__'):
        return

    @functools.wraps(load)
    def transform(self, results):
        path = results['img_path']
        skip, self.ignore_empty = self.ignore_empty, False
        try:
            return load(self, results)
        except PermissionError as e:
            raise UserError(
                f'no permission to read the image {path}: give yourself the right to read it'
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
            print_log(f'skipping the image {path}: {reason}', logger='current', level=WARNING)
            return None
        finally:
            self.ignore_empty = skip

    LoadImageFromFile.transform = transform


def _is_refused_by_decoder(error: Exception) -> bool:
    """Whether an error is a decoder's, not that of the storage, of a library or of a setting.

    OpenCV raises its own errors, or gives nothing, at which the transform asserts. Other decoders
    raise anything, but deeper than ``mmcv.imfrombytes``, which itself stumbles over what is not
    installed (``None.open``) and over settings.
    """
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, (ImportError, MemoryError)):
        return False
    return (
        isinstance(error, cv2.error)
        or (isinstance(error, AssertionError) and names[-1] == 'transform')
        or 'imfrombytes' in names[:-1]
    )
