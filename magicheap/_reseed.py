"""Randomness of a resumed process: each global generator of a library gets fresh entropy.

    kept = prepare()       # in the committing process, last thing before the fork
    take_up(kept)          # in a resumed process, after the fork handlers; ReseedError: the run must go cold

Only loaded libraries are reseeded. _drawers.py finds libraries besides those named here, and _generators.py the
generators that the program made. A generator that was seeded explicitly (numpy.random.seed(7), torch.manual_seed(7))
repeats its numbers, as in a plain run. Functions that ask the kernel each time (secrets, os.urandom, uuid4) need
nothing; a result that the program kept from the body belongs to the program.
"""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple

from magicheap import _drawers, _generators, _seeds, _symbols
from magicheap._cpython_library import has_names, process_config, renew_names, renew_uuid
from magicheap._errors import MagicHeapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SEED_BYTES = 32  # the seed size of OpenSSL's generator
_AUTHKEY_BYTES = 32  # of a key that multiprocessing chose itself; the program's key stays if its length differs
_CLOCK_SEQ_BITS = 14  # RFC 9562, 5.1


class ReseedError(MagicHeapError):
    """A loaded library could not be reseeded."""


_retired: list[object] = []  # objects of the image: freeing them would write to its pages
_committing_pids: set[int] = set()  # of all processes whose memory this one has


class Kept(NamedTuple):
    """The result of prepare."""

    steps: tuple[tuple[str, Callable[[], object]], ...]  # to execute, each with the name of its library
    unknown: tuple[str, ...]  # generators that may repeat their numbers


def prepare(has_threads: bool) -> Kept:
    """Find the generators of loaded libraries. With other threads, no handler of a fork will run in a resumed
    process."""
    tempfile = sys.modules.get("tempfile")
    unused = {"tempfile"} if tempfile is not None and not has_names(tempfile) else set()
    steps: list[tuple[str, Callable[[], object]]] = [
        (name, step) for name, step in _STEPS.items() if name in sys.modules and name not in unused
    ]
    steps += [(f"OpenSSL ({path})", _Openssl(path)) for path in _mapped_files(r"/libcrypto[^/]*\.so[^/]*")]
    steps += _drawers.sqlite_resets(_mapped_files(r"/libsqlite3[^/]*\.so[^/]*"))
    if has_threads and (own := _seeds.of_functions()):
        steps.append(("random", own))
    generators, unknown = _generators.find()
    return Kept((*steps, *generators), (*_drawers.unknown(not has_threads), *unknown))


def take_up(kept: Kept) -> None:
    """Reseed all of them."""
    for library, step in kept.steps:
        try:
            step()
        except Exception as error:  # foreign code: after any failure, numbers would repeat
            raise ReseedError(f"{library} could not be reseeded: {type(error).__name__}: {error}") from error


def _reseed_torch() -> None:
    """Reseed the default generator, unless its seed can't be torch's own draw, which has 53 bits
    (c10/core/GeneratorImpl.cpp)."""
    generator = sys.modules["torch"].default_generator
    if generator.initial_seed() >> 32:
        generator.manual_seed(int.from_bytes(os.urandom(6), "little") | 1 << 52)


def _renew_object_id() -> None:
    """Renew bson's counter, and its machine part, which it draws for each process id."""
    object_id: Any = sys.modules["bson.objectid"].ObjectId
    object_id._inc = int.from_bytes(os.urandom(3), "big")
    object_id._pid = None


def _renew_multiprocessing() -> None:
    """Renew the key by which this process and its children authenticate, and the directory that its parent removes."""
    process = sys.modules["multiprocessing.process"]
    config = process_config(process)
    config.pop("tempdir", None)
    if len(config.get("authkey", b"")) == _AUTHKEY_BYTES:
        config["authkey"] = process.AuthenticationString(os.urandom(_AUTHKEY_BYTES))


def _renew_tempfile() -> None:
    renew_names(sys.modules["tempfile"], _retired)


def _draw_sequence() -> int:
    return int.from_bytes(os.urandom(2), "big") >> (16 - _CLOCK_SEQ_BITS)


class _ClockSequence:
    """libuuid's generator of time-based UUIDs, with a clock sequence of this process.

    libuuid draws the clock sequence at its first call and keeps it, so that two resumed processes would give the same
    UUID in the same microsecond. libuuid can't be reset; so the field is replaced in each UUID.
    """

    def __init__(self, generate: Callable[[], tuple[bytes, int | None]]) -> None:
        self._generate = generate
        self._pid, self._sequence = os.getpid(), _draw_sequence()

    @classmethod
    def instead_of(cls, generate: Any) -> _ClockSequence:
        """Return such a function for this process; `generate` may be one of the image's."""
        return cls(getattr(generate, "_generate", generate))

    def __call__(self) -> tuple[bytes, int | None]:
        if self._pid != os.getpid():  # in a child of this process
            self._pid, self._sequence = os.getpid(), _draw_sequence()
        text, safety = self._generate()
        return text[:8] + (0x8000 | self._sequence).to_bytes(2, "big") + text[10:], safety


def _renew_uuid() -> None:
    renew_uuid(sys.modules["uuid"], _ClockSequence.instead_of)


class _SequencedUuid:
    """A function of uuid_utils, with a new clock sequence for each call, unless the caller passes one."""

    def __init__(self, generate: Callable[..., object]) -> None:
        self._generate = generate
        self._pid, self._sequence = os.getpid(), _draw_sequence()

    def __call__(self, node: int | None = None, clock_seq: int | None = None) -> object:
        if clock_seq is None:
            if self._pid != os.getpid():  # in a child of this process
                self._pid, self._sequence = os.getpid(), _draw_sequence()
            clock_seq = self._sequence % (1 << _CLOCK_SEQ_BITS)
            self._sequence += 1
        return self._generate(node, clock_seq)


def _renew_uuid_utils() -> None:
    """Wrap uuid_utils' generators of time-based UUIDs, which share one drawn clock sequence. Its random generators it
    reseeds in a fork handler."""
    module: Any = sys.modules["uuid_utils"]
    for name in ("uuid1", "uuid6"):
        generate = getattr(module, name)
        setattr(module, name, _SequencedUuid(getattr(generate, "_generate", generate)))


_STEPS: dict[str, Callable[[], None]] = {
    "torch": _reseed_torch,
    "bson.objectid": _renew_object_id,
    "multiprocessing.process": _renew_multiprocessing,
    "tempfile": _renew_tempfile,
    "uuid": _renew_uuid,
    "uuid_utils": _renew_uuid_utils,
}


class _Openssl:
    """One loaded copy of OpenSSL. It reseeds itself when the process id differs from that of its last use. After a
    resume the id may be equal, since ids repeat between containers. If the ids differ the copy is left alone: a call
    into it costs a tenth of the resume.

    The step also runs once at the commit: the initialisation at the first use would cost every resume some
    milliseconds.
    """

    def __init__(self, path: str) -> None:
        self._add = _symbols.function(path, "RAND_add", "void(char *, int, double)")
        _committing_pids.add(os.getpid())
        self._reseed()

    def __call__(self) -> None:
        if os.getpid() in _committing_pids:
            self._reseed()

    def _reseed(self) -> None:
        self._add(os.urandom(_SEED_BYTES), _SEED_BYTES, _SEED_BYTES)


def _mapped_files(pattern: str) -> list[str]:
    """Return the paths of mapped files whose ends match `pattern`."""
    with open("/proc/self/maps", encoding=sys.getfilesystemencoding(), errors=sys.getfilesystemencodeerrors()) as maps:
        paths = {line.rstrip("\n").split(maxsplit=5)[-1] for line in maps if "/" in line}
    return sorted(path for path in paths if re.search(f"{pattern}$", path))
