"""Hard distillation, as in DeiT (arXiv 2012.12877) and CaiT (arXiv 2103.17239)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain import get_model
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from mmvitx.checkpoints import CheckpointError
from mmvitx.checkpoints.fitting import fit
from mmvitx.checkpoints.schemes import find_weights, read_checkpoint
from mmvitx.errors import UserError


class DistilledImageClassifier(ImageClassifier):
    r"""mmpretrain's ImageClassifier that learns from a teacher as well, by hard distillation.

    .. math:: (1 - \alpha) \, \mathrm{loss}(z, y) + \alpha \, \mathrm{CE}(z, \arg\max_k z^t_k)

    with the logits z of the student and :math:`z^t` of the teacher on the same images, augmented
    and mixed. (3) of DeiT, on the one class token that CaiT has.

    The teacher is no part of the model: it has no place in ``state_dict``, in the parameters or in
    a copy (mmengine's moving average), stays in eval mode and gets no gradient. It is loaded when a
    training begins; evaluating needs none, and a checkpoint is that of an ImageClassifier.

    Args:
        teacher: ``config`` and ``checkpoint`` of any classifier of mmpretrain: a name of its index,
            the path of a config, or a dict with the ``model`` (and ``data_preprocessor``, by which
            its images are normalized); a file, an address or ``mmvitx://`` and a name. A model that
            gets its weights by itself (timm's with ``pretrained=True``) needs no checkpoint.
        alpha: Weight of the teacher, 0..1.
        **settings: Those of mmpretrain's ImageClassifier.

    Raises:
        UserError: The teacher has not one setting of these, or another number of classes.
        CheckpointError: Its checkpoint cannot be read, or has not all its weights.
    """

    def __init__(self, teacher: Mapping, alpha: float = 0.5, **settings: Any):
        super().__init__(**settings)
        if not isinstance(teacher, Mapping) or not {'config'} <= {*teacher} <= {
            'config',
            'checkpoint',
        }:
            raise UserError(
                'teacher must be a dict with its config and checkpoint, as dict('
                "config='resnet50_8xb32_in1k', checkpoint='resnet50.pth'), not "
                f'{teacher!r}'
            )
        if not 0 <= alpha <= 1:
            raise UserError(f'alpha, the weight of the teacher, must be in 0..1, not {alpha}')
        self.teacher_settings = dict(teacher)
        self.alpha = alpha
        self._hold(None)

    @property
    def teacher(self) -> nn.Module | None:
        """The teacher, once it is loaded."""
        return self._held[0]

    def _hold(self, teacher):
        self._held = (teacher,)  # in a tuple, where a module is no submodule

    def init_weights(self) -> None:
        """Initialize the student, and load the teacher: a training begins."""
        super().init_weights()
        self.load_teacher()

    def load_teacher(self) -> nn.Module:
        """Load the teacher, unless it is there, to where the student is."""
        if self.teacher is not None:
            return self.teacher
        config, checkpoint = (self.teacher_settings.get(key) for key in ('config', 'checkpoint'))
        try:
            teacher = get_model(Config(config) if isinstance(config, Mapping) else config)
        except (ValueError, OSError) as e:
            raise UserError(f'the teacher {config!r} cannot be built: {e}') from e
        if checkpoint:
            self._load_weights(teacher, checkpoint)
        elif not teacher._config.model.get('pretrained'):
            raise UserError(
                'the teacher has no weights: name its checkpoint in '
                'model.teacher.checkpoint, as a file, an address or mmvitx://NAME'
            )
        ours, theirs = _num_classes(self), _num_classes(teacher)
        if None not in (ours, theirs) and ours != theirs:
            raise UserError(
                f'the teacher has {theirs} classes and the student {ours} '
                '(model.head.num_classes): distillation needs a teacher of the same classes'
            )
        teacher.eval().requires_grad_(False)
        self._hold(teacher.to(next(self.parameters()).device))
        return teacher

    @staticmethod
    def _load_weights(teacher, path):
        checkpoint, _ = read_checkpoint(path)
        source = f'the checkpoint {path} of the teacher'
        result = fit(find_weights(checkpoint), teacher, source)
        if result.missing:
            raise CheckpointError(f'{source} has not all its weights: {result.report(teacher)}')
        teacher.load_state_dict(result.taken, strict=False)
        meta = checkpoint.get('meta') or {}
        teacher.classes = (meta.get('dataset_meta') or {}).get('classes')

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            inputs: Images (B, C, H, W) as the student's data preprocessor puts them out.
            data_samples: mmpretrain's, one an image.

        Returns:
            Those of the head, weighted, and ``loss_distill``.
        """
        feats = self.extract_feat(inputs)
        losses = {
            name: value * (1 - self.alpha) if 'loss' in name else value
            for name, value in self.head.loss(feats, data_samples).items()
        }
        labels = self.ask_teacher(inputs)
        losses['loss_distill'] = self.alpha * F.cross_entropy(self.head(feats).float(), labels)
        return losses

    @torch.no_grad()
    def ask_teacher(self, inputs: Tensor) -> Tensor:
        """Classify images (B, C, H, W), as the student gets them, by the teacher: labels (B,)."""
        teacher = self.load_teacher()
        if teacher._config.model.get('data_preprocessor'):  # else it takes what the student takes
            inputs = _convert(inputs, self.data_preprocessor, teacher.data_preprocessor)
        return teacher(inputs, mode='tensor').argmax(1)

    def _apply(self, fn, *args, **kwargs):
        if self.teacher is not None:
            self.teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def __getstate__(self):
        """Leave the teacher behind: a copy, as that of a moving average, asks nobody."""
        return {**self.__dict__, '_held': (None,)}


def _num_classes(model):
    """Find how many classes a classifier has: mmpretrain's own, or one of timm in it."""
    for part in (getattr(model, 'head', None), getattr(model, 'model', None)):
        if getattr(part, 'num_classes', None):
            return part.num_classes
    return None


def _convert(images, source, target):
    """Take images from what one ClsDataPreprocessor puts out to what another does."""
    if source._enable_normalize:
        images = images * source.std + source.mean
    if source.to_rgb != target.to_rgb:
        images = images.flip(1)
    if target._enable_normalize:
        images = (images - target.mean) / target.std
    return images
