"""The end of a resumed process: CPython's own teardown is forgone where nobody would notice, and left to CPython where
somebody would.

    watch()                # in the committing process, before the body
    kept = prepare()       # in the committing process, behind the body
    settle()               # there, last thing before the fork
    go_on(kept)            # in the committing process, when it is done
    take_up(kept)          # in a resumed process
    rehearse()             # behind take_up, in a process that only tries what a resumed one does

CPython ends by joining threads, calling what atexit has, flushing the standard streams, and then destroying every
module; the last part takes longer than the resume, writes to each page of the heap, and mostly does nothing but free
memory.

X1  At the commit everything there is goes to the collector's permanent generation, as gc.freeze advises: no later
    collection writes to it, and what the collector knows of at the end came later.
X2  As soon as the modules are to be destroyed (the collection before that calls us), what came later, and what of the
    image prepare noted, is asked whether its end would be heard (_finalizers.py). If nothing would, but for files that
    are to be written and closed, which is done where no other thread may hold them, mh_leave goes on behind
    Py_FinalizeEx: exit status, C's atexit handlers and the destructors of C++ are those of any process. Objects of
    extension modules that have no finalizer are not deallocated, unless a file is open that they may write
    (native/python/teardown.c).
X3  Else, and at any doubt, the image is given back to the collector, and CPython ends as ever: which finalizers are
    called, in which order, what their modules still hold, and what a daemon thread keeps from being finalized is
    nowhere imitated.
X4  Where the program has itself called gc.freeze or gc.unfreeze, its choice stands, and CPython ends as ever.
"""

from __future__ import annotations

import atexit
import gc
import posix
import sys
import weakref
from typing import NamedTuple

from magicheap import _cpython, _finalizers
from magicheap._cpython import current_frames
from magicheap._cpython_library import shut_down

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Kept(NamedTuple):
    """What prepare found; itself part of the permanent generation."""

    is_first: bool  # nothing was frozen before by the program
    can_leave: bool
    carriers: tuple[weakref.ref[Any], ...]  # of the image: see _finalizers.carriers
    is_doubtful: bool  # there are others, which can't be watched
    is_told: bool  # somebody wants to hear of the teardown itself


_resumed: Kept | None = None  # of this process; None: it was not resumed
_witness: list[object] = []  # of a resumed process: as old as the resume
_is_watched = False
_is_alone = False  # no other thread holds objects of Python's


def watch() -> None:
    """Have the end tell us; what is registered later is called before us."""
    global _is_watched
    if not _is_watched:
        _is_watched = True
        atexit.register(_expect_the_end)


def prepare() -> Kept:
    """Throw away what is unreachable, so that it is in no image, and freeze the rest."""
    gc.collect()
    objects = gc.get_objects()
    oldest: object = _witness if _resumed else sys.modules
    is_first = (_resumed is None or _resumed.is_first) and any(each is oldest for each in objects)
    carriers, is_doubtful = _watched(objects)
    if _resumed:
        carriers = [*_resumed.carriers, *carriers]
        is_doubtful |= _resumed.is_doubtful
    kept = Kept(is_first, _cpython.give_leave(), tuple(carriers), is_doubtful, _is_told())
    gc.freeze()
    return kept


def settle() -> None:
    """Do the same with what came since; no resumed process is to look at it."""
    gc.collect()
    if not _finalizers.carriers(gc.get_objects()):
        gc.freeze()


def _is_told() -> bool:
    return bool(sys.flags.verbose or sys.flags.dev_mode or hasattr(sys, "gettotalrefcount"))


def _watched(objects: list[Any]) -> tuple[list[weakref.ref[Any]], bool]:
    """Return references to the carriers, and whether one would be heard that must not be referred to: that would change
    it."""
    references, is_doubtful = [], False
    for each in _finalizers.carriers(objects):
        try:
            references.append(weakref.ref(each))
        except TypeError:
            is_doubtful |= _finalizers.is_heard(each)
    return references, is_doubtful


def go_on(kept: Kept) -> None:
    """Undo what prepare did, unless that would undo another's choice, or an earlier one of ours: a resumed process
    keeps to X1."""
    if _resumed:
        take_up(kept)
    elif kept.is_first:
        gc.unfreeze()


def take_up(kept: Kept) -> None:
    """Arrange a quick end."""
    global _resumed, _witness
    _resumed, _witness = kept, []
    watch()


def rehearse() -> None:
    """Do what is done at the end, all but leaving, for which mh_leave finds no way, and closing files, which are the
    committing process's."""
    global _is_alone
    if "threading" in sys.modules:
        shut_down(sys.modules["threading"])
    _expect_the_end()
    _is_alone = False
    gc.callbacks.pop()
    _leave_or_restore()


def _expect_the_end() -> None:
    """Have the collection that comes after all of atexit call us."""
    global _is_alone
    if _resumed:
        _is_alone = len(current_frames()) == 1  # later, CPython has forgotten the threads that it does not join
        gc.callbacks.append(_EndOfCollecting() if not gc.isenabled() else _end)
        gc.enable()


def _end(phase: str, info: dict[str, int]) -> None:
    if phase == "start" and sys.is_finalizing():
        gc.callbacks.remove(_end)
        _leave_or_restore()


class _EndOfCollecting:
    """In place of _end where the program has switched the collector off: then CPython would not collect at this
    point."""

    is_frozen = False

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if not sys.is_finalizing():
            return
        if phase == "start":
            self.is_frozen = _leave_or_restore(keeps_frozen=True)
            return
        gc.callbacks.remove(self)
        gc.disable()
        if self.is_frozen:
            gc.unfreeze()


def _leave_or_restore(keeps_frozen: bool = False) -> bool:
    """Leave; or, where that can't be done, undo X1 (unless X4), or return whether that is still to be done."""
    try:
        kept, young = _resumed, gc.get_objects()
        if kept is None or not kept.is_first or not _is_frozen_by_us(kept, set(map(id, young))):
            return False  # X4
        if kept.can_leave and _is_silent(kept, young):
            _cpython.leave()
    except Exception:  # of a finalizer's doubt: CPython's own end is always right
        pass
    gc.freeze()  # what came later now stands behind the image, in the order in which it came
    if not keeps_frozen:
        gc.unfreeze()
    return keeps_frozen


def _is_frozen_by_us(kept: Kept, young: set[int]) -> bool:
    return id(_witness) in young and id(kept) not in young


def _is_silent(kept: Kept, young: list[Any]) -> bool:
    if kept.is_doubtful or not _is_usual(kept):
        return False
    spared = _finalizers.streams_are_clean()
    if spared is None:
        return False
    image = (reference() for reference in kept.carriers)
    carriers = [*_finalizers.carriers(young), *(each for each in image if each is not None)]
    heard = [each for each in carriers if id(each) not in spared and _finalizers.is_heard(each)]
    return not heard or (_is_alone and _close(heard))


def _close(heard: list[Any]) -> bool:
    files = _finalizers.closable(heard)
    for file in files or ():
        try:
            file.close()
        except (OSError, ValueError):  # as a finalizer's, nobody is told
            pass
    return files is not None


def _is_usual(kept: Kept) -> bool:
    """Return whether nobody has asked to be told of the teardown itself."""
    if kept.is_told or b"PYTHONMALLOCSTATS" in posix.environ:
        return False
    callbacks = gc.callbacks and any(not isinstance(each, _EndOfCollecting) for each in gc.callbacks)
    return not (callbacks or gc.garbage or gc.get_debug())
