"""Files that a program has open for writing, and its temporary files: each later run has them as a plain run would.

    held = prepare(tx, is_again)     # in the committing process, last thing before mh_arm: hands descriptors over to us
    _files_again.take_up(held, ...)  # in a resumed process

The launcher opens files again that are open for reading. What a plain run would do to a file that is open for writing
depends on how it was opened:

    opened               a plain run                            a resumed run
    w, w+ (O_TRUNC)      truncates it, writes it again          truncates it, writes its content at the commit
    x (O_EXCL)           makes it, or fails                     makes it with that content, or is cold if it exists
    a, a+ (O_APPEND)     appends to it, or makes it             appends what the body had appended; is cold if a+ may
                         have read another file
    r+, not written to   finds it                               opens it, if it is the same file
    r+, written to       changes its content                    the commit is refused by name (descriptors.c)
    O_CREAT alone        finds it, or makes it                  as r+ if it existed, else as x
    by C, or unknown     unknown                                as r+ (descriptors.c)
    deleted              has a file of its own                  makes a file of its own, with the same content
    a duplicate (dup)    shares offset and flags                duplicates it again; a standard stream, if only one
                         fits
    locked for reading   waits for the lock                     takes the lock, or is cold if another process has it

Temporary files and directories (tempfile) are stored with their content and made anew, under their own names, since the
program holds these names. If a name is taken, by another run of the same snapshot or by a leftover of a dead run, the
run is cold. Files and directories that the body made elsewhere must exist.

W1  Names are claimed first. All steps that may fail come before any file is changed; files opened for appending come
    last. On failure all claims are undone.
W2  All contents are in the image, so there is a bound (CONTENT_BYTES_MAX), beyond which the commit is refused.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from typing import NamedTuple

from magicheap import _openings
from magicheap._errors import UnsupportedError, call
from magicheap._identity import file_of
from magicheap._native import lib
from magicheap._paths import cache_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from magicheap._identity import File

    # A file's content, a link's target, or what a directory holds, each with its mode.
    Tree = tuple[int, "bytes | str | dict[str, Tree]"]

CONTENT_BYTES_MAX = 32 << 20  # of all files together: each run writes them anew, at some GB/s. Arbitrary
_FLAGS_KEPT = (
    os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC | os.O_DSYNC | os.O_DIRECT | os.O_NOATIME | os.O_DIRECTORY
)

REOPEN, REWRITE, MAKE, ADD, PRIVATE, COPY = "reopen", "rewrite", "make", "add", "private", "copy"


class Descriptor(NamedTuple):
    """A descriptor that the launcher does not open."""

    fd: int
    how: str  # one of the above
    path: str  # PRIVATE: the directory it lies in
    flags: int  # of fcntl's F_GETFL
    is_inheritable: bool
    offset: int
    file: File | None  # that an existing one must be; None: any
    content: bytes  # REWRITE, MAKE, PRIVATE: all of it; ADD: what the body added
    mode: int  # of a file that is to be made
    original: int  # COPY: the descriptor it is a copy of
    locks: tuple[tuple[str, int, int], ...]  # kind, start, length (0: to the end)


class Held(NamedTuple):
    """The result of prepare."""

    descriptors: tuple[Descriptor, ...]
    trees: tuple[tuple[str, Tree], ...]
    made: tuple[tuple[str, bool], ...]  # a path, and whether it is a directory
    directory: str  # the working directory, if a name was relative to it; else ""
    owner: tuple[int, bytes]  # the committing process, and when it began
    is_again: bool  # the snapshot before could not be used because of its files
    made_at: float  # seconds since the epoch


# ---- in the committing process ----


def prepare(tx: Any, is_again: bool) -> Held | None:
    """Return the files that later runs must make or find, or None. UnsupportedError: they are too large, or of a kind
    that can't be made anew."""
    room = [CONTENT_BYTES_MAX]
    roots = topmost(_openings.temporary())
    trees = tuple((path, read_tree(path, room)) for path in roots)
    _refuse_mapped(roots)
    descriptors: list[Descriptor] = []
    directories: set[str] = set()
    added: set[File] = set()
    for fd in _open_descriptors(tx):
        found = _describe(fd, roots, room, added, descriptors, directories)
        if found is not None:
            descriptors.append(found)
    elsewhere = [*roots, cache_directory(), *(each.path for each in descriptors if each.how != REOPEN)]
    made = tuple((path, is_directory) for path, is_directory in _openings.made() if not _is_below(path, elsewhere))
    if not (descriptors or trees or made):
        return None
    if len(directories) > 1:
        raise UnsupportedError(
            f"files are open for writing by names relative to several directories: {', '.join(sorted(directories))}"
        )
    for each in descriptors:
        call(lib.mh_hold_descriptor, tx, each.fd)
    owner = os.getpid(), began(os.getpid())
    return Held(tuple(descriptors), trees, made, next(iter(directories), ""), owner, is_again, time.time())


def temporary_files() -> list[str]:
    """Return all regular files that are temporary, or lie in a temporary directory: none of them is an input."""
    found = []
    for root in topmost(_openings.temporary()):
        if os.path.isdir(root) and not os.path.islink(root):
            found += [os.path.join(place, name) for place, _, names in os.walk(root) for name in names]
        else:
            found.append(root)
    return found


def _refuse_mapped(roots: list[str]) -> None:
    """Raise UnsupportedError for mapped temporary files: the launcher maps a file before it could be made anew."""
    if not roots:
        return
    with open("/proc/self/maps", errors="surrogateescape") as file:
        paths = {line[line.index("/") : -1] for line in file if "/" in line}
    if mapped := sorted(path for path in paths if _is_below(path, roots)):
        raise UnsupportedError(
            f"{mapped[0]} is temporary and mapped into memory: unmap it in the body, or map it after the with"
        )


def topmost(paths: list[str]) -> list[str]:
    return [path for path in paths if not _is_below(path, [other for other in paths if other != path])]


def _is_below(path: str, roots: list[str]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)


def _open_descriptors(tx: Any) -> list[int]:
    return [
        fd
        for fd in sorted(map(int, os.listdir("/proc/self/fd")))
        if fd > 2 and _is_open(fd) and lib.mh_is_carried(tx, fd)
    ]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:  # the descriptor of listdir
        return False
    return True


def _describe(
    fd: int,
    roots: list[str],
    room: list[int],
    added: set[File],
    others: list[Descriptor],
    directories: set[str],
) -> Descriptor | None:
    """Return how to open a descriptor again; None: the launcher opens it, or nobody does."""
    status, flags, target = os.fstat(fd), fcntl.fcntl(fd, fcntl.F_GETFL), os.readlink(f"/proc/self/fd/{fd}")
    is_regular = stat.S_ISREG(status.st_mode) and not flags & os.O_PATH
    own = _Maker(fd, flags, status, room)
    # their copies are made with them (native/process/remade.c)
    is_no_file = stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or target.startswith("anon_inode:")
    if (original := _original(fd, status, None if is_no_file else others)) is not None:
        return own.make(COPY, target, original=original)
    if not is_regular:
        return own.make(REOPEN, target) if stat.S_ISDIR(status.st_mode) and _is_below(target, roots) else None
    locks = _locks(fd)
    if locks is None or target.startswith("/memfd:"):
        return None  # refused by name
    if status.st_nlink == 0:
        return None if locks else own.make(PRIVATE, os.path.dirname(target), content=own.read(0))
    if _is_below(target, roots):
        return own.make(REOPEN, target, locks=locks)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        return own.make(REOPEN, target, file=own.file, locks=locks) if locks else None
    opening = _openings.find(status)
    if opening is None or locks:
        return None
    if opening.directory:
        directories.add(opening.directory)
    return _describe_written(own, opening, added)


class _Maker:
    """Makes the Descriptor of one descriptor."""

    def __init__(self, fd: int, flags: int, status: os.stat_result, room: list[int]) -> None:
        self.fd, self.flags, self.status, self.room = fd, flags, status, room
        self.file = file_of(status)

    def make(self, how: str, path: str, **more: Any) -> Descriptor:
        values: dict[str, Any] = {
            "file": None,
            "content": b"",
            "mode": stat.S_IMODE(self.status.st_mode),
            "original": -1,
            "locks": (),
        }
        is_regular = stat.S_ISREG(self.status.st_mode) and not self.flags & os.O_PATH
        offset = os.lseek(self.fd, 0, os.SEEK_CUR) if is_regular else 0
        flags = self.flags & _FLAGS_KEPT & ~(os.O_DIRECTORY if is_regular else 0)  # O_TMPFILE includes it
        return Descriptor(self.fd, how, path, flags, os.get_inheritable(self.fd), offset, **{**values, **more})

    def read(self, start: int) -> bytes:
        return _read(f"/proc/self/fd/{self.fd}", start, self.status.st_size, self.room)


def _describe_written(own: _Maker, opening: _openings.Opening, added: set[File]) -> Descriptor | None:
    before, path = opening.before, opening.path
    mode = {} if opening.mode is None else {"mode": opening.mode}
    if opening.is_emptied:
        return own.make(REWRITE, path, content=own.read(0), **mode)
    if before is not None and file_of(before) != own.file:
        return None  # another file has taken its name
    if opening.is_appended:
        old_bytes = 0 if before is None else before.st_size
        if own.status.st_size < old_bytes or (before is None and opening.is_exclusive):
            return None
        content = b"" if own.file in added else own.read(old_bytes)
        added.add(own.file)
        is_read = own.flags & os.O_ACCMODE == os.O_RDWR
        return own.make(ADD, path, content=content, file=own.file if is_read else None, **mode)
    if before is None:
        return own.make(MAKE, path, content=own.read(0), **mode)
    return own.make(REOPEN, path, file=own.file) if opening.is_unchanged(own.status) else None


def _original(fd: int, status: os.stat_result, others: list[Descriptor] | None) -> int | None:
    """Return the descriptor that this is a duplicate of: one of `others`, any lower one, or a standard stream if only
    one fits. None: only a stream is of interest."""
    streams = [stream for stream in range(3) if _is_copy(fd, stream, status)]
    if streams:
        return streams[0] if len(streams) == 1 else None
    if others is None:
        return None
    copies = {each.fd for each in others if each.how == COPY}
    numbers = (number for number in range(3, fd) if number not in copies)
    return next((number for number in numbers if _is_copy(fd, number, status)), None)


def _is_copy(fd: int, other: int, status: os.stat_result) -> bool:
    try:
        found = os.fstat(other)
    except OSError:
        return False
    return file_of(found) == file_of(status) and lib.mh_is_same_open(fd, other) == 1


def _locks(fd: int) -> tuple[tuple[str, int, int], ...] | None:
    """Return the read locks that are held through a descriptor; None: there are other locks, too."""
    locks = []
    with open(f"/proc/self/fdinfo/{fd}") as file:
        lines = [line.split() for line in file if line.startswith("lock:")]
    for words in lines:  # lock: 1: FLOCK ADVISORY READ 17 08:01:4711 0 EOF
        kind, access, start, end = words[2], words[4], words[-2], words[-1]
        if access != "READ" or kind not in ("FLOCK", "OFDLCK", "POSIX"):
            return None
        locks.append((kind, int(start), 0 if end == "EOF" else int(end) - int(start) + 1))
    return tuple(locks)


def read_tree(path: str, room: list[int]) -> Tree:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return mode, os.readlink(path)
    if stat.S_ISDIR(status.st_mode):
        return mode, {name: read_tree(os.path.join(path, name), room) for name in sorted(os.listdir(path))}
    if not stat.S_ISREG(status.st_mode):
        raise UnsupportedError(f"{path}, which is temporary, is no file that can be made anew: remove it in the body")
    return mode, _read(path, 0, status.st_size, room)


def _read(path: str, start: int, end: int, room: list[int]) -> bytes:
    room[0] -= end - start
    if room[0] < 0:
        name = os.path.realpath(path)
        raise UnsupportedError(
            f"files that are open for writing, and temporary ones, hold more than {CONTENT_BYTES_MAX >> 20} "
            f"MiB, {name} among them:"
            " close or remove them in the body, or make them after the with"
        )
    with open(path, "rb", buffering=0) as file:
        parts, size = [], end - start
        while size > 0 and (part := os.pread(file.fileno(), size, end - size)):
            parts.append(part)
            size -= len(part)
    return b"".join(parts)


def began(pid: int) -> bytes:
    """Return when a process began, in ticks since the boot; b"": there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return b""
    return b"" if fields[0] in b"ZX" else fields[19]
