"""The way from a resumed process that can't be completed to a cold run of its program, which is told why.

    give_up(started, error)      # in the resumed process: executes the program; in a rehearsal, ends it
    cold = taken()               # in the cold run

`started` is the mh_resumed of the process. What the cold run is told is in variables of its environment, which the
program and its children must not see. The launcher tells in the same way why it could not resume.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from magicheap import _kernel
from magicheap._cpython_environment import ENVIRONMENT
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_REASON, _VERDICT = "MAGICHEAP_COLD", "MAGICHEAP_VERDICT"
# entries that the launcher or we have added to the environment
OURS = (b"MAGICHEAP_COLD=", b"MAGICHEAP_WATCH=", b"MAGICHEAP_VERDICT=")
_KEPT = "kept: "  # prefix of the reason if the snapshot is still good


class Cold(NamedTuple):
    """What a cold run was told."""

    reason: str  # "": nothing
    is_kept: bool  # the snapshot is good, and could only not be resumed
    verdict: str  # of _files_again.Unavailable, or ""


def taken() -> Cold:
    """Return what this run was told, and take it out of the environment."""
    told, verdict = ENVIRONMENT.pop(_REASON, ""), ENVIRONMENT.pop(_VERDICT, "")
    return Cold(told.removeprefix(_KEPT), told.startswith(_KEPT), verdict)


def give_up(started: Any, error: BaseException) -> NoReturn:
    verdict = getattr(error, "verdict", None)
    reason = (
        str(error)
        if verdict is not None or isinstance(error, _kernel.Differs)
        else f"the process cannot be resumed: {type(error).__name__}: {error}"
    ).replace("\0", "?")
    lib.mh_rehearsed(os.fsencode(reason))
    _execute(*strings_of(started), reason, verdict or "")


def strings_of(started: Any) -> tuple[list[bytes], list[bytes]]:
    """Return arguments and environment that a resumed process was started with."""
    block, argc = ffi.unpack(started.strings, started.strings_bytes), started.argc
    strings = block.split(b"\0")
    # the block is freed here, and its remains would be in a layer
    ffi.memmove(ffi.from_buffer(block), bytes(len(block)), len(block))
    return strings[:argc], strings[argc:-1]


def _execute(words: list[bytes], entries: list[bytes], reason: str, verdict: str) -> NoReturn:
    variables = dict(entry.split(b"=", 1) for entry in entries if entry.find(b"=") > 0)
    variables[_REASON.encode()] = os.fsencode(reason if verdict else _KEPT + reason)
    if verdict:
        variables[_VERDICT.encode()] = verdict.encode()
    lib.mh_surrender_signals()
    try:
        os.execve(sys.executable, words, variables)
    finally:  # no other code may run here
        os.write(2, os.fsencode(f"magicheap: {reason}, and {sys.executable} can't be executed\n"))
        os._exit(127)
