"""Questions of this package's own, which are not the program's: it asks them in a pause."""

from __future__ import annotations

from magicheap._native import lib

n = 0  # pauses that have begun and not ended, of all threads


class _Pause:
    def __enter__(self) -> None:
        global n
        n += 1
        lib.mh_pause(True)

    def __exit__(self, *_: object) -> None:
        global n
        lib.mh_pause(False)
        n -= 1


_PAUSE = _Pause()


def pause() -> _Pause:
    """Return a context in which questions are our own."""
    return _PAUSE  # pauses nest
