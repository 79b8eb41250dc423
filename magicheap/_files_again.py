"""Files of a resumed process: makes and opens the files that _files.py found at the commit, as the table there says.

    take_up(held, snapshot)          # in a resumed process, as the last step; Unavailable: nothing was changed
    reason, left = leave()           # in a process that is to be exchanged for a snapshot;
                                     # come_back(left), if the exchange fails

Where Python itself reaches the `with` and is exchanged for the snapshot, or a resumed process for a layer, files that
it made before would be made twice. leave() removes them, or says why the process can't be exchanged.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import sys
import time

from magicheap import _openings
from magicheap._cpython_library import adopt_finalizers
from magicheap._errors import UnsupportedError
from magicheap._files import (
    ADD,
    CONTENT_BYTES_MAX,
    COPY,
    MAKE,
    PRIVATE,
    REWRITE,
    Descriptor,
    Held,
    began,
    read_tree,
    topmost,
)
from magicheap._identity import file_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from magicheap._files import Tree
    from magicheap._identity import File

_SETTABLE = os.O_APPEND | os.O_NONBLOCK | os.O_DIRECT | os.O_NOATIME  # by F_SETFL
_F_OFD_SETLK = 37  # of linux/fcntl.h; Python may be built without the name
_AGAIN_S = 24 * 3600  # a second snapshot that can't be used for such a reason within this time is the last
BUSY, STALE, LEFT, TWICE = "busy", "stale", "left", "twice"


class Unavailable(Exception):
    """A file can't be restored. `verdict`: BUSY, a later run may succeed; STALE, a new snapshot will help; LEFT, it may
    help; TWICE, it was made for that reason before."""

    def __init__(self, reason: str, verdict: str) -> None:
        super().__init__(reason)
        self.verdict = verdict


def take_up(held: Held, snapshot: str) -> None:
    """Make and open all files. Unavailable: one can't be restored; files made before that are removed again."""
    claims: list[str] = []
    _adopt_finalizers(held.owner[0])
    try:
        _check(held)
        for path, tree in held.trees:
            _claim(path, tree, claims)
        opened = [(each, _open(each, claims)) for each in held.descriptors if each.how != COPY]
        for each, fd in opened:
            _place(each, fd)
        for each in held.descriptors:
            if each.how == COPY:
                os.dup2(each.original, each.fd, each.is_inheritable)
        for each, _ in sorted(opened, key=lambda pair: pair[0].how == ADD):
            _fill(each)
    except (OSError, Unavailable) as error:
        for path in reversed(claims):
            _remove(path)
        if isinstance(error, FileExistsError):
            raise _taken(held, snapshot, str(error.filename)) from None
        if isinstance(error, Unavailable):
            raise
        raise _lost(held, f"{error.filename or 'a file that was open at the commit'}: {error.strerror}") from None


def _adopt_finalizers(pid: int) -> None:
    """Make multiprocessing remove its temporary directory: it does so only in the process that made the directory."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util:
        adopt_finalizers(util, pid)


def _check(held: Held) -> None:
    for path, is_directory in held.made:
        if not (os.path.isdir(path) if is_directory else os.path.lexists(path)):
            raise _lost(held, f"{path}, which the body made, is gone")
    if held.directory and os.getcwd() != held.directory:
        raise Unavailable(
            f"files are open by names relative to {held.directory}, and this run is in {os.getcwd()}", STALE
        )


def _lost(held: Held, reason: str) -> Unavailable:
    return Unavailable(reason, TWICE if held.is_again and time.time() - held.made_at < _AGAIN_S else LEFT)


def _taken(held: Held, snapshot: str, path: str) -> Unavailable:
    if began(held.owner[0]) == held.owner[1] or _is_used(snapshot):
        return Unavailable(f"{path}, which each run makes for itself, is in use by another run", BUSY)
    return _lost(held, f"{path}, which each run makes for itself, was left by an earlier run")


def _is_used(snapshot: str) -> bool:
    """Tell whether another process goes on from the same snapshot."""
    wanted, own = f" {snapshot}\n", str(os.getpid())
    for name in os.listdir("/proc"):
        if not name.isdecimal() or name == own:
            continue
        try:
            with open(f"/proc/{name}/maps", errors="replace") as file:
                if wanted in file.read():
                    return True
        except OSError:  # the process has ended, or is another user's
            continue
    return False


def _claim(path: str, tree: Tree, claims: list[str]) -> None:
    """Make the file or directory, which must not exist; then its content."""
    mode, inside = tree
    if isinstance(inside, str):
        os.symlink(inside, path)
        claims.append(path)
    elif isinstance(inside, bytes):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        claims.append(path)
        try:
            _write(fd, inside)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
    else:
        os.mkdir(path, 0o700)
        claims.append(path)
        for name, each in inside.items():
            _claim(os.path.join(path, name), each, [])
        os.chmod(path, mode)


def _open(each: Descriptor, claims: list[str]) -> int:
    flags = (each.flags & ~os.O_APPEND) | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO would wait for its other end
    if each.how == PRIVATE:
        return _open_private(each, flags)
    if each.how in (REWRITE, ADD, MAKE):
        flags |= os.O_CREAT | (os.O_EXCL if each.how == MAKE else 0)
    is_there = os.path.lexists(each.path)
    fd = os.open(each.path, flags, each.mode)
    if each.how == MAKE or (each.how in (REWRITE, ADD) and not is_there):
        claims.append(each.path)
    status = os.fstat(fd)
    is_same = each.file is None or (each.how == ADD and not is_there) or file_of(status) == each.file
    if not is_same or not (stat.S_ISREG(status.st_mode) or each.flags & os.O_DIRECTORY):
        os.close(fd)
        raise Unavailable(f"{each.path}, which was open at the commit, has been replaced", STALE)
    _openings.renew(each.path, status)
    return fd


def _open_private(each: Descriptor, flags: int) -> int:
    try:
        fd = os.open(each.path, os.O_RDWR | os.O_TMPFILE, 0o600)
    except OSError:  # a file system without nameless files
        name = f"{each.path}/.magicheap-{os.getpid()}-{each.fd}"
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        os.unlink(name)
    try:
        _write(fd, each.content)
        return os.open(f"/proc/self/fd/{fd}", flags)
    finally:
        os.close(fd)


def _place(each: Descriptor, fd: int) -> None:
    """Give the descriptor its number, flags and locks."""
    os.dup2(fd, each.fd, each.is_inheritable)
    os.close(fd)
    fcntl.fcntl(each.fd, fcntl.F_SETFL, each.flags & _SETTABLE & ~os.O_APPEND)
    for kind, start, length in each.locks:
        try:
            if kind == "FLOCK":
                fcntl.flock(each.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            else:
                lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, start, length, 0)  # struct flock
                fcntl.fcntl(each.fd, fcntl.F_SETLK if kind == "POSIX" else _F_OFD_SETLK, lock)
        except OSError:
            raise Unavailable(
                f"{each.path}, which was locked for reading at the commit, is locked by another program", BUSY
            ) from None


def _fill(each: Descriptor) -> None:
    """Restore content and offset: from here on a run that failed would leave traces."""
    if each.how == REWRITE:
        os.ftruncate(each.fd, 0)
    if each.how == ADD:
        fcntl.fcntl(each.fd, fcntl.F_SETFL, each.flags & _SETTABLE)
    if each.content and each.how != PRIVATE:
        _write(each.fd, each.content)
    if each.how == ADD:
        os.lseek(each.fd, 0, os.SEEK_END)
    elif not each.flags & os.O_DIRECTORY:
        os.lseek(each.fd, each.offset, os.SEEK_SET)
    fcntl.fcntl(each.fd, fcntl.F_SETFL, each.flags & _SETTABLE)


def _write(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _remove(path: str) -> None:
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            for name in os.listdir(path):
                _remove(os.path.join(path, name))
            os.rmdir(path)
        else:
            os.unlink(path)
    except OSError:
        pass


# ---- before a process is exchanged ----


def leave() -> tuple[str, list[tuple[str, Tree]]]:
    """Remove the files of this process that the snapshot makes anew. Return ("" or why the process can't be exchanged,
    the removed files)."""
    temporary, known = _openings.temporary(), _openings.known()
    if not temporary and not known:
        return "", []
    opened = {_file(int(fd)) for fd in os.listdir("/proc/self/fd")}
    made = []
    for opening in known:
        status = _status(opening.path)
        if status is None or opening.is_emptied or file_of(status) not in opened:
            continue
        if opening.is_appended and status.st_size > (opening.before.st_size if opening.before else 0):
            return f"this process has appended to {opening.path}, as the snapshot does", []
        if opening.before is None and not opening.is_appended:
            made.append(opening.path)
    try:
        left = [(path, read_tree(path, [CONTENT_BYTES_MAX])) for path in topmost([*temporary, *made])]
    except (OSError, UnsupportedError) as error:
        return f"files that this process has made can't be set aside: {error}", []
    for path, _ in left:
        _remove(path)
    return "", left


def come_back(left: list[tuple[str, Tree]]) -> None:
    """Undo leave()."""
    for path, tree in left:
        try:
            _claim(path, tree, [])
        except OSError:
            pass


def _file(fd: int) -> File | None:
    try:
        return file_of(os.fstat(fd))
    except OSError:
        return None


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
