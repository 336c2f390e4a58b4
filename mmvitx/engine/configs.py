"""Configs as a command line names them: where one lies, reading it, and changes to it."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmvitx.engine.hosts import HOSTS
from mmvitx.errors import UserError, shorten

# What a run reads besides the parameters of the Runner.
READ = (
    'custom_imports',
    'runner_type',
    'strategy',
    'model_wrapper_cfg',
    'find_unused_parameters',
    'sync_bn',
    'compile',
    'activation_checkpointing',
    'efficient_conv_bn_eval',
    'tta_model',
    'tta_pipeline',
)


def find_config(name: str) -> Path:
    """Find the file of a config.

    Args:
        name: A path, the name of a host's config (``mmdet::detr/detr_r50_8xb2-150e_coco.py``), or
            the work dir of a run.

    Raises:
        UserError: There is none, or a work dir with several.
    """
    host, is_name, relative = name.partition('::')
    if is_name:
        if host not in HOSTS:
            raise UserError(
                f'the config {name} is of {host}: expected one of {", ".join(HOSTS)} before the ::'
            )
        # where mmengine looks; it asks for the distribution, whose name the forks have changed
        folder = Path(_find_package(host, name), '.mim', 'configs')
        path = folder / relative
        files = folder.rglob('*.py')
    else:
        path = Path(name)
        if path.is_dir():
            return _find_in_work_dir(path)
        folder = Path()
        files = [*Path('configs').rglob('*.py'), *path.parent.glob('*.py')]
    if path.is_file():
        return path
    names = {file.name: file.relative_to(folder) for file in files}
    close = difflib.get_close_matches(f'{path.stem}.py', names)
    start = f'{host}::' if is_name else ''
    meant = ' or '.join(f'{start}{names[one].as_posix()}' for one in close)
    hint = f'; did you mean {meant}?' if close else ''
    raise UserError(f'the config {name} does not exist' + hint)


def _find_in_work_dir(folder: Path) -> Path:
    files = sorted(folder.glob('*.py'))
    if len(files) != 1:
        found = f'several ({shorten(file.name for file in files)})' if files else 'none (*.py)'
        raise UserError(
            f'{folder} is a folder, and as the work dir of a run it should hold one config, but it '
            f'has {found}: name a config'
        )
    return files[0]


def _find_package(host: str, name: str) -> str:
    spec = importlib.util.find_spec(host)
    if spec is None:
        raise UserError(
            f'the config {name} is for {HOSTS[host].title}, which is not installed: '
            f'pip install {HOSTS[host].distribution}'
        )
    return spec.submodule_search_locations[0]


def read(path: Path) -> Config:
    """Read a config.

    Raises:
        UserError: It cannot be read, or no installed host runs it.
    """
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
    check_scope(cfg, path)
    return cfg


def check_scope(cfg: Config, path: str | Path) -> None:
    """Check that an installed host runs a config.

    Raises:
        UserError: ``default_scope`` names none.
    """
    scope = cfg.get('default_scope')
    if scope not in HOSTS:
        raise UserError(
            f'the config {path} has default_scope={scope!r}; expected one of {", ".join(HOSTS)}, '
            'which names the host that runs it'
        )
    _find_package(scope, str(path))


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


def walk(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Yield all that is in nested dicts and lists, each with its path, as ``model.neck.type``."""
    if isinstance(node, dict):
        items = node.items()
    else:
        items = enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        where = f'{path}.{key}' if path else str(key)
        yield where, value
        yield from walk(value, where)


def find_dicts(node: Any) -> Iterator[dict]:
    """Yield every dict in some settings, from the outside in."""
    return (value for _, value in walk([node]) if isinstance(value, dict))


def move_data(cfg: Config, root: str) -> None:
    """Let a config find its data in another folder.

    Replaced is the ``data_root`` of all datasets, however they are wrapped, and what begins with it
    in dataloaders, evaluators and pipelines, such as the evaluators' ``ann_file``.

    Args:
        cfg: A config; changed in place.
        root: The folder that lies elsewhere, or its address in an object store.

    Raises:
        UserError: There is no such folder, or the datasets have no common ``data_root``.
    """
    data = {key: value for key, value in cfg.items() if key.endswith(('_dataloader', '_evaluator'))}
    roots = {
        value.rstrip('/'): None
        for where, value in walk(data)
        if value and where.endswith('.data_root')
    }
    if len(roots) != 1:
        found = '; '.join(
            f'{old} ({shorten(where for where, value in walk(data) if _is_under(value, old))})'
            for old in roots
        )
        raise UserError(
            f'--data-root {root} can replace one folder, but the datasets of the config have '
            + (f'several: {found}; set each' if roots else 'no data_root: name their files')
            + ' with --cfg-options'
        )
    if '://' not in root and not Path(root).is_dir():
        raise UserError(f'the folder {root} does not exist: name that of the data with --data-root')
    (old,) = roots
    for key, value in cfg.items():
        if key == 'data_root' or key.endswith(('_dataloader', '_evaluator', '_pipeline')):
            cfg[key] = _replace(value, old, root.rstrip('/'))


def follow_mended_files(cfg: Config, folder: Path) -> None:
    """Let the config of a work dir that was moved find the annotations that were mended in it.

    Args:
        cfg: Changed in place: each ``ann_file`` that does not exist, if the folder has its name.
        folder: Where the files are now.
    """
    for where, value in [*walk(dict(cfg.items()))]:
        if where.endswith('.ann_file') and isinstance(value, str) and not Path(value).exists():
            path = folder.absolute() / Path(value).name
            if path.is_file():
                cfg.merge_from_dict({where: str(path)})


def _is_under(value: Any, folder: str) -> bool:
    return isinstance(value, str) and f'{value}/'.startswith(f'{folder}/')


def _replace(node: Any, old: str, new: str) -> Any:
    """Replace a folder at the beginning of all strings."""
    if isinstance(node, dict):
        return {key: _replace(value, old, new) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(_replace(value, old, new) for value in node)
    return new + node[len(old) :] if _is_under(node, old) else node


def merge_options(cfg: Config, options: dict[str, Any]) -> list[str]:
    """Merge the settings of ``--cfg-options`` into a config.

    Args:
        cfg: A config; changed in place.
        options: Values by the path of the setting, as ``optim_wrapper.optimizer.lr``.

    Returns:
        A warning for each setting that nothing will read.

    Raises:
        UserError: A path is not in the config, but one that is spelt much alike is; or a value does
            not fit.
    """
    warnings = [text for option in options for text in _check_option(cfg, option)]
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        given = ' '.join(f'{key}={value}' for key, value in options.items())
        raise UserError(f'--cfg-options {given} does not fit the config: {_describe(e)}') from e
    return warnings


def list_read(cfg: Config) -> set[str]:
    """List the entries of a config that a run reads."""
    read = {*inspect.signature(Runner.__init__).parameters, *READ}
    model = cfg.get('model')
    inside = isinstance(model, dict) and 'data_preprocessor' in model
    return read - {'data_preprocessor'} if inside else read


def _check_option(cfg: Config, option: str) -> Iterator[str]:
    """Yield a warning if nothing reads an option; refuse it if it is spelt much like another.

    mmengine would add a new entry. That is an error only where nothing can have been meant by it:
    the last part of a path may be new.
    """
    read = list_read(cfg)
    parts = option.split('.')
    node = dict(cfg.items())
    for i, part in enumerate(parts):
        if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        if not isinstance(node, dict):
            return
        if part not in node and not (i == 0 and part in read):
            names = [*node, *read] if i == 0 else list(node)
            close = difflib.get_close_matches(part, names, n=1, cutoff=0.8)
            if close:
                meant = '.'.join([*parts[:i], close[0], *parts[i + 1 :]])
                text = (
                    f'--cfg-options {option}: the config has no {".".join(parts[: i + 1])}; '
                    f'did you mean {meant}?'
                )
                if i == 0 or i < len(parts) - 1:
                    raise UserError(text)
                yield text
        if i == 0 and part not in read:
            why = f'{part} is a variable of the config file' if part in node else 'nothing reads it'
            meant = _name_settings(cfg, parts, read)
            yield f'--cfg-options {option} has no effect, since {why}{meant}'
        if part not in node:
            return
        node = node[part]


def _name_settings(cfg: Config, parts: list[str], read: set[str]) -> str:
    """Name the settings that were built from a variable of the file: of its name, or its value."""
    name, *rest = parts
    if name == 'data_root':
        return '; use --data-root'
    value = cfg.get(name)
    telling = value and not isinstance(value, int)  # integers are often equal by chance
    found = []
    for where, other in walk({key: other for key, other in cfg.items() if key in read}):
        same = where.rpartition('.')[2] == name
        equal = type(other) is type(value) and other == value
        if same or (telling and equal):
            found.append((not same, not equal, len(found), where))
    meant = ' or '.join('.'.join([where, *rest]) for *_, where in sorted(found)[:3])
    return f'; did you mean {meant}?' if meant else ''
