"""The exceptions, and the one place where a native status becomes one.

    MagicHeapError          never raised itself
      FormatError           not a snapshot, or one of another format version
      CorruptError          a snapshot that contradicts itself or its checksum
      StaleError            an input of the snapshot has changed
      BusyError             the address range or the lock is taken
      NoSpaceError          the arena or the disk is full
      DanglingError         pointers that a later run could not follow
      UntrustedError        somebody else could have chosen what the snapshot holds
      UnsupportedError      this machine cannot do it
      RootError             (also ValueError) a root that a later run could not get back
    OSError                 whatever the kernel said, with the filename
    ValueError              the caller's mistake
"""

from __future__ import annotations

from magicheap._native import ffi, lib

TYPE_CHECKING = False  # typing itself is not imported: a warm start should not pay for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class MagicHeapError(Exception):
    """Base of what this package raises; never raised itself."""


class FormatError(MagicHeapError):
    """The file is no snapshot, or one of another format version."""


class CorruptError(MagicHeapError):
    """The snapshot contradicts itself or its checksum."""


class StaleError(MagicHeapError):
    """An input of the snapshot has changed."""


class BusyError(MagicHeapError):
    """The address range or the lock is taken."""

    is_another_run = False  # which makes the snapshot in our stead: nothing is wrong


class NoSpaceError(MagicHeapError):
    """The arena or the disk is full."""


class DanglingError(MagicHeapError):
    """Blocks of the arena hold pointers that a later run could not follow."""


class UntrustedError(MagicHeapError):
    """Owner, mode or directory of the file would let somebody else choose our memory."""


class UnsupportedError(MagicHeapError):
    """This machine cannot do it."""


class RootError(MagicHeapError, ValueError):
    """The root holds something that a later run could not get back."""


class MagicHeapWarning(UserWarning):
    """The program goes on, but without the snapshot it asked for."""


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
    """Return what an error says, without the file's name where the message has it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None and str(error.filename) in error.strerror:
        return error.strerror
    return str(error)


def check_version(expected: str) -> None:
    """Refuse a compiled half that was built from another release than the Python half."""
    found = ffi.string(lib.mh_version()).decode()
    if found != expected:
        raise ImportError(f"magicheap {expected} found its native library at {found}: install the package again")
