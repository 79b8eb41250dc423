"""Files of kept prefixes, and how a text that has grown reuses the prefix that it begins with.

A prefix is a dialogue that has evaluated a text, kept as a layer on its model. Its file is named after the text, so
that a run finds all kept prefixes with which its text begins. The longest saves most:

    MODEL-prefix-<settings>-<characters, hex>-<their digest>[.more].magic

    base     evaluated from its first token on; of the same settings the 16 used last are kept
    .more    took over the state of a shorter one; removed once a longer one has taken over from it

So a history that grows line by line keeps two files. A history that loses its first lines keeps at most 16. Texts that
begin with each other keep a file each.

X1  The shorter prefix is resumed in a second process of the same command, which hands over tokens and cache through
    memory, and ends. This process has loaded everything else itself. If that fails for any reason, the whole text is
    evaluated here.
X2  The cache is copied byte by byte: later tokens are the same, bit for bit, as if the text had been evaluated here.
X3  Only files of these names, in the directory of default snapshots, are ever removed. A file's access time, which
    every run sets, is that of its last use.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
import time
from array import array
from typing import NamedTuple

from llama.command import _layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from llama.engine._generate import Session

MORE = ".more"
MOST_BASES = 16  # arbitrary: few use so many texts in turns, and a context of a large model takes gigabytes
# set for the second process: the descriptor to write to; length, digest and end of its prefix
HAND_OVER = "MAGIC_LLAMA_HAND_OVER"


def kept(
    model_path: str, key: str, text: str, snapshot: str | None, evaluate: Callable[[State | None], tuple[Any, ...]]
) -> tuple[tuple[Any, ...], bool]:
    """Return (evaluate(state)'s result, whether this command has made it), from the snapshot of this text if there is
    one.

    snapshot: its path; None: named as above. evaluate: takes a State or None, and returns a tuple that begins with a
        Dialogue.
    Does not return in the second process of X1, whose text does not matter.
    """
    if snapshot:
        return _layers.layer(
            _layers.PREFIX, lambda: evaluate(None), snapshot, f"{key} {_layers.digest(text)}", is_last=True
        )
    state: State | None = None
    shorter: list[Kept] = []
    load: Callable[[], tuple[Any, ...]]
    if is_second():
        _, size, digest, end = os.environ[HAND_OVER].split(" ")
        path, load = _path(model_path, key, int(size), digest, end), _give_up
    else:
        length, digest = len(text), _layers.digest(text)
        paths = [_path(model_path, key, length, digest, end) for end in ("", MORE)]
        there = next(filter(os.path.exists, paths), None)
        if there is None:
            shorter = [found for found in _kept(model_path, key) if found.begins(text)]
            state = _take_over(shorter[0]) if shorter else None
        path = there or paths[bool(state)]

        def load() -> tuple[Any, ...]:
            return evaluate(state)

    result, is_made = _layers.layer(_layers.PREFIX, load, path, f"{key} {digest}", is_last=True)
    if is_second():  # asked anew: this may be another run (L2)
        _hand_over(int(os.environ[HAND_OVER].split(" ")[0]), result[0].session)
    _mark_used(path)
    if is_made and os.path.exists(path):
        bases = sorted((found for found in _kept(model_path, key) if not found.end), key=Kept.used, reverse=True)
        _forget([found for found in shorter if found.end and state] + bases[MOST_BASES:])
    return result, is_made


def is_second() -> bool:
    """Tell whether this is the second process of X1, which does not read the text: a pipe can be read only once."""
    return HAND_OVER in os.environ


def _path(model_path: str, key: str, length: int, digest: str, end: str) -> str:
    return _layers.default_path(model_path, key, "-prefix", f"-{length:x}-{digest}{end}")


class Kept(NamedTuple):
    """A prefix that is kept."""

    length: int  # of its text, in characters
    digest: str
    end: str  # "" or MORE
    path: str

    def begins(self, text: str) -> bool:
        return self.length < len(text) and _layers.digest(text[: self.length]) == self.digest

    def used(self) -> int:
        with contextlib.suppress(OSError):
            return os.stat(self.path).st_atime_ns
        return 0


def _kept(model_path: str, key: str) -> list[Kept]:
    """Return the Kept of all texts with these settings, the longest first."""
    directory, name = os.path.split(_layers.default_path(model_path, key, "-prefix", "-*"))
    begin, _, _ = name.partition("*")
    pattern = re.compile(re.escape(begin) + rf"([0-9a-f]{{1,12}})-([0-9a-f]{{16}})({re.escape(MORE)})?\.magic")
    with contextlib.suppress(OSError):
        matches = filter(None, map(pattern.fullmatch, os.listdir(directory)))
        return sorted(
            (Kept(int(m[1], 16), m[2], m[3] or "", os.path.join(directory, m[0])) for m in matches), reverse=True
        )
    return []


def _mark_used(path: str) -> None:
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), os.stat(path).st_mtime_ns))


def _forget(all_kept: list[Kept]) -> None:
    for found in all_kept:
        with contextlib.suppress(OSError):
            os.unlink(found.path)


# ---- X1 ----


class State:
    """The state of a session: evaluated `tokens`, and the cache in `buffer`. Close it before a commit, which shared
    memory prevents."""

    HEAD = struct.Struct("<q")  # the number of tokens; they follow as int32, then the cache

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        (n,) = self.HEAD.unpack_from(self._map)
        at = self.HEAD.size + 4 * n
        self.tokens = array("i", self._map[self.HEAD.size : at]).tolist()
        self.buffer = memoryview(self._map)[at:]

    def close(self) -> None:
        self.buffer.release()
        self._map.close()


def _take_over(shorter: Kept) -> State | None:
    """Return the State that a Kept hands over, or None."""
    descriptor = -1
    try:
        descriptor = os.memfd_create("magic-llama", 0)  # to be inherited
        child = _layers.spawn(HAND_OVER, f"{descriptor} {shorter.length} {shorter.digest} {shorter.end}")
        _, status = os.waitpid(child, 0)
        if status != 0:
            return None
        _mark_used(shorter.path)
        return State(descriptor)
    except (OSError, ValueError, struct.error):
        return None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _give_up() -> NoReturn:
    """End the second process, whose snapshot can't be resumed."""
    os._exit(1)


def _hand_over(descriptor: int, session: Session) -> NoReturn:
    head = State.HEAD.pack(len(session.tokens)) + array("i", session.tokens).tobytes()
    os.ftruncate(descriptor, len(head) + session.state_bytes)
    with mmap.mmap(descriptor, 0) as shared:
        shared[: len(head)] = head
        with memoryview(shared) as view, view[len(head) :] as cache:
            session.save_state(cache)
        os._exit(0)
