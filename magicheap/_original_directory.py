"""The working directory that multiprocessing keeps as it is imported, and starts its workers in.

Each resumed process gives it its own, so that the import is no question about the directory: else every program that
loads a library with a pool in it would be another one in each directory. Where the program has gone elsewhere before,
that is the directory kept, and a question as any.
"""

from __future__ import annotations

import os
import sys

from magicheap import _questions
from magicheap._cpython import path_finder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

MODULE = "multiprocessing.process"

_is_followed = False


def find(path: Any) -> ModuleSpec | None:
    """Return the module's spec, as imports would find it, whose loader asks for itself. OSError is told as its import
    would."""
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
        with _questions.pause():
            self._inner.exec_module(module)
        _is_followed = module.ORIGINAL_DIR is not None and _questions.began_in == module.ORIGINAL_DIR
        if not _is_followed and module.ORIGINAL_DIR is not None:
            os.getcwd()  # which is to be noted


def take_up() -> None:
    """In a resumed process."""
    if _is_followed:
        module: Any = sys.modules[MODULE]
        try:
            here: str | None = os.getcwd()
        except OSError:
            here = None
        if here != module.ORIGINAL_DIR:
            module.ORIGINAL_DIR = here
