"""What happened and why: silent, unless MAGICHEAP_LOG or the program asks.

MAGICHEAP_LOG=info or debug prints to standard error. Otherwise it goes to the logger "magicheap", if the program uses
logging at all: importing it costs more than a warm start.
"""

from __future__ import annotations

import posix
import sys

_LEVELS = (b"debug", b"info")


def info(message: str, *values: object) -> None:
    """Tell what a user who asks "why?" wants to know."""
    _tell(b"info", message, values)


def debug(message: str, *values: object) -> None:
    """Tell what somebody who looks for a fault wants to know."""
    _tell(b"debug", message, values)


def is_told(level: bytes) -> bool:
    """Return whether MAGICHEAP_LOG asks for messages of this level."""
    asked = _asked()
    return asked in _LEVELS and _LEVELS.index(level) >= _LEVELS.index(asked)


def _asked() -> bytes:
    # os.environ runs Python, which a resumed process pays for by the page
    return posix.environ.get(b"MAGICHEAP_LOG", b"").lower()


def _tell(level: bytes, message: str, values: tuple[object, ...]) -> None:
    if _asked() in _LEVELS:
        if is_told(level) and sys.stderr is not None:
            print("magicheap:", message % values, file=sys.stderr, flush=True)
    elif "logging" in sys.modules:
        import logging

        logging.getLogger("magicheap").log(logging.INFO if level == b"info" else logging.DEBUG, message, *values)
