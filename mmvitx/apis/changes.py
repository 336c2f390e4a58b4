"""What differs between two configs, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def list_changes(before: Mapping, after: Mapping) -> list[str]:
    """List what was changed in a config, a line each, as ``a.b: 1 -> 2``.

    Args:
        before: The config as nested dicts and lists.
        after: The same later.
    """
    return list(_compare(before, after, ''))


def _compare(before: Any, after: Any, where: str) -> Iterator[str]:
    if isinstance(before, tuple):
        before = list(before)
    if isinstance(after, tuple):
        after = list(after)
    if before == after:
        return
    dicts = isinstance(before, Mapping) and isinstance(after, Mapping)
    if dicts and before.get('type') == after.get('type'):
        for key in dict.fromkeys([*before, *after]):
            inner = f'{where}.{key}' if where else key
            if before.get(key) is None and after.get(key) is None:
                continue
            if key not in after:
                yield f'{inner}: {_show(before[key])} removed'
            elif key not in before:
                yield f'{inner}: {_show(after[key])} added'
            else:
                yield from _compare(before[key], after[key], inner)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        if not any(isinstance(one, (Mapping, list)) for one in before):
            yield f'{where}: {_show(before)} -> {_show(after)}'
            return
        for i, (old, new) in enumerate(zip(before, after)):
            yield from _compare(old, new, f'{where}.{i}')
    else:
        yield f'{where}: {_show(before)} -> {_show(after)}'


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        settings = (f'{key}={_show(inner)}' for key, inner in value.items() if key != 'type')
        return f'{value.get("type", "dict")}({", ".join(settings)})'
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(map(_show, value))}]'
    return repr(value)
