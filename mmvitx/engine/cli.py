"""Helpers for the command lines in ``tools``: running ``main``, and arguments that several have.

A tool imports this module, which needs nothing but the standard library, parses its arguments, and
imports the rest inside ``main``. So ``--help`` answers at once, and :func:`run` also handles a
Ctrl-C that comes during the imports.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence

# The variables in which a launcher tells a process its rank, its rank on the node and the number
# of processes.
LAUNCHERS = {
    'none': (),
    'pytorch': ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE'),
}

# Capacities of the caches in which oneDNN and PyTorch keep what they prepared for a shape on a CPU;
# the default of both is 1024. While image sizes vary, the entries fragment the heap: fewer are less
# memory. A training step of Mask R-CNN with CoaT needs 163 at one size.
KERNEL_CACHES = {'ONEDNN_PRIMITIVE_CACHE_CAPACITY': '256', 'LRU_CACHE_CAPACITY': '256'}


def run(main: Callable) -> None:
    """Run the ``main`` of a tool, with the :data:`KERNEL_CACHES` that the environment does not set.

    An error of the user's ends it with one line and status 1, Ctrl-C with one line and status 130.
    """
    for name, capacity in KERNEL_CACHES.items():
        os.environ.setdefault(name, capacity)
    try:
        main()
    except Exception as e:
        errors = sys.modules.get('mmvitx.errors')  # loaded if e comes from there
        if errors is None or not (isinstance(e, errors.UserError) or errors.is_full(e)):
            raise
        if not is_first_process():
            time.sleep(3)  # if all have it, the first one speaks, and a launcher ends the rest
        print(f'error: {errors.describe(e)}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        if is_first_process():
            print('\ninterrupted', file=sys.stderr)
        sys.exit(130)
    finally:
        dist = sys.modules.get('torch.distributed')
        if dist and dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def repeat_command(words: Sequence[str]) -> str:
    """Give the command line with which a training goes on.

    Args:
        words: The script and the arguments with which it was started.

    Returns:
        The same with ``--resume``, quoted as a shell wants it. Of several processes it is that of
        ``dist_train.sh``, or only described where another program has started them.
    """
    script, *words = words
    kept = []
    for i, word in enumerate(words):
        is_value = i and words[i - 1] == '--resume' and not word.startswith('-')
        if not is_value and word.partition('=')[0] != '--resume':
            kept.append(word)
    start = ['python', script]
    if any(word.partition('=')[0] == '--launcher' for word in kept):
        if kept[1:3] != ['--launcher', 'pytorch']:
            return 'the same command and --resume'
        start = [script.replace('train.py', 'dist_train.sh')]
        kept[1:3] = [os.environ['LOCAL_WORLD_SIZE']]
    # options for the config take all the words behind them
    return shlex.join([*start, *kept, '--resume'])


def is_first_process() -> bool:
    """Whether this process prints for its machine."""
    ranks = (os.environ.get(names[1]) for names in LAUNCHERS.values() if names)
    return next((rank for rank in ranks if rank is not None), '0') == '0'


class KeyValue(argparse.Action):
    """mmengine's ``--cfg-options``, with a sentence where it has a traceback."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse each, as argparse asks for."""
        from mmengine.config import DictAction

        parse = DictAction(self.option_strings, self.dest)
        for value in values:
            try:
                parse(parser, namespace, [value], option_string)
            except (ValueError, AssertionError):
                parser.error(
                    f'{option_string} {value}: expected KEY=VALUE without spaces and with balanced '
                    'brackets, as in model.backbone.drop_path_rate=0.1 or key="[(1,2),(3,4)]"'
                )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all tools have which run a config."""
    parser.add_argument(
        'config',
        help='config of MMDetection, MMSegmentation or MMPretrain: a path, a name as '
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py, or the work dir of a run',
    )
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints; default: work_dirs/<config name>, with --backbone '
        'work_dirs/<config name>_<backbone>',
    )
    parser.add_argument(
        '--backbone',
        metavar='NAME',
        help="use this model of ours, as coat_lite_small, in place of the config's backbone",
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help="folder of the data, in place of the config's data_root",
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


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tools that check a run before it begins."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--check',
        action='store_true',
        help='only check settings, data and one iteration; says all that is wrong, saves nothing',
    )
    group.add_argument(
        '--no-check',
        action='store_true',
        help='check no settings and no data; an error of the host has its own traceback',
    )


def read_size(sides: Sequence[int]) -> tuple[int, int]:
    """Read ``--size``: a side, or height and width.

    Raises:
        UserError: It is something else.
    """
    if len(sides) not in (1, 2) or min(sides) < 1:
        from mmvitx.errors import UserError

        raise UserError(f'--size takes a side, or height and width, not {sides}')
    return sides[0], sides[-1]
