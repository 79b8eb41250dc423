"""What happened and why, through the logging module: silent unless MAGICHEAP_LOG or the program asks.

MAGICHEAP_LOG=info or debug prints to standard error. logging costs more to import than a warm start, so it is not
imported for a program that uses neither.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging


def info(message: str, *values: object) -> None:
    """Tell what a user who asks "why?" wants to know."""
    if logger := _logger():
        logger.info(message, *values)


def debug(message: str, *values: object) -> None:
    """Tell what somebody who looks for a fault wants to know."""
    if logger := _logger():
        logger.debug(message, *values)


def _logger() -> logging.Logger | None:
    level = os.environ.get("MAGICHEAP_LOG", "").upper()
    if not level and "logging" not in sys.modules:
        return None
    import logging

    logger = logging.getLogger("magicheap")
    if level in ("INFO", "DEBUG") and not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("magicheap: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False  # the program's own handlers would print it a second time
    return logger
