"""What happened and why: silent, unless MAGICHEAP_LOG or the program asks.

MAGICHEAP_LOG=info or debug prints to standard error. Otherwise it goes to the logger "magicheap", if the program uses logging at all:
importing it costs more than a warm start.
"""

from __future__ import annotations

import os
import sys

_LEVELS = ("debug", "info")


def info(message: str, *values: object) -> None:
    """Tell what a user who asks "why?" wants to know."""
    _tell("info", message, values)


def debug(message: str, *values: object) -> None:
    """Tell what somebody who looks for a fault wants to know."""
    _tell("debug", message, values)


def _tell(level: str, message: str, values: tuple[object, ...]) -> None:
    asked = os.environ.get("MAGICHEAP_LOG", "").lower()
    if asked in _LEVELS:
        if _LEVELS.index(level) >= _LEVELS.index(asked) and sys.stderr is not None:
            print("magicheap:", message % values, file=sys.stderr, flush=True)
    elif "logging" in sys.modules:
        import logging

        logging.getLogger("magicheap").log(logging.INFO if level == "info" else logging.DEBUG, message, *values)
