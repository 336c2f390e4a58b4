"""The checkpoints that the authors published: where they are, what they hold, how good they are.

A model's name is that of its architecture, for images of 224 pixels (240 of CrossViT); other sizes
are appended. A detector has the name of its config. Sources of addresses, sizes and figures: the
README files of mlpc-ucsd/CoaT, IBM/CrossViT and facebookresearch/deit (CaiT); addresses of timm's
copies, and CaiT's figures at 224: timm 1.0.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

from mmvitx.checkpoints.loading import CheckpointError

SCHEME = 'mmvitx://'


class Published(NamedTuple):
    """A published checkpoint.

    Attributes:
        url: Where the authors have it.
        arch: Family and architecture, as ``coat_small``.
        size: Side of the test images in pixels, None for a detector.
        crop: Part of the resized test image's side that is cut out, with ``size`` pixels left.
        metrics: The authors' figures in percent: ``top-1`` on ImageNet-1k, or ``box AP`` and
            ``mask AP`` on COCO val2017.
        sha256: How the SHA-256 of the file begins, where the authors say so.
        hub: The repository of timm's copy on the Hugging Face hub.
    """

    url: str
    arch: str
    size: int | None
    crop: float | None
    metrics: dict[str, float]
    sha256: str | None = None
    hub: str | None = None


def _coat_classifiers():
    for arch, size, sha256, top1 in (
        ('lite_tiny', 224, 'e88e96b0', 77.5),
        ('lite_mini', 224, '6b4a8ae5', 79.1),
        ('lite_small', 224, '8d362f48', 81.9),
        ('lite_medium', 224, 'a750cd63', 83.6),
        ('lite_medium', 384, 'f9129688', 84.5),
        ('tiny', 224, 'c6efc33c', 78.3),
        ('mini', 224, '40667eec', 81.0),
        ('small', 224, '7479cf9b', 82.1),
    ):
        file = f'coat_{arch}' + (f'_{size}x{size}' if size != 224 else '')
        name = _name('coat', arch, size)
        yield (
            name,
            Published(
                url=f'https://vcl.ucsd.edu/coat/pretrained/{file}_{sha256}.pth',
                arch=f'coat_{arch}',
                size=size,
                crop=0.875,
                metrics={'top-1': top1},
                sha256=sha256,
                hub=f'timm/{name}.in1k',
            ),
        )


def _coat_detectors():
    for detector, file, rows in (
        (
            'mask_rcnn',
            'mask_rcnn_coat_{arch}_mstrain_480-800_adamw_{schedule}_coco',
            (
                ('lite_mini', '1x', '85230aa4', 41.4, 38.0),
                ('lite_mini', '3x', '564e80d7', 42.9, 38.9),
                ('lite_small', '1x', '4c9c3f44', 45.2, 40.7),
                ('lite_small', '3x', 'c7da01b6', 45.7, 41.1),
                ('mini', '1x', '30d8566d', 45.1, 40.6),
                ('mini', '3x', '67e59b6f', 46.5, 41.8),
                ('small', '1x', '7396027e', 46.5, 41.8),
                ('small', '3x', '1152829c', 49.0, 43.7),
            ),
        ),
        (
            'cascade_mask_rcnn',
            'cascade_mask_rcnn_coat_{arch}_mstrain_480-800_giou_4conv1f_adamw_{schedule}_coco',
            (
                ('lite_small', '1x', '2ab58e20', 49.1, 42.5),
                ('lite_small', '3x', '3d224926', 48.9, 42.6),
                ('small', '1x', '3185cd67', 50.4, 43.5),
                ('small', '3x', '4f7a069e', 52.2, 45.1),
            ),
        ),
    ):
        for arch, schedule, sha256, box, mask in rows:
            stem = file.format(arch=arch, schedule=schedule)
            yield (
                f'{detector}_coat_{arch}_{schedule}_coco',
                Published(
                    url=f'https://vcl.ucsd.edu/coat/pretrained/tasks/mmdet/{stem}_{sha256}.pth',
                    arch=f'coat_{arch}',
                    size=None,
                    crop=None,
                    metrics={'box AP': box, 'mask AP': mask},
                    sha256=sha256,
                ),
            )


def _crossvit_classifiers():
    release = 'https://github.com/IBM/CrossViT/releases/download/weights-0.1'
    for arch, size, top1 in (
        ('tiny', 224, 73.4),
        ('small', 224, 81.0),
        ('base', 224, 82.2),
        ('9', 224, 73.9),
        ('15', 224, 81.5),
        ('18', 224, 82.5),
        ('9_dagger', 224, 77.1),
        ('15_dagger', 224, 82.3),
        ('15_dagger', 384, 83.5),
        ('18_dagger', 224, 82.8),
        ('18_dagger', 384, 83.9),
    ):
        pixels = {224: 240, 384: 408}[size]  # they name the size of the coarse branch's view
        yield (
            _name('crossvit', arch, size),
            Published(
                url=f'{release}/crossvit_{arch}_{size}.pth',
                arch=f'crossvit_{arch}',
                size=pixels,
                crop=0.875,
                metrics={'top-1': top1},
                hub=f'timm/crossvit_{arch}_{pixels}.in1k',
            ),
        )


def _cait_classifiers():
    for arch, size, top1 in (
        ('xxs24', 224, 78.4),
        ('xxs24', 384, 80.9),
        ('xxs36', 224, 79.7),
        ('xxs36', 384, 82.2),
        ('xs24', 384, 84.1),
        ('s24', 224, 83.5),
        ('s24', 384, 85.1),
        ('s36', 384, 85.4),
        ('m36', 384, 86.1),
        ('m48', 448, 86.5),
    ):
        yield (
            _name('cait', arch, size),
            Published(
                url=f'https://dl.fbaipublicfiles.com/deit/{arch.upper()}_{size}.pth',
                arch=f'cait_{arch}',
                size=size,
                crop=1.0,
                metrics={'top-1': top1},
                hub=f'timm/cait_{arch}_{size}.fb_dist_in1k',
            ),
        )


def _name(family, arch, size):
    return f'{family}_{arch}' + (f'_{size}' if size != 224 else '')


PUBLISHED: dict[str, Published] = {
    **dict(_coat_classifiers()),
    **dict(_crossvit_classifiers()),
    **dict(_cait_classifiers()),
    **dict(_coat_detectors()),
}


def find_published(name: str) -> Published:
    """Find a published checkpoint.

    Args:
        name: As ``coat_small`` or ``mask_rcnn_coat_small_1x_coco``, with or without ``mmvitx://``.

    Raises:
        CheckpointError: There is none of that name.
    """
    short = name.removeprefix(SCHEME)
    if short in PUBLISHED:
        return PUBLISHED[short]
    similar = [known for known in PUBLISHED if known.startswith(short)]
    similar = similar or difflib.get_close_matches(short, PUBLISHED) or list(PUBLISHED)
    raise CheckpointError(
        f'no published checkpoint is called {short!r}: did you mean {", ".join(similar[:3])}? '
        'docs/weights.md lists them all'
    )
