"""What becomes of an image file that cannot be read."""

from __future__ import annotations

import functools
from logging import WARNING

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from mmvitx.errors import UserError


def name_unreadable_images() -> None:
    """Let the hosts' ``LoadImageFromFile`` name a file that it cannot read, or skip it.

    By itself it skips files that are missing if it has ``ignore_empty=True``, but fails at those
    that are no image, and names neither an empty file nor one that its decoder refuses. With this,
    ``ignore_empty=True`` skips all of them with a warning (in a training, whose datasets then take
    another image; those of evaluations refuse), and else the error is one sentence.
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
        except Exception as e:  # of the file system, or of one of the decoders
            reason = 'no such file' if isinstance(e, FileNotFoundError) else 'no image, or damaged'
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
