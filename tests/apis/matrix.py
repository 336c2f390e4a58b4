"""The matrix: what comes of our backbones in one config of every method of the hosts.

Run as a script, it tries them all and writes the table that ``test_matrix.py`` compares with.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib.util
import logging
import re
import textwrap
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmvitx.apis import trial, use_backbone
from mmvitx.errors import UserError, first_line

BACKBONE = 'coat_lite_tiny'
TABLE = Path(__file__).parents[2] / 'docs/backbones.md'
CLASSIFIERS = 10  # folders of mmpretrain: those with the most configs

# height and width of the images: the first that the model takes with its own backbone
SIZES = ((128, 160), (256, 128), trial.SIZE, (512, 640))

SGD = dict(optimizer=dict(type='SGD', lr=0.01))  # for configs that only test

PASSED, REFUSED, UNTESTABLE = 'works', 'refused', 'not testable here'


class Outcome(NamedTuple):
    """What came of a config, and why, if it does not work."""

    word: str
    reason: str = ''


class Wrong(Exception):  # noqa: N818
    """A model runs, and is not what it should be."""


# Which configs. ----------------------------------------------------------------------------------


def list_configs() -> list[str]:
    """List one config of every method: of every folder of mmdet and mmseg, and of mmpretrain's."""
    names = [choose(host, folder) for host in ('mmdet', 'mmseg') for folder in folders(host)]
    by_count = sorted(folders('mmpretrain'), key=lambda folder: -len(list(folder.glob('*.py'))))
    classifiers = (
        name
        for name in (choose('mmpretrain', folder) for folder in by_count)
        if read(name).model.type == 'ImageClassifier'
    )
    return [*filter(None, names), *(name for name, _ in zip(classifiers, range(CLASSIFIERS)))]


def folders(host: str) -> list[Path]:
    """List the folders of a host's configs in alphabetical order."""
    return sorted(path for path in root(host).iterdir() if path.is_dir() and path.name != '_base_')


def root(host: str) -> Path:
    """Find the folder of a host's configs."""
    return Path(importlib.util.find_spec(host).origin).parent / '.mim/configs'


def read(name: str) -> Config:
    """Read a config by its name, as ``mmdet::gn+ws/...``, which mmengine does not take."""
    host, _, path = name.partition('::')
    return Config.fromfile(root(host) / path)


def choose(host: str, folder: Path) -> str | None:
    """Choose the config of a folder that has a ResNet-50 or ResNet-18 and the shortest name."""

    def rank(path: Path) -> tuple:
        return not re.search(r'(?<![a-z])r(esnet)?-?(50|18)(?!\d)', path.stem), len(path.stem)

    for path in sorted(sorted(folder.glob('*.py')), key=rank):
        name = f'{host}::{folder.name}/{path.name}'
        # some have a base that is not in the installed package, others are pieces of configs
        with contextlib.suppress(FileNotFoundError):
            if 'model' in read(name):
                return name
    return None


# What comes of one. ------------------------------------------------------------------------------


def try_config(name: str, backbone: str = BACKBONE) -> Outcome:
    """Put a backbone into a config and train, test and compare with the original.

    What fails with the original backbone too cannot be tested here.

    Raises:
        Exception: The model does not run though the original does, or it gets other strides.
    """
    original = read(name)
    cfg = copy.deepcopy(original)
    try:
        use_backbone(cfg, backbone, pretrained=False)
    except UserError as error:
        reason = str(error).replace(f'the config {cfg.filename} ', '')
        reason = reason.replace('cannot take another backbone: ', '')
        if 'Error: ' not in reason:
            return Outcome(REFUSED, reason)
        try:
            train_and_test(inner(original), trial.SIZE)
        except Exception as error:
            if first_line(error) in reason:  # it is not the new backbone's
                return Outcome(UNTESTABLE, describe(error))
        return Outcome(REFUSED, reason)
    cfg, original = inner(cfg), inner(original)
    for size in SIZES:
        try:
            train_and_test(cfg, size)
            break
        except Wrong:
            raise
        except Exception:
            try:
                train_and_test(original, size)
            except Exception as error:
                outcome = Outcome(UNTESTABLE, describe(error))
            else:
                raise
    else:
        return outcome
    if cfg.model.backbone.get('out_type') == 'cls_token':  # a classifier, which reads no maps
        return Outcome(PASSED)
    # some transformers take one size only
    size = original.model.backbone.get('img_size', size)
    size = (size, size) if isinstance(size, int) else tuple(size)
    compare(observe(cfg, size), observe(original, size))
    return Outcome(PASSED)


def inner(cfg: Config) -> Config:
    """Take the detector of a model that wraps one."""
    while 'detector' in cfg.model:
        cfg.model = cfg.model.detector
    return cfg


def train_and_test(cfg: Config, size: tuple[int, int]) -> None:
    """Train one step by the config's own optimizer, and predict."""
    with trial.isolated(cfg):
        model = trial.build_model(cfg, size)
        settings = copy.deepcopy(cfg.get('optim_wrapper', SGD))
        if settings.get('type', '').startswith('Amp'):  # needs an accelerator
            settings = {k: v for k, v in settings.items() if k not in ('loss_scale', 'dtype')}
            settings['type'] = 'OptimWrapper'
        optim_wrapper = build_optim_wrapper(model, settings)
        loss = trial.training_loss(model, trial.make_batch(cfg, size))
        if not loss.isfinite():
            raise ValueError(f'the loss is {loss.item()}')
        optim_wrapper.backward(loss)
        check_gradients(model)
        optim_wrapper.step()
        if not all(p.isfinite().all() for p in model.parameters()):
            raise Wrong('a step of the optimizer gives weights that are not finite')
        if not trial.predict(model, trial.make_batch(cfg, size, batch_size=1)):
            raise Wrong('no prediction')


def check_gradients(model: BaseModel) -> None:
    """Raise an error if a parameter of the backbone is trained and has no gradient."""
    if type(model.backbone).__module__.startswith('mmvitx.'):
        missing = [n for n, p in model.backbone.named_parameters() if p.grad is None]
        if missing:
            raise Wrong(f'no gradient: {missing}')


def observe(cfg: Config, size: tuple[int, int]) -> dict[str, list]:
    """Note the sizes of the maps that each convolution behind the backbone takes.

    And of those that the neck puts out, as a transformer has no convolution.
    """
    sizes = {}
    with trial.isolated(cfg):
        model = trial.build_model(cfg, size)

        def note(name):
            def hook(module, args, out):
                maps = out if name == 'neck' else args
                maps = maps if isinstance(maps, (list, tuple)) else [maps]
                sizes.setdefault(name, [tuple(x.shape[2:]) for x in maps])

            return hook

        for name, module in model.named_modules():
            behind = isinstance(module, nn.Conv2d) and not name.startswith(('backbone.', 'neck.'))
            if behind or name == 'neck':
                module.register_forward_hook(note(name))
        trial.predict(model, trial.make_batch(cfg, size, batch_size=1))
    return sizes


def compare(ours: dict, theirs: dict) -> None:
    """Raise an error unless what both have sees maps of the same sizes."""
    common = ours.keys() & theirs.keys()
    other = {name: (ours[name], theirs[name]) for name in common if ours[name] != theirs[name]}
    if other:
        raise Wrong(f'other sizes of maps than with the original backbone: {other}')
    if not common:
        raise Wrong('nothing to compare the strides by')


def describe(error: Exception) -> str:
    """Give the kind of an error and the beginning of its first line, for a cell of the table."""
    line = textwrap.shorten(first_line(error), 120, placeholder=' ...')
    return f'{type(error).__name__}: {line}'.replace('|', '/')


# The table. --------------------------------------------------------------------------------------


def read_table() -> dict[str, Outcome]:
    """Read the outcomes of all configs from the table."""
    rows = re.findall(r'^\| `(\S+)` \| (.+?) \| ?(.*?) ?\|$', TABLE.read_text(), re.M)
    return {name: Outcome(word, reason) for name, word, reason in rows}


def write_table(outcomes: dict[str, Outcome]) -> None:
    """Write the outcomes of all configs into the table, in place of what is there."""
    words = [outcome.word for outcome in outcomes.values()]
    counts = ', '.join(f'{w} {words.count(w)}' for w in (PASSED, REFUSED, UNTESTABLE))
    rows = [f'| `{name}` | {o.word} | {o.reason} |' for name, o in outcomes.items()]
    text = TABLE.read_text().partition('| config |')[0]
    text = re.sub(r'(?m)^\d+ configs: .*$', f'{len(words)} configs: {counts}.', text)
    head = ['| config | outcome | reason |', '| --- | --- | --- |']
    TABLE.write_text(text + '\n'.join([*head, *rows, '']))


def main() -> None:
    """Try all configs, and write the table unless one fails."""
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    outcomes, failed = {}, 0
    for name in list_configs():
        start = time.time()
        try:
            outcomes[name] = try_config(name)
        except Exception as error:
            outcomes[name] = Outcome('FAILS', describe(error))
            logging.exception(name)
            failed += 1
        print(f'{time.time() - start:5.1f} s', name, *outcomes[name], flush=True)
        gc.collect()
    if failed:
        raise SystemExit(f'{failed} configs fail; the table stays as it is.')
    write_table(outcomes)


if __name__ == '__main__':
    main()
