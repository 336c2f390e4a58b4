"""What a data pipeline of a host can name of this project."""

from __future__ import annotations

from typing import Any

from mmcv.transforms import BaseTransform

from mmvitx.errors import UserError
from mmvitx.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CheckSegMap(BaseTransform):
    """Refuse a label map that does not fit its image or the classes, by the name of its file.

    Without it a label too large ends training on a GPU with an assertion that names nothing. It
    stands right behind ``LoadAnnotations`` of MMSegmentation, where ``tools/train.py`` and
    ``tools/test.py`` put it, and lets pass what has no label map.

    Args:
        num_classes: Number of classes.
        ignore_index: The label that is none.

    Raises:
        UserError: In ``transform``.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255):
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Check ``gt_seg_map`` (H, W) uint8 against ``ori_shape``; change nothing."""
        labels = results.get('gt_seg_map')
        if labels is None:
            return results
        name, size = f'the label map {results["seg_map_path"]}', tuple(results['ori_shape'][:2])
        if labels.ndim != 2:
            raise UserError(
                f'{name} is a picture of shape {labels.shape}: expected one number a pixel, as in '
                'a PNG of grey levels or of palette indices'
            )
        if labels.shape != size:
            raise UserError(
                f'{name} has {labels.shape[1]} x {labels.shape[0]} pixels, but its image '
                f'{results["img_path"]} has {size[1]} x {size[0]}'
            )
        wrong = labels[(labels >= self.num_classes) & (labels != self.ignore_index)]
        if len(wrong):
            raise UserError(
                f'{name} holds the label {wrong.max()}: expected 0 to {self.num_classes - 1}, for '
                f'{self.num_classes} classes, or {self.ignore_index} where there is none'
            )
        return results
