"""The one place where a native status becomes an exception."""

from __future__ import annotations

from magicheap._exceptions import (
    BusyError,
    CorruptError,
    DanglingError,
    FormatError,
    MagicHeapError,
    MagicHeapWarning,
    NoSpaceError,
    RootError,
    StaleError,
    UnsupportedError,
    UntrustedError,
)
from magicheap._native import ffi, lib

__all__ = [
    "BusyError",
    "CorruptError",
    "DanglingError",
    "FormatError",
    "MagicHeapError",
    "MagicHeapWarning",
    "NoSpaceError",
    "RootError",
    "StaleError",
    "UnsupportedError",
    "UntrustedError",
    "call",
    "check_version",
    "text_of",
]

TYPE_CHECKING = False  # typing itself is not imported: a warm start should not pay for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ERRORS = {
    lib.MH_ERR_FORMAT: FormatError,
    lib.MH_ERR_CORRUPT: CorruptError,
    lib.MH_ERR_STALE: StaleError,
    lib.MH_ERR_BUSY: BusyError,
    lib.MH_ERR_NOSPACE: NoSpaceError,
    lib.MH_ERR_ARGUMENT: ValueError,
    lib.MH_ERR_DANGLING: DanglingError,
    lib.MH_ERR_UNTRUSTED: UntrustedError,
    lib.MH_ERR_UNSUPPORTED: UnsupportedError,
}


def call(function: Callable[..., int], *arguments: Any, path: str | None = None) -> None:
    """Call a native function whose last parameter is an `mh_error *`; raise what it reports, about the file `path`."""
    err = ffi.new("mh_error *")
    _check(function(*arguments, err), err, path)


def _check(status: int, err: Any, path: str | None) -> None:
    if status == lib.MH_OK:
        return
    detail = ffi.string(err.detail).decode(errors="replace") or ffi.string(lib.mh_strerror(status)).decode()
    if status == lib.MH_ERR_SYSTEM:
        raise OSError(err.sys_errno, detail, path)
    error = _ERRORS[status](detail)
    if isinstance(error, BusyError):
        error.is_another_run = err.sys_errno != 0
    raise error


def text_of(error: BaseException) -> str:
    """Return the message of an error, without a second copy of the file's name."""
    if (
        isinstance(error, OSError)
        and error.strerror
        and error.filename is not None
        and str(error.filename) in error.strerror
    ):
        return error.strerror
    return str(error)


def check_version(expected: str) -> None:
    """Refuse a compiled half that was built from another release than the Python half."""
    found = ffi.string(lib.mh_version()).decode()
    if found != expected:
        raise ImportError(f"magicheap {expected} found its native library at {found}: install the package again")
