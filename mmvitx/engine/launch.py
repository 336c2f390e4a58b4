"""What ``tools/train.py`` and ``tools/test.py`` share: processes and runner."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, init_dist, master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import RUNNERS, DefaultScope
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from mmvitx.datasets.description import describe as describe_data
from mmvitx.datasets.unreadable import name_unreadable_images
from mmvitx.engine import preflight, resume, signals
from mmvitx.engine.cli import LAUNCHERS, is_first_process
from mmvitx.engine.configs import walk
from mmvitx.engine.explain import explain
from mmvitx.engine.files import check_folder, check_room, claim_folder, write_whole_files
from mmvitx.engine.hooks import CheckpointHook, SanityHook
from mmvitx.engine.hooks.stop import Stopped
from mmvitx.engine.mending import mend_data
from mmvitx.engine.samples import find_limit, guard_samples
from mmvitx.engine.sheets import draw_sheet
from mmvitx.engine.weights import (
    check_pretrained,
    check_teacher,
    check_weights,
    drop_pretrained,
    note_start,
    read_weights,
)
from mmvitx.errors import UserError, describe, is_full


class _TestRunner(Runner):
    """Leaves the config in the work dir, which is that of the training."""

    def dump_config(self) -> None:
        """Write nothing; the log has the config."""


def build_runner(
    cfg: Config,
    *loops: str,
    notes: Sequence[str] = (),
    from_scratch: bool = False,
    check: bool = True,
    findings: list[str] | None = None,
) -> Runner:
    """Check all that a run needs, set up its processes and build the runner.

    Args:
        cfg: From :func:`mmvitx.apis.configs.read_config`; of a training that goes on, ``load_from``
            is the checkpoint.
        *loops: Those that will run, of ``train``, ``val``, ``test``.
        notes: What was printed before there was a log, for the log.
        from_scratch: Whether random weights are meant, so that no others are suggested.
        check: Whether settings and data are checked; what the run needs anyway always is.
        findings: Where to collect what is wrong; by default the first of it is raised.

    Raises:
        UserError: In one sentence, if data, checkpoint, output folder or processes are not as the
            config says; also if findings are collected and the runner cannot be built.
    """
    train = 'train' in loops
    weights = None
    with _collecting(findings):
        _check_launcher(cfg)
    name_unreadable_images()
    if check:
        with _collecting(findings):
            notes = [*notes, *_warn(cfg, preflight.check_settings(cfg))]
        with _collecting(findings):
            preflight.check_paths(cfg, loops)
    if train:
        _use_float32_without_accelerator(cfg)
    with _collecting(findings):
        weights = read_weights(cfg)
    check_folder(cfg.work_dir, '--work-dir')
    if train and _is_main(cfg):
        claim_folder(cfg.work_dir)
    _init_processes(cfg)
    if check and not findings:
        with _collecting(findings):
            notes = [*notes, *mend(cfg, loops)]
    resumed = weights if train and cfg.get('resume') else None
    if resumed and resumed.meta.get('seed') is not None:
        # else a run without a seed would go on in another order
        randomness = cfg.get('randomness') or {}
        if randomness.get('seed') not in (None, resumed.meta['seed']):
            print(f'The run goes on with the seed that it has, {resumed.meta["seed"]}')
        cfg.randomness = {**randomness, 'seed': resumed.meta['seed']}
    _add_hooks(cfg)
    with explaining(cfg, check):
        if 'runner_type' in cfg:
            runner = RUNNERS.build(cfg)
        else:
            runner = (Runner if train else _TestRunner).from_cfg(cfg)
    write_whole_files()
    _raise_log_errors(runner.logger)
    _write_to_log(runner.logger, notes)
    if not isinstance(runner, Runner):
        return runner  # a FlexibleRunner, which builds nothing before it trains
    taken = check_weights(weights, runner.model)
    if train:
        if taken:
            drop_pretrained(runner.model, taken)
        with _collecting(findings):
            check_pretrained(runner.model)
        note_start(runner, weights, taken, from_scratch)
    if not findings:
        for loop in loops:
            with _collecting(findings), explaining(cfg, check, runner.logger):
                _build_loader(runner, loop, check)
        if check and train:
            runner.register_hook(SanityHook())
        if train:
            check_teacher(runner.model, getattr(runner._train_dataloader, 'dataset', None))
            if _is_main(cfg) and _saves_in_work_dir(runner):
                check_room(cfg.work_dir, resume.estimate_size(runner, resumed))
            if resumed:
                resume.check_same_run(resumed, runner)
            if resumed or not cfg.get('resume'):  # not from an object store
                resume.prepare_data(runner, resumed)
        if check and not findings:
            with _collecting(findings):
                _show_data(runner, loops)
    return runner


@contextmanager
def _collecting(findings: list[str] | None) -> Iterator[None]:
    """Put an error of the user's into a list, if there is one."""
    try:
        yield
    except UserError as e:
        if findings is None:
            raise
        findings.append(describe(e))


@contextmanager
def explaining(
    cfg: Config, check: bool = True, logger: logging.Logger | None = None
) -> Iterator[None]:
    """Turn an error of a host into a sentence with a setting's name; the log has its traceback."""
    try:
        yield
    except Exception as e:
        if not check or is_full(e):
            raise
        sentence = explain(e, cfg)
        if logger is not None:
            _write_to_log(logger, [traceback.format_exc()])
        if sentence in (None, e):
            raise
        if logger is not None:
            files = ', '.join(file.baseFilename for file in _log_files(logger))
            sentence = UserError(f'{sentence}; the traceback is in {files}') if files else sentence
        raise sentence from e


def _build_loader(runner: Runner, loop: str, check: bool) -> None:
    name = f'_{loop}_dataloader'
    loader = getattr(runner, name)
    if not isinstance(loader, dict):
        return
    loader = runner.build_dataloader(
        loader,
        seed=runner.seed,
        diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False),
    )
    if hasattr(loader.dataset, '__len__') and not len(loader):
        raise UserError(
            f'{name[1:]} gives no batch: its dataset has {len(loader.dataset)} images, batch_size '
            f'is {loader.batch_size}, drop_last {loader.drop_last}'
        )
    setattr(runner, name, loader)
    guard_samples(loader, runner.cfg, name[1:], check)


class _Enough(Exception):  # noqa: N818
    """What was to be checked has been run."""


class _EndHook(Hook):
    """Ends a run after one iteration."""

    priority = 'HIGHEST'  # before anything is saved

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """End it."""
        raise _Enough

    after_test_iter = after_train_iter


def check(cfg: Config, *loops: str, **settings: Any) -> None:
    """Run all checks of a run, and one iteration of it; nothing is left in its work dir.

    Args:
        cfg: As of :func:`build_runner`.
        *loops: As there.
        **settings: As there.

    Raises:
        UserError: With all that is wrong, a line each.
    """
    findings: list[str] = []
    folder = Path(cfg.work_dir).resolve()
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with _collecting(findings):
        check_folder(folder, '--work-dir')
    if new:
        shutil.rmtree(new[-1], ignore_errors=True)
    with TemporaryDirectory() as cfg.work_dir, _collecting(findings):
        try:
            runner = build_runner(cfg, *loops, findings=findings, **settings)
        except UserError:
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                for loop in loops:
                    with _collecting(findings), explaining(cfg):
                        Runner.build_dataloader(cfg[f'{loop}_dataloader'], seed=0)
            raise
        builds = dict(
            train=('build_optim_wrapper', 'optim_wrapper'),
            val=('build_evaluator', '_val_evaluator'),
            test=('build_evaluator', '_test_evaluator'),
        )
        for build, name in (builds[loop] for loop in loops if isinstance(runner, Runner)):
            given = getattr(runner, name)
            with _collecting(findings), explaining(runner.cfg):
                if isinstance(given, (dict, list)):
                    getattr(runner, build)(given)
        if not findings:
            runner.register_hook(_EndHook())
            with explaining(runner.cfg), suppress(_Enough):
                runner.train() if 'train' in loops else runner.test()
    if findings:
        raise UserError('\nerror: '.join(dict.fromkeys(findings)))
    print('All checks passed, one iteration included; nothing was saved')


def train(runner: Runner, command: str, check: bool = True) -> None:
    """Train; whatever ends it before its end says how to go on.

    Args:
        runner: From :func:`build_runner`.
        command: With which the training goes on.
        check: Whether an error of a host becomes a sentence, where it comes from a setting.

    Raises:
        Stopped: A signal has asked the training to stop, and it has been saved.
        UserError: In one sentence; a full disk among others.
    """
    try:
        with signals.listening(), explaining(runner.cfg, check, runner.logger):
            runner.train()
    except Stopped as e:
        if is_first_process():
            saved = _last_checkpoint(runner)
            what = f'saved in {saved}: go on with {command}' if saved else 'and not saved'
            with suppress(OSError):  # of a pipe whose reader got the Ctrl-C, too
                print(f'\nstopped after {e.iterations} iterations, {what}', file=sys.stderr)
        raise
    except Exception as e:
        if not (isinstance(e, UserError) or is_full(e)):
            raise
        saved = _last_checkpoint(runner)
        hint = f'; the last checkpoint is {saved}, go on from it with {command}' if saved else ''
        raise UserError(describe(e) + hint) from e


def test(runner: Runner, check: bool = True) -> dict[str, float]:
    """Evaluate.

    Raises:
        UserError: An error of a host comes from a setting; in one sentence.
    """
    with explaining(runner.cfg, check, runner.logger):
        return runner.test()


def _saves_in_work_dir(runner):
    return any(hook.out_dir is None for hook in _checkpoint_hooks(runner))


def _last_checkpoint(runner):
    return next((hook.last_ckpt for hook in _checkpoint_hooks(runner)), None)


def _checkpoint_hooks(runner):
    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]


def _add_hooks(cfg: Config) -> None:
    """Put our hooks into a config, that for checkpoints in place of mmengine's."""
    if cfg.get('runner_type', 'Runner') != 'Runner':
        return  # which writes its checkpoints in another way
    default = cfg.get('default_hooks') or {}
    if not isinstance(default, dict):
        return  # mmengine refuses it
    checkpoint = default.get('checkpoint', dict(type='CheckpointHook'))
    kind = str(checkpoint.get('type', 'CheckpointHook')) if isinstance(checkpoint, dict) else ''
    if kind.split('.')[-1] == 'CheckpointHook':  # mmengine's, and none of the user's own
        checkpoint = {**checkpoint, 'type': 'mmvitx.CheckpointHook'}
    cfg.default_hooks = {**default, 'checkpoint': checkpoint}
    add_hook(cfg, 'mmvitx.StopHook')


def add_hook(cfg: Config, name: str) -> None:
    """Add a hook to the ``custom_hooks`` of a config, unless it is there."""
    hooks = cfg.get('custom_hooks') or []
    if not any(isinstance(hook, dict) and hook.get('type') == name for hook in hooks):
        cfg.custom_hooks = [*hooks, dict(type=name)]


def start_from_scratch(cfg: Config) -> None:
    """Drop the weights that a config starts from; those of a teacher stay.

    Args:
        cfg: Changed in place: ``load_from``, and what its backbones are initialized from.
    """
    cfg.load_from = None
    _drop_pretrained(cfg.model, in_backbone=False)


def _drop_pretrained(node: Any, in_backbone: bool) -> None:
    if isinstance(node, (list, tuple)):
        for each in node:
            _drop_pretrained(each, in_backbone)
    elif isinstance(node, dict):
        if in_backbone or 'backbone' in node:  # some models hand it on to their backbone
            node.pop('pretrained', None)
        if in_backbone and 'checkpoint' in str(node.get('init_cfg')):
            del node['init_cfg']
        for key, value in node.items():
            if key != 'teacher':
                _drop_pretrained(value, in_backbone or 'backbone' in str(key))


def mend(cfg: Config, loops: Sequence[str]) -> list[str]:
    """Let a config read annotations that one process has mended, if its host would misread them.

    Args:
        cfg: Changed in place; see :func:`mmvitx.engine.mending.mend_data`.
        loops: Whose data are meant.

    Returns:
        What was found, which is printed.
    """
    found: list[Any] = [None]
    if _is_main(cfg):
        try:
            found = [mend_data(cfg, loops, Path(cfg.work_dir, 'data'))]
        except UserError as e:
            found = [e]
    broadcast_object_list(found)
    if isinstance(found[0], UserError):  # of all processes, which would wait for each other
        raise found[0]
    settings, lines = found[0]
    cfg.merge_from_dict(settings)
    if _is_main(cfg):
        print(*lines, sep='\n', end='\n' if lines else '')
    return lines


@master_only
def _show_data(runner: Runner, loops: Sequence[str]) -> None:
    """Log what the data are, and draw samples of them into the work dir."""
    loaders = {loop: getattr(runner, f'_{loop}_dataloader') for loop in loops}
    datasets = {
        loop: loader.dataset for loop, loader in loaders.items() if isinstance(loader, DataLoader)
    }
    preflight.check_folders_of_classes(datasets)
    limit = find_limit(runner.cfg)
    for loop, dataset in datasets.items():
        for line in describe_data(dataset, loop):
            print_log(line, logger='current')
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if limit and classes and len(classes) != limit.number:
            print_log(
                f'{loop} has {len(classes)} classes, but {limit.setting} is {limit.number}',
                logger='current',
                level=logging.WARNING,
            )
        path = Path(runner.work_dir, f'samples_{loop}.jpg')
        if 'train' in loops and draw_sheet(dataset, runner.cfg.default_scope, path):
            print_log(f'{loop}: samples as the model gets them: {path}', logger='current')


def _warn(cfg: Config, warnings: Sequence[str]) -> list[str]:
    warnings = [f'warning: {text}' for text in warnings]
    if _is_main(cfg):
        print(*warnings, sep='\n', end='\n' if warnings else '')
    return warnings


def _is_main(cfg: Config) -> bool:
    return not LAUNCHERS[cfg.launcher] or os.environ[LAUNCHERS[cfg.launcher][0]] == '0'


def _log_files(logger):
    return [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]


def _write_to_log(logger: logging.Logger, notes: Sequence[str]) -> None:
    for text in notes:
        record = logger.makeRecord(logger.name, logging.INFO, __file__, 0, text, (), None)
        for handler in _log_files(logger):
            handler.handle(record)


def _raise_log_errors(logger: logging.Logger) -> None:
    """Let a log on a full disk end the run; by itself it prints a traceback a line, and goes on."""

    def handle_error(handler, record):
        error = sys.exc_info()[1]
        if is_full(error):
            raise error
        logging.Handler.handleError(handler, record)

    for handler in _log_files(logger):
        handler.handleError = partial(handle_error, handler)


def check_amp() -> None:
    """Check that there is an accelerator for mixed precision.

    Raises:
        UserError: There is none.
    """
    if not _has_accelerator():
        raise UserError(
            'mixed precision (--amp) needs an accelerator such as a CUDA GPU, and there is none '
            'here: train without it'
        )


def _has_accelerator() -> bool:
    return get_device() not in ('cpu', 'mps')


def _use_float32_without_accelerator(cfg: Config) -> None:
    kind = dict(walk(cfg.get('optim_wrapper'))).get('type')
    if kind != 'AmpOptimWrapper' or _has_accelerator():
        return
    wrapper = cfg.optim_wrapper
    wrapper.type = 'OptimWrapper'
    for name in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(name, None)
    if _is_main(cfg):
        print(
            'The config trains in mixed precision (AmpOptimWrapper), which needs an accelerator; '
            'there is none here, so it trains in float32'
        )


def _check_launcher(cfg: Config) -> None:
    missing = [name for name in LAUNCHERS[cfg.launcher] if name not in os.environ]
    if missing:
        raise UserError(
            f'--launcher {cfg.launcher} was asked for, but {", ".join(missing)} is not set in the '
            'environment: start it by tools/dist_train.sh, torchrun, srun or mpirun'
        )
    sync = [
        path for path, value in walk(cfg.get('model'), 'model') if value in ('SyncBN', 'MMSyncBN')
    ]
    if cfg.launcher != 'none' and get_device() == 'cpu' and sync:
        raise UserError(
            f'{sync[0]} is SyncBN, which does not run in several processes on a CPU: '
            'use GPUs, or one process, which turns it into BN'
        )


def _init_processes(cfg: Config) -> None:
    """Let the processes of a distributed run know each other, as mmengine does a little later.

    On a CPU mmengine would select a GPU, and hand DistributedDataParallel one.
    """
    if cfg.launcher == 'none':
        return
    if get_device() != 'cpu':
        env = cfg.get('env_cfg') or {}
        set_multi_processing(**env.get('mp_cfg', {}), distributed=True)
        init_dist(cfg.launcher, **env.get('dist_cfg', {}))
        return
    for name, theirs in zip(('RANK', 'LOCAL_RANK', 'WORLD_SIZE'), LAUNCHERS[cfg.launcher]):
        os.environ[name] = os.environ[theirs]
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    dist.init_process_group('gloo')
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
        **(cfg.get('model_wrapper_cfg') or {}),
        'device_ids': None,
    }
