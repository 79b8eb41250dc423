"""Standard streams of a resumed process: those that a plain interpreter would make for the run's descriptors.

    kept = prepare()       # in the committing process, last thing before the fork
    take_up(kept)          # in a resumed process

The objects stay, since other objects refer to them (`from sys import stdout`, handlers of logging). The __init__ of
each layer runs again on the same object. That drops buffered data, and determines again what depends on the descriptor:
seekability, buffer size, and whether it is a terminal. If the descriptor is of the same kind as at the commit (a
terminal, a pipe: a file without a position), all of that is unchanged, and nothing is done. Only the FileIO is
replaced; the old one, which has only the descriptor's number, still works. The rules are those of create_stdio in
CPython's Python/pylifecycle.c.

The program's changes by reconfigure() stay: encoding, errors, write_through, and line_buffering where it was not the
default; newline can't be read back and becomes the default again. A stream that the program replaced stays replaced,
but the stream below it (`sys.stdout.buffer`) is renewed. A closed descriptor becomes None, and the old object is
closed. The interpreter's options and PYTHON* are those of the commit: runs with others have another variant.
"""

from __future__ import annotations

import os
import sys
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from typing import Any, NamedTuple

from magicheap._cpython_library import renew_buffer, renew_text
from magicheap._errors import UnsupportedError, call
from magicheap._native import ffi, lib
from magicheap._surroundings import input_is_read

NAMES = ("stdin", "stdout", "stderr")  # by descriptor


class Stream(NamedTuple):
    """One of the three at the commit: the layers above its descriptor, None where a layer is missing."""

    text: TextIOWrapper | None
    buffer: BufferedReader | BufferedWriter | None  # None also when unbuffered
    raw: FileIO | None
    line_buffering: bool | None  # the program's own choice; None: the default
    kind: int  # of the descriptor; 0: it has a position, or data is buffered


class Kept(NamedTuple):
    """The result of prepare."""

    streams: tuple[Stream, ...]  # by descriptor
    is_unbuffered: bool  # python -u
    is_read_by_c: bool  # the C library has a buffer for standard input
    encoding: str  # of a stream that has no object yet
    errors: str


def prepare() -> Kept:
    """Flush all output, so that it is written once, and return the streams. UnsupportedError: the encoding is
    unknown."""
    is_flushed = flush()
    streams = tuple(_find(fd, is_flushed) for fd in range(3))
    models = [stream.text for stream in streams[:2] if stream.text]  # errors of stderr are always backslashreplace
    # what is closed at the start is closed in each run of this snapshot
    if not models and (_is_open(0) or _is_open(1)):
        raise UnsupportedError(
            "standard input and standard output have no text streams: how later runs would decode theirs is unknown"
        )
    is_unbuffered = any(stream.raw and not stream.buffer for stream in streams[1:])
    encoding, errors = (models[0].encoding, models[0].errors or "strict") if models else ("utf-8", "strict")
    return Kept(streams, is_unbuffered, lib.mh_has_read_input(), encoding, errors)


def take_up(kept: Kept) -> None:
    """Make the streams anew. OSError: a descriptor that Python can't use, such as a directory."""
    if kept.is_read_by_c:
        lib.mh_forget_input()
    for fd, (name, stream) in enumerate(zip(NAMES, kept.streams, strict=True)):
        old = getattr(sys, f"__{name}__")
        text = None
        if stream.kind and stream.kind == lib.mh_descriptor_kind(fd):
            continue
        if _is_open(fd):
            text = _renew(fd, stream, kept)
        else:
            _close(stream)
        if old is None or old is stream.text:
            setattr(sys, f"__{name}__", text)
            if getattr(sys, name) is old:
                setattr(sys, name, text)
        if fd == 1 and not kept.is_unbuffered:
            call(lib.mh_buffer_output, os.isatty(1))


# ---- before the fork ----


def flush() -> bool:
    """Flush; return whether no output is left."""
    is_flushed = True
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        # None; no space, no reader; closed: the program will get the error
        except (AttributeError, OSError, ValueError):
            is_flushed = False
    lib.mh_flush_streams(ffi.NULL)  # of C; each run will get the error of output that could not be written
    return is_flushed


def _find(fd: int, is_flushed: bool) -> Stream:
    """Find the layers: usually below sys.__stdout__; below sys.stdout if the program has moved them there."""
    for text in (getattr(sys, f"__{NAMES[fd]}__"), getattr(sys, NAMES[fd])):
        layers = _layers(text, fd)
        if layers:
            own = text if text is getattr(sys, f"__{NAMES[fd]}__") else None
            return Stream(
                own,
                *layers,
                _chosen_line_buffering(own, fd),
                lib.mh_descriptor_kind(fd) if _is_pristine(own, fd, is_flushed) else 0,
            )
    return Stream(None, None, None, None, 0)


def _is_pristine(text: TextIOWrapper | None, fd: int, is_flushed: bool) -> bool:
    """Tell whether no data is buffered."""
    return text is not None and not text.closed and (is_flushed if fd else not input_is_read())


def _layers(text: object, fd: int) -> tuple[BufferedReader | BufferedWriter | None, FileIO] | None:
    """Return (buffer, raw) if `text` is a text stream of `fd` of the interpreter's kind."""
    try:
        buffer = text.buffer  # type: ignore[attr-defined]
        raw = getattr(buffer, "raw", buffer)
        if type(text) is TextIOWrapper and type(raw) is FileIO and raw.fileno() == fd:
            return (buffer if buffer is not raw else None), raw
    except (AttributeError, ValueError):  # none; detached or closed
        pass
    return None


def _chosen_line_buffering(text: TextIOWrapper | None, fd: int) -> bool | None:
    if text is None or text.line_buffering == (not text.write_through and (fd == 2 or os.isatty(fd))):
        return None
    return text.line_buffering


# ---- after the resume ----


def _is_open(fd: int) -> bool:
    try:
        os.get_inheritable(fd)
    except OSError:
        return False
    return True


def _renew(fd: int, stream: Stream, kept: Kept) -> TextIOWrapper | None:
    mode = "w" if fd else "r"
    raw = FileIO(fd, mode, closefd=False)  # a new one: __init__ would keep the old one's seekability
    buffer: FileIO | BufferedReader | BufferedWriter = raw
    if stream.buffer or not (fd and kept.is_unbuffered):
        kind: Any = BufferedWriter if fd else BufferedReader
        buffer = stream.buffer or kind.__new__(kind)
        renew_buffer(buffer, raw)
    raw.name = f"<{NAMES[fd]}>"
    if stream.raw and not stream.text:
        return None  # detached: it belongs to an object of the program
    text = stream.text or TextIOWrapper.__new__(TextIOWrapper)
    _renew_text(text, buffer, stream, fd, kept)
    text.mode = mode  # type: ignore[misc]
    return text


def _renew_text(
    text: TextIOWrapper, buffer: FileIO | BufferedReader | BufferedWriter, stream: Stream, fd: int, kept: Kept
) -> None:
    if stream.text:
        encoding, errors, write_through = text.encoding, text.errors or "strict", text.write_through
    else:
        encoding, errors, write_through = (
            kept.encoding,
            "backslashreplace" if fd == 2 else kept.errors,
            kept.is_unbuffered,
        )
    line_buffering = stream.line_buffering
    if line_buffering is None:
        line_buffering = not write_through and (fd == 2 or buffer.isatty())
    renew_text(text, buffer, encoding, errors, line_buffering, write_through)


def _close(stream: Stream) -> None:
    for layer in (stream.text, stream.buffer, stream.raw):
        try:
            if layer is not None:
                layer.close()
        except OSError:  # output that could not be flushed before the fork is dropped
            pass
