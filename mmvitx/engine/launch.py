"""What ``tools/train.py`` and ``tools/test.py`` share: arguments, config, processes, runner."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import inspect
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import mmvitx
from mmvitx.datasets.unreadable import name_unreadable_images
from mmvitx.engine import preflight
from mmvitx.engine.files import check_folder
from mmvitx.engine.hosts import HOSTS
from mmvitx.errors import UserError

# The variables in which a launcher tells a process its rank, its rank on the node and the number
# of processes.
LAUNCHERS = {
    'none': (),
    'pytorch': ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE'),
}


class KeyValue(DictAction):
    """mmengine's ``--cfg-options``, with a sentence where it has a traceback."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse each, as argparse asks for."""
        for value in values:
            try:
                super().__call__(parser, namespace, [value], option_string)
            except (ValueError, AssertionError):
                parser.error(
                    f'{option_string} {value}: expected KEY=VALUE without spaces and with balanced '
                    'brackets, as in model.backbone.drop_path_rate=0.1 or key="[(1,2),(3,4)]"'
                )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all tools have which run a config."""
    parser.add_argument('config', help='config of MMDetection, MMSegmentation or MMPretrain')
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints; default: work_dirs/<config name>',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValue,
        default={},
        metavar='KEY=VALUE',
        help='settings of the config to override, such as train_dataloader.batch_size=4',
    )
    parser.add_argument(
        '--launcher',
        choices=list(LAUNCHERS),
        default='none',
        help='what starts the processes of a distributed run (see dist_train.sh, slurm_train.sh)',
    )
    # torch.distributed.launch passes it; the environment says the same
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)


def read_config(args: argparse.Namespace) -> Config:
    """Read the config that the arguments name and merge their options into it.

    Args:
        args: The arguments of :func:`add_arguments`.

    Returns:
        The config, with ``work_dir`` and ``launcher`` set.

    Raises:
        UserError: In one sentence, whatever is wrong with the file or with an option.
    """
    path = Path(args.config)
    if not path.is_file():
        raise UserError(_no_config(path))
    try:
        lazy = Config._is_lazy_import(str(path))
        cfg = Config.fromfile(path)
    except Exception as e:  # it runs the file, which can raise anything
        raise UserError(f'the config {path} cannot be read: {_describe(e)}') from e
    if lazy:
        raise UserError(
            f'the config {path} imports its types (mmengine\'s "new config"), which the tools here '
            "do not read: name them, as type='mmvitx.CoaT', and inherit by _base_"
        )

    for key in args.cfg_options:
        _check_spelling(cfg, key)
    try:
        cfg.merge_from_dict(args.cfg_options)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        options = ' '.join(f'{key}={value}' for key, value in args.cfg_options.items())
        raise UserError(f'--cfg-options {options} does not fit the config: {_describe(e)}') from e

    scope = cfg.get('default_scope')
    if scope not in HOSTS:
        raise UserError(
            f'the config {path} has default_scope={scope!r}; expected one of {", ".join(HOSTS)}, '
            'which names the host that runs it'
        )
    if importlib.util.find_spec(scope) is None:
        host = HOSTS[scope]
        raise UserError(
            f'the config {path} is for {host.title}, which is not installed: '
            f'pip install {host.distribution}'
        )

    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / path.stem)
    return cfg


def build_runner(cfg: Config, *loops: str) -> Runner:
    """Check all that a run needs, set up its processes and build the runner.

    Args:
        cfg: From :func:`read_config`.
        *loops: Those that will run, of ``train``, ``val``, ``test``.

    Raises:
        UserError: In one sentence, if data, checkpoint, output folder or processes are not as the
            config says.
    """
    _check_launcher(cfg)
    name_unreadable_images()
    preflight.check_data(cfg, loops)
    preflight.add_label_checks(cfg, loops)
    if 'train' in loops:
        _check_amp(cfg)
    weights = preflight.read_weights(cfg)
    check_folder(cfg.work_dir, '--work-dir')
    _init_processes(cfg)
    try:
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    except (TypeError, ValueError) as e:
        if not _is_setting(e):
            raise
        raise UserError(f'the config cannot be built: {e}') from e
    preflight.check_weights(weights, runner.model)
    if 'train' in loops:
        preflight.check_pretrained(runner.model)
        preflight.check_teacher(cfg, runner.model)
        if weights is None and cfg.default_scope != 'mmpretrain':
            preflight.note_random_backbone(runner.model)
    return runner


def run(main: Callable) -> None:
    """Run the ``main`` of a tool and exit; an error of the user's is one line and status 1."""
    try:
        main()
    except UserError as e:
        if is_first_process():
            # one that a process loading data raised comes with the traceback of that
            message = str(e).rpartition(f'{UserError.__name__}: ')[2].strip()
            print(f'error: {message}', file=sys.stderr)
        else:
            time.sleep(3)  # a launcher ends all when one ends: let the first one speak
        sys.exit(1)
    except KeyboardInterrupt:
        if is_first_process():
            print('\ninterrupted', file=sys.stderr)
        sys.exit(130)
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def read_size(sides: Sequence[int]) -> tuple[int, int]:
    """Read ``--size``: a side, or height and width.

    Raises:
        UserError: It is something else.
    """
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise UserError(f'--size takes a side, or height and width, not {sides}')
    return sides[0], sides[-1]


def is_first_process() -> bool:
    """Whether this process speaks for its machine."""
    ranks = (os.environ.get(names[1]) for names in LAUNCHERS.values() if names)
    return next((rank for rank in ranks if rank is not None), '0') == '0'


def _no_config(path: Path) -> str:
    files = [*Path('configs').rglob('*.py'), *path.parent.glob('*.py')]
    names = {file.name: file for file in files}
    close = difflib.get_close_matches(f'{path.stem}.py', names)
    hint = f'; did you mean {" or ".join(str(names[name]) for name in close)}?' if close else ''
    return f'the config {path} does not exist' + hint


def _describe(error: Exception) -> str:
    """Describe an error in a line: its message, and the line of the config that raised it."""
    message = str(error).splitlines()[0] if str(error) else 'no message'
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, SyntaxError) and error.lineno:
        message, where = error.msg, f' (line {error.lineno})'
    elif 'site-packages' in frame.filename:
        where = ''
    else:
        where = f' (line {frame.lineno})'
    return f'{type(error).__name__}: {message}{where}'


def _check_spelling(cfg: Config, option: str) -> None:
    """Refuse an option whose path is not in the config, if something alike is.

    mmengine would add a new entry that nobody reads. The last part of a path may be new.
    """
    known = [*cfg.keys(), *inspect.signature(Runner.__init__).parameters, 'custom_imports']
    parts = option.split('.')
    node = cfg
    for i, part in enumerate(parts):
        names = known if i == 0 else list(node)
        if part not in names:
            close = difflib.get_close_matches(part, names, n=1, cutoff=0.8)
            if close and (i == 0 or i < len(parts) - 1):
                meant = '.'.join([*parts[:i], close[0], *parts[i + 1 :]])
                raise UserError(
                    f'--cfg-options {option}: the config has no {".".join(parts[: i + 1])}; '
                    f'did you mean {meant}?'
                )
            return
        node = node.get(part)
        if not isinstance(node, dict):
            return


def _is_setting(error: Exception) -> bool:
    """Whether an error says that a setting is wrong: of a backbone of ours, or of no one's."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    ours = str(Path(mmvitx.__file__).parent / 'models')
    return files[-1].startswith(ours) or 'unexpected keyword argument' in str(error)


def _check_amp(cfg: Config) -> None:
    if 'Amp' in str(cfg.get('optim_wrapper', {}).get('type')) and get_device() in ('cpu', 'mps'):
        raise UserError(
            'mixed precision (--amp, AmpOptimWrapper) needs an accelerator such as a CUDA GPU, and '
            'there is none here: train without it'
        )


def _check_launcher(cfg: Config) -> None:
    missing = [name for name in LAUNCHERS[cfg.launcher] if name not in os.environ]
    if missing:
        raise UserError(
            f'--launcher {cfg.launcher} was asked for, but {", ".join(missing)} is not set in the '
            'environment: start it by tools/dist_train.sh, torchrun, srun or mpirun'
        )
    sync = preflight.find_values(cfg.model, 'type', ('SyncBN', 'MMSyncBN'))
    if cfg.launcher != 'none' and get_device() == 'cpu' and sync:
        raise UserError(
            f'{sync[0]} is SyncBN, which does not run in several processes on a CPU: '
            'use GPUs, or one process, which turns it into BN'
        )


def _init_processes(cfg: Config) -> None:
    """Prepare a distributed run on a CPU; on accelerators mmengine does everything itself.

    mmengine would select a GPU, and hand DistributedDataParallel one.
    """
    if cfg.launcher == 'none' or get_device() != 'cpu':
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
