"""Pointers in a root: the names by which a later run finds their types, and the types that have no name.

A pointer is stored as the name of its type and its address, which must lie in the arena. Types of a compiled cffi
module are found by the module. Types of an `ffi.cdef` read at run time are found by the variable of a module that holds
that ffi. Types of ctypes are classes, which pickle stores by name.
"""

from __future__ import annotations

import importlib
import sys

from magicheap._cpython import is_initializing
from magicheap._errors import RootError
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Named = tuple[str, str, str, int, bool]  # module, its variable, C type, address, whether the content is meant
    Variable = tuple[str, str]  # module, name
    Reduced = tuple[Callable[..., Any], tuple[Any, ...]]

# wherever these lie, they are part of a Python object
_OWNED_BY_PYTHON = (type(ffi.new("char *")), type(ffi.new_handle(None)))
ADVICE = "let the library allocate it with malloc inside the transaction"
_UNTYPED = 'store ffi.cast("void *", p), and cast what later runs get back'


def name_cdata(value: Any, arena: Any, ready: frozenset[Variable]) -> Named:
    """Return the arguments of restore_cdata for a cffi pointer, or for the struct that it leads to. RootError: no later
    run could restore it."""
    if type(value) in _OWNED_BY_PYTHON:
        raise RootError(f"the root holds {value!r}, memory that ffi.new made and Python frees: {ADVICE}")
    pointer, is_content = value, False
    if ffi.typeof(value).kind in ("struct", "union", "array"):  # cffi's `p[0]`: names memory as a pointer does
        pointer, is_content = ffi.addressof(value), True
    ctype = ffi.typeof(pointer)
    if ctype.kind != "pointer":
        raise RootError(f"the root holds {value!r}, which is no pointer to data: store its value")
    address = int(ffi.cast("uintptr_t", pointer))
    _check_inside(value, address, arena)
    return (*_find_type(ctype, ready), address, is_content)


def restore_cdata(named: Named) -> Any:
    module, variable, cname, address, is_content = named
    found = getattr(importlib.import_module(module), variable) if module else ffi
    pointer = found.cast(cname, address)
    return pointer[0] if is_content else pointer


def _check_inside(value: object, address: int, arena: Any) -> None:
    if address and lib.mh_arena_of(ffi.cast("void *", address)) != arena:
        raise RootError(f"the root holds {value!r}, which does not lie in the arena: {ADVICE}")


def _find_type(ctype: Any, ready: frozenset[Variable]) -> tuple[str, str, str]:
    """Return (module, variable, C name) by which a later run finds the type; "" is our own ffi, which knows the
    built-in types."""
    for module, variable, candidate in [("", "", ffi), *_compiled_ffis(), *_parsed_ffis(ready)]:
        try:
            if candidate.typeof(ctype.cname) is ctype:
                return module, variable, ctype.cname
        except Exception:  # each kind of ffi has its own error for an unknown name
            continue
    raise RootError(
        f"the root holds a {ctype.cname!r}, a type of no ffi that later runs find: {_UNTYPED}, "
        "or keep the ffi in a variable of a module that they import, or of the program itself, set before the "
        "transaction"
    )


def _compiled_ffis() -> Iterator[tuple[str, str, Any]]:
    """Yield the ffi of every compiled cffi module, under the name of the extension before names of modules that import
    it."""
    found = [(name, module, getattr(module, "__dict__", {}).get("ffi")) for name, module in list(sys.modules.items())]
    found.sort(key=lambda entry: not str(getattr(entry[1], "__file__", "")).endswith(".so"))
    for name, _, candidate in found:
        if isinstance(candidate, type(ffi)):
            yield name, "ffi", candidate


def _parsed_ffis(ready: frozenset[Variable]) -> Iterator[tuple[str, str, Any]]:
    """Yield each cffi.FFI() that is a variable of a module, unless it may be set only after a later run's
    transaction."""
    api: Any = sys.modules.get("cffi.api")
    for name, module in list(sys.modules.items()) if api else ():
        if getattr(module, "__spec__", None) is None and name != "__main__":
            continue  # a module made at run time: nothing to import
        for variable, candidate in list(getattr(module, "__dict__", {}).items()):
            if isinstance(candidate, api.FFI) and ((name, variable) in ready or not _is_running(name, module)):
                yield name, variable, candidate


def _is_running(name: str, module: Any) -> bool:
    """Tell whether the module's own statements are still being executed, the program's or those of an import."""
    return name == "__main__" or is_initializing(module)


def ready_ffis() -> frozenset[Variable]:
    """Return the variables of running modules that hold a cffi.FFI(). Called as the body begins, which every run
    reaches."""
    api: Any = sys.modules.get("cffi.api")
    running = [(name, module) for name, module in list(sys.modules.items()) if _is_running(name, module)] if api else []
    return frozenset(
        (name, variable)
        for name, module in running
        for variable, value in list(getattr(module, "__dict__", {}).items())
        if isinstance(value, api.FFI)
    )


# ---- ctypes ----


def reduce_ctypes(value: Any, arena: Any) -> tuple[Reduced, int] | None:
    """Return how pickle restores a ctypes object, and the address that the object names; None: pickle stores it as a
    value by itself."""
    from magicheap import _cpython_library

    if _cpython_library.is_function_of_ctypes(value):
        raise RootError(f"the root holds {value!r}, a function, which is no pointer to data: look it up in each run")
    address = _cpython_library.address_in(value)
    if address is not None:
        _check_inside(value, address, arena)
        return (_make_pointer, (*_cpython_library.pointed_to(type(value)), address)), address
    address = _cpython_library.address_of(value)
    # the `contents` of a pointer: memory of the library
    if lib.mh_arena_of(ffi.cast("void *", address)) == arena:
        return (_make_content, (type(value), address)), address
    try:
        value.__reduce__()
    except ValueError as error:
        raise RootError(
            f"the root holds {value!r}, memory of Python with pointers in it: {ADVICE}, and store a pointer to it"
        ) from error
    return None


def _make_pointer(kind: Any, depth: int, address: int) -> Any:
    from magicheap._cpython_library import make_pointer

    return make_pointer(kind, depth, address)


def _make_content(kind: Any, address: int) -> Any:
    return kind.from_address(address)
