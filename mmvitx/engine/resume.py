"""Going on with a training: from which checkpoint, of which run, and at which place."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.logging import print_log
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmvitx.checkpoints import CheckpointError, load_file
from mmvitx.checkpoints.fitting import fit
from mmvitx.checkpoints.loading import DamagedCheckpointError
from mmvitx.checkpoints.schemes import is_readable
from mmvitx.engine.batches import guard_workers, make_resumable
from mmvitx.engine.cli import is_first_process
from mmvitx.engine.configs import walk
from mmvitx.engine.files import UNFINISHED
from mmvitx.engine.hooks.checkpoint import describe_settings
from mmvitx.engine.weights import Weights, lacks

NEEDED = {'meta', 'message_hub', 'optimizer', 'state_dict'}  # of a checkpoint, to go on from it
# What keeps images, or a size, from one sample or batch to the next.
WITH_MEMORY = 'CachedMosaic', 'CachedMixUp', 'BatchSyncRandomResize'


def choose_checkpoint(cfg: Config) -> None:
    """Let a run go on from the newest checkpoint in its work dir; if there is none, let it begin.

    Args:
        cfg: The config, with its ``work_dir``; ``resume`` and ``load_from`` are set.
    """
    path = find_checkpoint(cfg.work_dir)
    cfg.resume = path is not None
    if path is None:
        _say(f'There is no checkpoint in {cfg.work_dir} to go on from')
    else:
        cfg.load_from = path


def find_weights(work_dir: str) -> str | None:
    """Find what to evaluate of a run: its best checkpoint, or the newest; None if there is none."""
    best = find_checkpoint(work_dir, {'state_dict'}, 'best_*.pth')
    return best or find_checkpoint(work_dir, {'state_dict'})


def find_checkpoint(work_dir: str, needed: Set[str] = NEEDED, pattern: str = '*.pth') -> str | None:
    """Find the newest complete checkpoint of a run: the one that was saved last.

    It is looked for in the work dir, wherever that has been moved to; if there is none, in the
    folder that ``last_checkpoint`` names, where a checkpoint hook has an ``out_dir``. A file that
    is cut off or damaged is passed over with a line. In an object store ``last_checkpoint`` is
    trusted.

    Args:
        work_dir: Folder of the run; it need not exist.
        needed: What the checkpoint has to hold.
        pattern: What the names of the files have to match.

    Returns:
        Its path or address; None if there is none.

    Raises:
        CheckpointError: What ``last_checkpoint`` names holds types that are not allowed, or no
            state of an optimizer; or there are only such files.
    """
    folders, refused, named = [Path(work_dir)], {}, None
    note = folders[0] / 'last_checkpoint'
    path = note.read_text().strip() if note.is_file() else ''
    if not is_readable(path):
        return path
    if path:
        named = Path(path)
        folders.append(named.parent)
    for folder in folders:
        found = []
        for path in folder.glob(pattern):
            if UNFINISHED in path.name:
                continue
            try:
                checkpoint = load_file(path, mmap=True)
            except DamagedCheckpointError as e:
                _say(f'passing over a checkpoint: {e}')
            except CheckpointError as e:
                refused[path.name] = e
            else:
                keys = checkpoint.keys() if isinstance(checkpoint, dict) else set()
                if keys >= needed:
                    meta = checkpoint.get('meta', {})
                    # of an earlier run in the same folder there may be some with more iterations
                    found.append((meta.get('time', ''), meta.get('iter', 0), path))
                elif keys >= needed - {'optimizer'}:
                    refused[path.name] = lacks({'optimizer'}, path)
        if named and named.name in refused:
            raise refused[named.name]
        for *_, path in sorted(found, reverse=True):
            try:
                load_file(path)
            except DamagedCheckpointError as e:
                _say(f'passing over a checkpoint: {e}')
            else:
                return str(path)
    for error in refused.values():
        raise error
    return None


def _say(text):
    if is_first_process():
        print(text)


def check_same_run(weights: Weights, runner: Runner) -> None:
    """Check that a checkpoint is of the run that goes on from it.

    What differs and does not matter is left; a setting that the checkpoint overrides is logged.

    Args:
        weights: What the checkpoint holds.
        runner: The runner, before it trains.

    Raises:
        CheckpointError: The model, the kind of the optimizer or that of the schedules is another.
    """
    before, now = weights.progress.get('settings', {}), describe_settings(runner.cfg)
    changes = dict(_compare(before, now, '')) if before else {}
    result = fit(weights.state_dict, runner.model, weights.source)
    shapes = [name for name, why in result.dropped.items() if why == 'of another shape']
    if shapes or {*result.missing} & {name for name, _ in runner.model.named_parameters()}:
        raise CheckpointError(
            f'{weights.source} is of another model ('
            + (_list(changes, 'model') or f'{(shapes + result.missing)[0]} differs')
            + '): a run goes on with the same one; to start a new one from these weights leave '
            f'--resume out and give --cfg-options load_from={weights.source}'
        )
    kinds = {
        name: change
        for name, change in changes.items()
        if name == 'optim_wrapper.optimizer.type'
        or (name.startswith('param_scheduler') and (name.endswith('.type') or _is_missing(change)))
    }
    if kinds:
        raise CheckpointError(
            f'{weights.source} is of another run ({_list(kinds)}): its optimizer and schedules go '
            f'on with the state that they had; to start a new one from its weights leave --resume '
            f'out and give --cfg-options load_from={weights.source}'
        )
    kept = _list(changes, 'optim_wrapper.optimizer', 'param_scheduler')
    if kept:
        print_log(
            f'The checkpoint goes on with its own settings ({kept}): to change them start a new '
            f'run from its weights, with --cfg-options load_from={weights.source}',
            logger='current',
        )


def _compare(before: Any, now: Any, name: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the names of settings that differ, each with what it was and is; None if not there."""
    pairs = [
        dict(enumerate(each)) if isinstance(each, list) and each else each for each in (before, now)
    ]
    if all(isinstance(each, dict) for each in pairs):
        for key in {**pairs[0], **pairs[1]}:
            path = f'{name}.{key}' if name else str(key)
            yield from _compare(pairs[0].get(key), pairs[1].get(key), path)
    elif before != now:
        yield name, (before, now)


def _is_missing(change):
    """Whether a whole scheduler, or all of them, was added or removed; not just a setting."""
    return None in change and any(isinstance(each, (dict, list)) for each in change)


def _list(changes, *starts):
    found = [
        f'{name} was {before!r} and is {now!r}'
        for name, (before, now) in changes.items()
        if not starts or name.startswith(starts)
    ]
    return '; '.join(found[:3]) + (f'; and {len(found) - 3} more' if len(found) > 3 else '')


def prepare_data(runner: Runner, weights: Weights | None) -> None:
    """Let the loader of a training begin where a checkpoint was written.

    Args:
        runner: The runner, before it trains, with its loader.
        weights: Of the checkpoint that it goes on from; None at the beginning of a run.
    """
    loader = runner._train_dataloader
    if not isinstance(loader, DataLoader):
        return  # a custom loop's own
    guard_workers(loader)
    batches = make_resumable(loader, runner.seed)
    kept = [name for name in WITH_MEMORY if f"{name}'" in str(runner.cfg.to_dict())]
    if kept:
        print_log(
            f'{" and ".join(kept)} remember earlier images: a run that was interrupted and resumed '
            'does not end with exactly the weights of one that was not',
            logger='current',
        )
    if batches is None or weights is None:
        return
    epoch, iterations = weights.meta['epoch'], weights.meta['iter']
    if _counts_iterations(runner._train_loop):
        batches.go_to(0, iterations)
    else:
        number = iterations - epoch * len(batches)
        if not 0 <= number <= len(batches):
            print_log('the number of images has changed: the epoch begins anew', logger='current')
            number = 0
        batches.go_to(epoch, number)


def _counts_iterations(train_cfg):
    kind = train_cfg.get('type')
    if kind is None:
        return not train_cfg.get('by_epoch', True)
    if isinstance(kind, str):
        with LOOPS.switch_scope_and_registry(None) as loops:  # that of the host
            kind = loops.get(kind)
    return issubclass(kind, IterBasedTrainLoop)


def estimate_size(runner: Runner, weights: Weights | None) -> int:
    """Estimate the bytes of a checkpoint: weights, an EMA, and the state of the optimizer.

    Args:
        runner: The runner, before it trains.
        weights: Of the checkpoint that it goes on from, if any, whose size it is then.
    """
    if weights is not None:
        return Path(weights.source).stat().st_size
    model = sum(value.nbytes for value in runner.model.state_dict().values())
    trained = sum(value.nbytes for value in runner.model.parameters() if value.requires_grad)
    optimizer = dict(walk(runner.cfg.optim_wrapper)).get('optimizer')
    optimizer = optimizer if isinstance(optimizer, dict) else {}
    copies = 1 if 'momentum' in optimizer else 0 if optimizer.get('type') == 'SGD' else 2
    averages = sum(isinstance(hook, EMAHook) for hook in runner.hooks)
    return model * (1 + averages) + trained * copies
