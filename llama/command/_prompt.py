"""The prompt: the words of -p, the content of standard input, and typed turns.

Q1  With -p, standard input is not read unless a - says that it belongs to the prompt: a shell's loop may read its lines
    from it, and our parent may keep it open for ever. Without -p, a pipe, file or socket on standard input holds the
    prompt.
Q2  A wait for standard input is announced on stderr, once: after a second without any input, or after five without
    further input.
"""

from __future__ import annotations

import os
import select
import stat
import sys

from llama.command._options import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import TextIO

NO_PROMPT = "no prompt: give one with -p, or pipe it in"
FIRST_SILENCE_MS, SILENCE_MS = 1000, 5000  # arbitrary: longer than most programs take to start, and than most pauses
READ_BYTES = 1 << 16  # the capacity of a pipe


def check_prompt(args: argparse.Namespace) -> None:
    """Raise UsageError if it is known before stdin is read that there is no prompt, or no stdout for the answer."""
    if sys.stdout is None:
        raise UsageError("stdout is closed: there is nowhere to answer")
    if args.interactive and not (sys.stdin and sys.stdin.isatty()):
        raise UsageError("-i needs a terminal on stdin; without -i, stdin is read if there is no -p, or a - at the end")
    if args.interactive and args.stdin:
        raise UsageError("-i reads turn by turn what is typed: leave out the -")
    if args.stdin and sys.stdin is None:
        raise UsageError("standard input is closed: there is no prompt in it")
    if not (args.prompt or args.interactive or _reads_stdin(args)):
        raise UsageError(NO_PROMPT)
    if not _reads_stdin(args) and not args.interactive and _is_terminal(sys.stderr) and _holds_something(sys.stdin):
        tell("standard input is not read where there is a -p: end with a - to join it to the prompt")


def joined_prompt(args: argparse.Namespace, most_bytes: int | None) -> str:
    """Return the -p text and stdin's, with a blank line between them; UsageError if both are empty without -i.

    most_bytes: a longer stdin is refused without reading on; None: no bound.
    """
    read = _read_stdin(most_bytes) if _reads_stdin(args) else ""
    prompt = "\n\n".join(part for part in (args.prompt, read) if part)
    if not prompt and not args.interactive:
        raise UsageError(NO_PROMPT)
    return prompt


def _reads_stdin(args: argparse.Namespace) -> bool:
    """Tell whether stdin belongs to the prompt (Q1)."""
    return bool(args.stdin) or (args.prompt is None and not args.interactive and _is_piped())


def _is_piped() -> bool:
    if sys.stdin is None:  # closed
        return False
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _holds_something(stream: TextIO | None) -> bool:
    """Tell whether `stream` is a pipe with unread bytes."""
    if stream is None or not stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
        return False
    waiting = select.poll()
    waiting.register(stream.fileno(), select.POLLIN)
    return any(events & select.POLLIN for _, events in waiting.poll(0))


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _is_readable(descriptor: int, timeout_ms: int | None) -> bool:
    """Wait until a read would not block, at most so long (None: for ever); at the end of input it would not."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(timeout_ms))


def _read_stdin(most_bytes: int | None) -> str:
    """Return stdin's text without newlines at its end, as $(...) does."""
    descriptor, read = sys.stdin.fileno(), bytearray()
    silence_ms: int | None = FIRST_SILENCE_MS
    while True:
        if not _is_readable(descriptor, silence_ms):
            tell("waiting for the prompt on standard input" + (", which Ctrl-D ends" if sys.stdin.isatty() else ""))
            silence_ms = None
            continue
        try:
            piece = os.read(descriptor, READ_BYTES)
        except BlockingIOError:  # another reader was faster
            continue
        if not piece:
            return read.decode("utf-8", "replace").rstrip("\n")
        read += piece
        if most_bytes is not None and len(read) > most_bytes:
            raise UsageError(
                f"standard input holds more than {most_bytes} bytes, which no context of this size can hold: "
                "shorten it or raise -c"
            )
        silence_ms = silence_ms and SILENCE_MS


def ask() -> str | None:
    """Return the next typed turn, or None at the end of input."""
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline()
        if not line:
            print(file=sys.stderr)
            return None
        if line.strip():
            return line.decode("utf-8", "replace").rstrip("\n")


def tell(line: object) -> None:
    if sys.stderr is not None:
        print(f"magic-llama: {line}", file=sys.stderr, flush=True)
