"""Export a backbone for images of any size and number, and check the file against the model."""

from __future__ import annotations

import importlib.util
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmvitx.checkpoints import fitting
from mmvitx.checkpoints.schemes import find_weights, read_checkpoint
from mmvitx.engine.files import check_target, unfinished
from mmvitx.engine.measure import difference
from mmvitx.errors import UserError, first_line
from mmvitx.models.layers import TalkingHeadsAttention
from mmvitx.models.names import find_model

TRACED = (2, 224, 288)  # batch, height and width
CHECKED = ((1, 97, 130), (2, 160, 96), (3, 75, 259), (1, 480, 640))
TOLERANCE = 1e-4  # of the difference over the standard deviation
CUBIC = -0.75  # PyTorch's cubic
PYRAMID = {'pyramid', 'tap_norms'}  # parts that no classifier has
PACKAGES = {'.onnx': ('onnx', 'onnxscript', 'onnxruntime'), '.pt2': ()}


def build(
    name: str,
    checkpoint: str | None = None,
    out_type: str = 'featmap',
    settings: Mapping[str, object] | None = None,
) -> nn.Module:
    """Build a backbone to export, in eval mode.

    Args:
        name: As ``coat_small``, or a published name with a size in it, as ``cait_s24_384``.
        checkpoint: A file, an address or ``mmvitx://NAME``: of the backbone or of a whole model;
            None for random weights.
        out_type: Of the backbone.
        settings: More of the backbone's settings.

    Raises:
        UserError: There is no such model, setting or checkpoint, the checkpoint has not all of the
            weights, or the model cannot be exported for all sizes.
    """
    family, arch, size = find_model(name)
    settings = dict(settings or {})
    if 'img_size' in inspect.signature(family).parameters:
        settings.setdefault('img_size', size)
    for key, option in dict(arch='MODEL', out_type='--out-type', init_cfg='--checkpoint').items():
        if key in settings:
            raise UserError(f'{key} is set by {option}, not by --cfg-options')
    try:
        model = family(arch, out_type=out_type, **settings)
    except (TypeError, ValueError) as e:
        raise UserError(f'{name} cannot be built: {e}') from e
    attentions = (m for m in model.modules() if isinstance(m, TalkingHeadsAttention))
    if any(m.window_size is not None for m in attentions):
        raise UserError(
            'windowed attention cannot be exported for all sizes, as how many kinds of windows '
            'there are depends on whether the size divides: leave window_size out'
        )
    if checkpoint:
        fill(model, checkpoint)
    return model.eval()


def fill(model: nn.Module, checkpoint: str) -> None:
    """Fill a backbone with the weights of a checkpoint, all of it.

    Raises:
        UserError: There is no such checkpoint, or it lacks some.
    """
    weights = find_weights(read_checkpoint(checkpoint)[0])
    fit = fitting.fit(weights, model, checkpoint)
    report = fit.report(model)
    print(report)
    if fit.missing and {name.split('.')[0] for name in fit.missing} <= PYRAMID:
        raise UserError(
            f'{checkpoint} has no weights of the pyramid, which a {type(model).__name__} learns in '
            'a detector or segmentor only: give --checkpoint the file of one, or choose another '
            '--out-type than featmap'
        )
    if fit.missing:
        raise UserError(
            f'{checkpoint} has not all weights that --out-type {model.out_type} needs: {report}'
        )
    model.load_state_dict(fit.taken, strict=False)


@torch.no_grad()
def record(model: nn.Module) -> torch.export.ExportedProgram:
    """Record a backbone in eval mode, with dynamic batch, height and width.

    Raises:
        UserError: PyTorch cannot export it.
    """
    batch, height, width = TRACED
    images = torch.zeros(batch, model.in_channels, height, width)
    dynamic = torch.export.Dim.DYNAMIC
    with _failing('PyTorch cannot export it'):
        shapes = ({0: dynamic, 2: dynamic, 3: dynamic},)
        return torch.export.export(model, (images,), dynamic_shapes=shapes)


@torch.no_grad()
def write(
    program: torch.export.ExportedProgram,
    path: Path,
    output_names: Sequence[str],
    opset: int | None = None,
) -> None:
    """Write what was recorded.

    Args:
        program: From :func:`record`.
        path: The suffix says what to write: ``.onnx`` or ``.pt2``.
        output_names: Names for the outputs, in ONNX.
        opset: Version of ONNX's operators; PyTorch's default if None.

    Raises:
        UserError: PyTorch cannot export it.
    """
    with _failing(f'PyTorch cannot write it as {path.suffix}'):
        if path.suffix == '.pt2':
            content = io.BytesIO()  # on a full disk PyTorch's own writer aborts the process
            torch.export.save(program, content)
            path.write_bytes(content.getbuffer())
            return
        logging.getLogger('onnxscript').setLevel(logging.ERROR)
        torch.onnx.export(
            program.run_decompositions({torch.ops.aten.upsample_bicubic2d.vec: bicubic}),
            dynamo=True,
            opset_version=opset,
            input_names=['images'],
            output_names=output_names,
            dynamic_shapes=({0: 'batch', 2: 'height', 3: 'width'},),
            verbose=False,
        ).save(path)


@contextmanager
def _failing(what):
    """Make a sentence of whatever an exporter raises, and silence its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the exporters' own deprecated calls
        try:
            yield
        except OSError:
            raise
        except Exception as e:
            raise UserError(f'{what}: {first_line(e)}') from e


def bicubic(
    x: Tensor, size: Sequence[int], align_corners: bool, scale_factors: Sequence[float] | None
) -> Tensor:
    """Resize maps (B, C, H, W) bicubically, rounding places as PyTorch does on a CPU.

    Among 640 pixels float32 leaves a place uncertain by some 1e-4, and ONNX's own Resize rounds
    otherwise: in images of noise the results differ by 2e-4 of the standard deviation and more.
    """
    assert not align_corners and scale_factors is None, 'so the backbones resize'
    for axis, side in zip((3, 2), reversed(size)):
        old = x.shape[axis]
        scale = torch.full((1,), old, dtype=torch.float32) / side
        # PyTorch's loop multiplies and subtracts with one rounding, which is that of float64.
        place = (scale.double() * (torch.arange(side).double() + 0.5) - 0.5).float()
        left = place.floor()
        t = place - left
        weights = _far(t + 1), _near(t), _near(1 - t), _far(2 - t)
        x = sum(
            x.index_select(axis, (left.long() + i).clamp(0, old - 1))
            * (weight if axis == 3 else weight[:, None])
            for i, weight in enumerate(weights, start=-1)
        )
    return x


def _near(t):
    """Weigh a pixel at a distance t <= 1, by the cubic of A = -0.75."""
    return ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1


def _far(t):
    """Weigh a pixel at a distance 1 <= t <= 2."""
    return ((CUBIC * t - 5 * CUBIC) * t + 8 * CUBIC) * t - 4 * CUBIC


def output_names(model: nn.Module) -> list[str]:
    """Name the outputs: maps by their stride."""
    if model.out_type == 'featmap':
        return [f'stride_{stride}' for stride in model.strides]
    if model.out_type == 'cls_token':
        return ['cls_token']
    return [f'tokens_{i}' for i in range(len(model.out_channels))]


def load(path: Path) -> Callable[[Tensor], Sequence[Tensor]]:
    """Load what was written, to be run on a CPU."""
    if path.suffix == '.pt2':
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of buffers that nothing writes to
            return torch.export.load(path).module()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return lambda images: [
        torch.from_numpy(out) for out in session.run(None, {'images': images.numpy()})
    ]


@torch.no_grad()
def check(model: nn.Module, path: Path, tolerance: float = TOLERANCE) -> None:
    """Compare a file with the model at several sizes, and print a table.

    Raises:
        UserError: It cannot be loaded or run, or differs at one of the sizes.
    """
    print(f'{"batch":>5} {"height":>6} {"width":>5}  difference / std')
    worst = 0.0
    try:
        run = load(path)
        for batch, height, width in CHECKED:
            generator = np.random.default_rng(0)
            numbers = generator.standard_normal((batch, model.in_channels, height, width))
            images = torch.from_numpy(numbers.astype('float32'))
            found = difference(run(images), model(images))
            print(f'{batch:5} {height:6} {width:5}  {found:.1e}')
            worst = max(worst, found)
    except Exception as e:  # whatever a runtime raises
        raise UserError(f'the exported file does not run: {first_line(e)}') from e
    if worst > tolerance:
        raise UserError(
            f'the exported file differs from the model by {worst:.1e} of the standard deviation, '
            f'more than {tolerance}: it was not kept'
        )


def export(
    name: str,
    path: Path,
    checkpoint: str | None = None,
    out_type: str = 'featmap',
    settings: Mapping[str, object] | None = None,
    opset: int | None = None,
    force: bool = False,
) -> None:
    """Build a backbone, write it to a file and compare the two.

    Args:
        name: See :func:`build`, also for ``checkpoint``, ``out_type`` and ``settings``.
        path: The file to write, ``*.onnx`` or ``*.pt2``.
        checkpoint: Weights.
        out_type: Of the backbone.
        settings: More of the backbone's settings.
        opset: Version of ONNX's operators; PyTorch's default if None.
        force: Whether a file that exists is overwritten.

    Raises:
        UserError: In one sentence, whatever does not fit; then no file is left.
    """
    suffix = path.suffix
    if suffix not in PACKAGES:
        raise UserError(f'{path}: the name must end in {" or ".join(PACKAGES)}')
    absent = [name for name in PACKAGES[suffix] if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(f'{suffix} needs {", ".join(absent)}: pip install {" ".join(absent)}')
    if opset is not None and suffix != '.onnx':
        raise UserError('--opset is for a file *.onnx')
    if opset is not None and opset < 7:
        raise UserError(f'--opset {opset}: PyTorch writes 7 and later')
    check_target(path, force)
    model = build(name, checkpoint, out_type, settings)
    if not checkpoint:
        print('Without --checkpoint the weights are random.')
    with unfinished(path) as part:
        print('Recording it takes a minute or so.')
        write(record(model), part, output_names(model), opset)
        check(model, part)
    print(f'written: {path}')
