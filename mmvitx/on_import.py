"""Run a function when a module is imported."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder


def when_imported(name: str, action: Callable[[], None]) -> None:
    """Call a function now if a module is imported already, else once it is.

    Args:
        name: The module's full name.
        action: What to call.
    """
    if name in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Finder(name, action))


class _Finder(MetaPathFinder):
    """Finds nothing by itself: lets the others find the module, and acts when it has been run."""

    def __init__(self, name: str, action: Callable[[], None]):
        self.name, self.action = name, action

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)  # once, and so that the others are asked
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                self.action()

            spec.loader.exec_module = exec_module
        return spec
