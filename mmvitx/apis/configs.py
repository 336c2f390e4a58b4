"""The config that a command line asks for."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config

from mmvitx.apis.backbone import use_backbone
from mmvitx.engine import configs
from mmvitx.engine.cli import is_first_process


def read_config(
    args: argparse.Namespace, keep_optimizer: bool = False, from_scratch: bool = False
) -> tuple[Config, list[str]]:
    """Read the config that the arguments name, and change it as their options say.

    Args:
        args: The arguments of :func:`mmvitx.engine.cli.add_arguments`.
        keep_optimizer: Whether another backbone is trained by the config's own optimizer.
        from_scratch: Whether another backbone starts from random weights.

    Returns:
        The config, with ``work_dir`` and ``launcher`` set, and what was printed: what has changed
        with the backbone, and warnings.

    Raises:
        UserError: In one sentence, whatever is wrong with the file or with an option.
    """
    path = configs.find_config(args.config)
    cfg = configs.read(path)
    work_dir = cfg.get('work_dir')
    if Path(args.config).is_dir():
        work_dir = args.config
        configs.follow_mended_files(cfg, Path(work_dir, 'data'))
        if cfg.get('resume'):  # of the last run there, and its checkpoint
            cfg.resume, cfg.load_from = False, None

    notes = []
    name = path.stem
    if args.backbone:
        lines = use_backbone(
            cfg, args.backbone, pretrained=not from_scratch, keep_optimizer=keep_optimizer
        )
        notes.append('\n  '.join([f'--backbone {args.backbone}:', *lines]))
        name, work_dir = f'{path.stem}_{args.backbone}', None
        # mmengine writes the config into the work dir under this name
        cfg = Config(cfg.to_dict(), cfg_text=cfg.text, filename=f'{name}.py')
    if args.data_root:
        configs.move_data(cfg, args.data_root)
    notes += [f'warning: {text}' for text in configs.merge_options(cfg, args.cfg_options)]
    configs.check_scope(cfg, path)
    if is_first_process():
        print(*notes, sep='\n', end='\n' if notes else '')

    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or work_dir or str(Path('work_dirs', name))
    return cfg, notes
