"""Functions and variables that loaded libraries export, by name and C type."""

from __future__ import annotations

import os

from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def function(path: str, name: str, declared: str) -> Any:
    """Return the function of the library at `path`, which stays loaded; `declared`: its type in C, without a name.

    AttributeError: the library is not loaded, or does not have it; a library that it needs may.
    """
    result, parenthesis, arguments = declared.partition("(")
    return ffi.cast(f"{result}(*){parenthesis}{arguments}", _address(path, name))


def variable(path: str, name: str, kind: str) -> Any:
    """Return a pointer to the variable of the library at `path`; `kind`: its type."""
    return ffi.cast(f"{kind} *", _address(path, name))


def _address(path: str, name: str) -> Any:
    found = lib.mh_symbol(os.fsencode(path), name.encode())
    if not found:
        raise AttributeError(f"{path} is not loaded, or has no {name}")
    return found
