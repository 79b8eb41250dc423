"""Whether Python code asks what a standard stream is, where the stream object knows it without asking the system.

watch(), release()     # the objects note their questions in between, in native/route/streams.h

A stream remembers from its start whether it can be sought in. C sees the other questions: isatty, and fstat, lseek and
fcntl on the descriptor.
"""

from __future__ import annotations

import sys
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper

from magicheap import _pauses
from magicheap._native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LAYERS = (TextIOWrapper, BufferedReader, BufferedWriter, FileIO)
_METHODS = ("seekable", "seek", "tell", "truncate")
_replaced: list[tuple[dict[str, Any], str]] = []  # the layers' own attributes, each with a name in it


def watch() -> None:
    for fd, stream in enumerate(("__stdin__", "__stdout__", "__stderr__")):
        for layer in _layers(getattr(sys, stream, None)):
            for name in _METHODS:
                if name not in vars(layer):
                    vars(layer)[name] = _noted(fd, getattr(layer, name))
                    _replaced.append((vars(layer), name))


def release() -> None:
    for attributes, name in _replaced:
        attributes.pop(name, None)
    _replaced.clear()


def _layers(stream: Any) -> list[Any]:
    """Return the text stream, its buffer and the file; fewer, if the program has taken them apart."""
    found = []
    while type(stream) in _LAYERS:
        found.append(stream)
        try:
            stream = getattr(stream, "buffer" if hasattr(stream, "buffer") else "raw", None)
        except ValueError:  # detached
            break
    return found


def _noted(fd: int, method: Callable[..., Any]) -> Callable[..., Any]:
    def ask(*arguments: Any, **named: Any) -> Any:
        if not _pauses.n:
            lib.mh_note_stream(fd)
        return method(*arguments, **named)

    return ask
