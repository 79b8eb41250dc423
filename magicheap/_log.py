"""What happened and why: silent, unless MAGICHEAP_LOG or the program asks.

MAGICHEAP_LOG=info or debug prints to standard error. Otherwise messages go to the logger "magicheap", if the program
has imported logging: the import costs more than a warm start.
"""

from __future__ import annotations

import posix
import sys

_LEVELS = (b"debug", b"info")


def info(message: str, *values: object) -> None:
    """Log a message for a user who asks why a run is cold."""
    _tell(b"info", message, values)


def debug(message: str, *values: object) -> None:
    """Log a message for a developer who looks for a fault."""
    _tell(b"debug", message, values)


def is_told(level: bytes) -> bool:
    """Return whether MAGICHEAP_LOG asks for messages of this level."""
    asked = _asked()
    return asked in _LEVELS and _LEVELS.index(level) >= _LEVELS.index(asked)


def _asked() -> bytes:
    # os.environ executes Python code, which costs a resumed process page faults
    return posix.environ.get(b"MAGICHEAP_LOG", b"").lower()


def _tell(level: bytes, message: str, values: tuple[object, ...]) -> None:
    if _asked() in _LEVELS:
        if is_told(level) and sys.stderr is not None:
            _print(f"magicheap: {message % values}\n")
    elif "logging" in sys.modules:
        import logging

        logging.getLogger("magicheap").log(logging.INFO if level == b"info" else logging.DEBUG, message, *values)


def _print(text: str) -> None:
    """Write to standard error. Nothing stays in its buffer: where nobody can read it, the program would end with an
    error that is not its own."""
    stream, own = sys.stderr, sys.__stderr__
    try:
        if own is not None and stream is own:
            posix.write(own.fileno(), text.encode(errors="backslashreplace"))
        else:  # the program's own
            print(text, end="", file=stream, flush=True)
    except Exception:
        pass
