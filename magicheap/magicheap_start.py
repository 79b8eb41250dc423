"""The first instruction of a program that may become a snapshot: called by magicheap.pth as the interpreter starts.

It lies beside the package, which is not loaded for all other programs. In a virtual environment each .pth file is
executed twice: once is enough. A program that `magic` has begun is watched from here on, and so is a script whose text
names the package. What others ask before they import it is read from their source (_prefix.py).
"""

import os
import sys

_SCRIPT_BYTES = 1 << 16  # arbitrary: who names the package later than that is watched from its import on


def begin() -> None:
    """Begin to watch, where there is reason to."""
    is_started_by_us = os.environ.pop("MAGICHEAP_WATCH", None) is not None
    if is_started_by_us or ("MAGICHEAP_DISABLE" not in os.environ and _names_us(sys.argv[0])):
        from magicheap import _watch

        _watch.begin_from_start(is_started_by_us)


def _names_us(script: str) -> bool:
    try:
        fd = os.open(script, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return b"magicheap" in os.read(fd, _SCRIPT_BYTES)
        finally:
            os.close(fd)
    except OSError:  # Python will say so itself
        return False
