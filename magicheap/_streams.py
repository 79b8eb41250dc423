"""Standard streams of a resumed process: what a plain interpreter would make of the descriptors it was started with.

    kept = prepare()       # in the committing process, last thing before the fork
    take_up(kept)          # in a resumed process

The objects stay, since others hold them (`from sys import stdout`, handlers of logging): each layer's __init__ is run
again on the very same object, which drops what is buffered and finds out anew what depends on the descriptor:
seekability, buffer size, and whether it is a terminal. Where the descriptor is of the same kind as at the commit (a
terminal, a pipe: nothing that has a position), all of that is as it was, and nothing is done. Only the FileIO is
another; the old one, which has but the descriptor's number, goes on working. The rules are those of create_stdio in
CPython's Python/pylifecycle.c.

What the program had changed by reconfigure() stays: encoding, errors, write_through, and line_buffering where it was
not the default; newline can't be read back and becomes the default again. A stream that the program replaced stays
replaced, but what it stands on (`sys.stdout.buffer`) is renewed. A closed descriptor is None, and whoever holds the old
object finds it closed. The interpreter's options and PYTHON* are as at the commit: another snapshot answers to others.
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
    """One of the three at the commit: the layers above its descriptor, each None where there is none."""

    text: TextIOWrapper | None
    buffer: BufferedReader | BufferedWriter | None  # None also when unbuffered
    raw: FileIO | None
    line_buffering: bool | None  # the program's own choice; None: the default
    kind: int  # of the descriptor; 0: it has a position, or something is buffered


class Kept(NamedTuple):
    """What prepare found."""

    streams: tuple[Stream, ...]  # by descriptor
    is_unbuffered: bool  # python -u
    is_read_by_c: bool  # the C library has a buffer for standard input
    encoding: str  # of a stream that has no object yet
    errors: str


def prepare() -> Kept:
    """Flush all output, so that it is written once, and note what there is. UnsupportedError: too little to go by."""
    is_flushed = flush()
    streams = tuple(_find(fd, is_flushed) for fd in range(3))
    models = [stream.text for stream in streams[:2] if stream.text]  # errors of stderr are always backslashreplace
    if not models:
        raise UnsupportedError(
            "standard input and standard output are closed: how later runs would decode theirs cannot be told"
        )
    is_unbuffered = any(stream.raw and not stream.buffer for stream in streams[1:])
    return Kept(streams, is_unbuffered, lib.mh_has_read_input(), models[0].encoding, models[0].errors or "strict")


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
    """Return whether nothing is left to be written."""
    is_flushed = True
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        # None; no space, nobody reads; closed: the program will hear of it
        except (AttributeError, OSError, ValueError):
            is_flushed = False
    lib.mh_flush_streams(ffi.NULL)  # of C; what could not be written, each run will hear of
    return is_flushed


def _find(fd: int, is_flushed: bool) -> Stream:
    """Find the layers: usually below sys.__stdout__; below sys.stdout if the program has detached them from there."""
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
    """Tell whether nothing is buffered."""
    return text is not None and not text.closed and (is_flushed if fd else not input_is_read())


def _layers(text: object, fd: int) -> tuple[BufferedReader | BufferedWriter | None, FileIO] | None:
    """Return (buffer, raw) if `text` is a text stream of `fd` such as the interpreter makes."""
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
    raw = FileIO(fd, mode, closefd=False)  # not the old one again: __init__ leaves it as seekable as it was
    buffer: FileIO | BufferedReader | BufferedWriter = raw
    if stream.buffer or not (fd and kept.is_unbuffered):
        kind: Any = BufferedWriter if fd else BufferedReader
        buffer = stream.buffer or kind.__new__(kind)
        renew_buffer(buffer, raw)
    raw.name = f"<{NAMES[fd]}>"
    if stream.raw and not stream.text:
        return None  # detached: the program's own object stands on it
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
        except OSError:  # what could not be flushed before the fork goes nowhere
            pass
