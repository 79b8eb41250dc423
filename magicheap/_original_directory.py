"""The working directory that multiprocessing stores at its import, and starts its workers in.

Each resumed process replaces it by its own, so that the import is no question about the directory. Otherwise every
program that loads a library with a pool would have a variant for each directory. If the program has changed its
directory before the import, multiprocessing keeps that directory, and the question is recorded.
"""

from __future__ import annotations

import os
import sys

from magicheap import _pauses, _questions
from magicheap._cpython import path_finder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

MODULE = "multiprocessing.process"

_is_followed = False


def find(path: Any) -> ModuleSpec | None:
    """Return the module's spec, as an import would find it, with a loader that handles the question itself. An OSError
    becomes the error of such an import."""
    spec: ModuleSpec | None = path_finder().find_spec(MODULE, path)
    if spec is not None and hasattr(spec.loader, "exec_module"):
        spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
    return spec


class _Loader:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._inner.create_module(spec)
        return made

    def exec_module(self, module: Any) -> None:
        global _is_followed
        module.__spec__.loader = module.__loader__ = self._inner
        with _pauses.pause():
            self._inner.exec_module(module)
        _is_followed = module.ORIGINAL_DIR is not None and _questions.began_in == module.ORIGINAL_DIR
        if not _is_followed and module.ORIGINAL_DIR is not None:
            os.getcwd()  # records the question


def is_followed() -> bool:
    """Tell whether take_up is needed."""
    return _is_followed


def take_up() -> None:
    """Give multiprocessing this process's directory, in a resumed process."""
    module: Any = sys.modules[MODULE]
    try:
        here: str | None = os.getcwd()
    except OSError:
        here = None
    if here != module.ORIGINAL_DIR:
        module.ORIGINAL_DIR = here
