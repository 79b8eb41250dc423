"""The end of a resumed process: CPython's teardown is skipped where it has no visible effect, and left to CPython
elsewhere.

    watch()                # in the committing process, before the body
    kept = prepare()       # in the committing process, behind the body
    settle(kept)           # there, last thing before the fork; a resumed process has nothing more to do
    go_on(kept)            # in the committing process, when it is done
    rehearse()             # in the rehearsing child

CPython ends by joining threads, calling atexit functions, flushing the standard streams, and then destroying every
module. The last part takes longer than the resume, writes to each page of the heap, and mostly only frees memory.

X1  At the commit all objects move to the collector's permanent generation, as gc.freeze advises: no later collection
    writes to them, and at the end the collector knows only objects that are younger than the resume.
X2  Just before CPython destroys the modules (the collection before that calls us), _finalizers.py examines the younger
    objects, and those of the image that prepare noted: would their end have a visible effect? If none would, except
    for files to be written and closed, which we do where no other thread can hold them, mh_leave continues after
    Py_FinalizeEx: exit status, C's atexit handlers and C++ destructors are those of any process. Objects of extension
    modules that have no finalizer are not deallocated, unless a file is open that they may write
    (native/python/teardown.c).
X3  Else, and at any doubt, the image is given back to the collector, and CPython ends as usual. No code here imitates
    which finalizers run, in which order, what their modules still hold, or what a daemon thread keeps alive.
X4  Where the program itself has called gc.freeze or gc.unfreeze, its choice stands, and CPython ends as usual.
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
    is_doubtful: bool  # other carriers exist, which can't be watched
    is_told: bool  # the interpreter was started to report its teardown
    was_resumed: bool  # this process itself was


_resumed: Kept | None = None  # of this process; None: it was not resumed
_witness: list[object] = []  # of a resumed process: younger than the image
_is_watched = False
_is_alone = False  # no other thread holds objects of Python's


def watch() -> None:
    """Register for the end; atexit functions registered later are called before ours."""
    global _is_watched
    if not _is_watched:
        _is_watched = True
        atexit.register(_expect_the_end)


def prepare() -> Kept:
    """Collect garbage, so that the image has none, and freeze the rest."""
    gc.collect()
    objects = gc.get_objects()
    oldest: object = _witness if _resumed else sys.modules
    is_first = (_resumed is None or _resumed.is_first) and any(each is oldest for each in objects)
    carriers, is_doubtful = _watched(objects)
    if _resumed:
        carriers = [*_resumed.carriers, *carriers]
        is_doubtful |= _resumed.is_doubtful
    kept = Kept(is_first, _cpython.give_leave(), tuple(carriers), is_doubtful, _is_told(), _resumed is not None)
    gc.freeze()
    return kept


def settle(kept: Kept) -> None:
    """Do the same with what came since; no resumed process is to look at it. Arrange for a quick end of resumed
    processes."""
    gc.collect()
    if not _finalizers.carriers(gc.get_objects()):
        gc.freeze()
    _take_up(kept)


def _is_told() -> bool:
    return bool(sys.flags.verbose or sys.flags.dev_mode or hasattr(sys, "gettotalrefcount"))


def _watched(objects: list[Any]) -> tuple[list[weakref.ref[Any]], bool]:
    """Return weak references to the carriers, and whether there is one with a visible end that a weak reference would
    change."""
    references, is_doubtful = [], False
    for each in _finalizers.carriers(objects):
        try:
            references.append(weakref.ref(each))
        except TypeError:
            is_doubtful |= _finalizers.is_heard(each)
    return references, is_doubtful


def go_on(kept: Kept) -> None:
    """Undo prepare, unless that would undo the program's own freeze, or that of an earlier commit: a resumed process
    keeps to X1."""
    _take_up(kept if kept.was_resumed else None)
    if not kept.was_resumed and kept.is_first:
        gc.unfreeze()


def _take_up(kept: Kept | None) -> None:
    global _resumed, _witness
    _resumed, _witness = kept, []


def rehearse() -> None:
    """Perform the steps of the end, except the leaving, for which mh_leave finds no way here, and the closing of files,
    which belong to the committing process."""
    global _is_alone
    threading = sys.modules.get("threading")
    if threading is not None and len(threading.enumerate()) == 1:  # carried threads are not there, and never end
        shut_down(threading)
    _expect_the_end()
    _is_alone = False
    gc.callbacks.pop()
    _leave_or_restore()


def _expect_the_end() -> None:
    """Have the collection after all atexit functions call us."""
    global _is_alone
    if _resumed:
        _is_alone = len(current_frames()) == 1  # later, CPython has forgotten its daemon threads
        gc.callbacks.append(_EndOfCollecting() if not gc.isenabled() else _end)
        gc.enable()


def _end(phase: str, info: dict[str, int]) -> None:
    if phase == "start" and sys.is_finalizing():
        gc.callbacks.remove(_end)
        _leave_or_restore()


class _EndOfCollecting:
    """Replaces _end where the program has switched the collector off: CPython then does not collect at this point."""

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
    """Leave. Where that is impossible, undo X1 (unless X4), or return whether the caller must."""
    try:
        kept, young = _resumed, gc.get_objects()
        if kept is None or not kept.is_first or not _is_frozen_by_us(kept, set(map(id, young))):
            return False  # X4
        if kept.can_leave and _is_silent(kept, young):
            _cpython.leave()
    except Exception:  # from the examination of finalizers: CPython's own end is always right
        pass
    gc.freeze()  # appends the younger objects to the image's, in the order of their age
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
    carriers = _finalizers.carriers(young)
    heard: list[Any] = []
    for reference in kept.carriers:
        carriers.append(reference())  # None: it has died
    for each in carriers:
        if each is not None and id(each) not in spared and _finalizers.is_heard(each):
            heard.append(each)
    return not heard or (_is_alone and _close(heard))


def _close(heard: list[Any]) -> bool:
    files = _finalizers.closable(heard)
    for file in files or ():
        try:
            file.close()
        except (OSError, ValueError):  # ignored, as that of a finalizer is
            pass
    return files is not None


def _is_usual(kept: Kept) -> bool:
    """Return whether no callback or report would observe the teardown itself."""
    if kept.is_told or b"PYTHONMALLOCSTATS" in posix.environ:
        return False
    callbacks = gc.callbacks and any(not isinstance(each, _EndOfCollecting) for each in gc.callbacks)
    return not (callbacks or gc.garbage or gc.get_debug())
