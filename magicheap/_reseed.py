"""Randomness of a resumed process: each generator that a library keeps for everybody gets fresh entropy.

    kept = prepare()       # in the committing process, last thing before the fork
    take_up(kept)          # in a resumed process, after the fork handlers; ReseedError: the run must go cold

Only libraries that are loaded are asked. Generators that the program made (`random.Random(7)`, `numpy.random.default_rng()`) are the
program's, as after a fork: os.register_at_fork(after_in_child=...) is where it renews them. `random` does so itself; what asks the
kernel each time (secrets, os.urandom, uuid4) needs nothing.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from typing import NamedTuple

from magicheap._errors import MagicHeapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SEED_BYTES = 32  # as many as a generator of OpenSSL takes
_AUTHKEY_BYTES = 32  # of a key that multiprocessing chose itself; one that the program chose stays if it is not as long
_CLOCK_SEQ_BITS = 14  # RFC 9562, 5.1


class ReseedError(MagicHeapError):
    """A library that is loaded could not be given fresh entropy."""


_retired: list[object] = []  # freeing what the image holds would write to it
_committing_pids: set[int] = set()  # of all processes whose image this one goes on from


class Kept(NamedTuple):
    """What prepare found: steps to take, each with the name of its library."""

    steps: tuple[tuple[str, Callable[[], object]], ...]


def prepare() -> Kept:
    """Find what is loaded."""
    steps = [(name, step) for name, step in _STEPS.items() if name in sys.modules]
    steps += [(f"OpenSSL ({path})", _Openssl(path)) for path in _mapped_files(r"/libcrypto[^/]*\.so[^/]*")]
    return Kept(tuple(steps))


def take_up(kept: Kept) -> None:
    """Give all of them fresh entropy."""
    for library, step in kept.steps:
        try:
            step()
        except Exception as error:  # other people's code: whatever it is, numbers would repeat
            raise ReseedError(f"{library} could not be reseeded: {type(error).__name__}: {error}") from error


def _reseed_numpy() -> None:
    """Numpy's global RandomState; its bit generator may have been exchanged for one that can't be seeded."""
    state = sys.modules["numpy.random.mtrand"]._rand
    generator = state._bit_generator
    if type(generator).__name__ == "MT19937":
        state.seed(list(os.urandom(_SEED_BYTES)))  # without argument it takes ten times as long
    else:
        generator.state = type(generator)().state


def _reseed_torch() -> None:
    sys.modules["torch"].default_generator.manual_seed(int.from_bytes(os.urandom(8), "little"))


def _renew_multiprocessing() -> None:
    """The key that this process's children and it know each other by, and the directory that its parent removes."""
    process = sys.modules["multiprocessing.process"]
    config = process.current_process()._config
    config.pop("tempdir", None)
    if len(config.get("authkey", b"")) == _AUTHKEY_BYTES:
        config["authkey"] = process.AuthenticationString(os.urandom(_AUTHKEY_BYTES))


def _renew_tempfile() -> None:
    tempfile: Any = sys.modules["tempfile"]
    if tempfile._name_sequence is not None:  # it compares process ids, which repeat from container to container
        _retired.append(tempfile._name_sequence)
        tempfile._name_sequence = None


class _ClockSequence:
    """libuuid's generator of time-based UUIDs, with a clock sequence of this process.

    libuuid draws one when it is first asked and keeps it, so that two resumed processes would give the same UUID in the same
    microsecond. Nothing but exchanging the field reaches it.
    """

    def __init__(self, generate: Callable[[], tuple[bytes, int | None]]) -> None:
        self._generate = generate
        self._sequence = int.from_bytes(os.urandom(2), "big") >> (16 - _CLOCK_SEQ_BITS)

    def __call__(self) -> tuple[bytes, int | None]:
        text, safety = self._generate()
        return text[:8] + (0x8000 | self._sequence).to_bytes(2, "big") + text[10:], safety


def _renew_uuid() -> None:
    uuid: Any = sys.modules["uuid"]
    generate = uuid._generate_time_safe
    if generate is not None:
        uuid._generate_time_safe = _ClockSequence(getattr(generate, "_generate", generate))
    uuid._last_timestamp = None


_STEPS: dict[str, Callable[[], None]] = {
    "numpy.random.mtrand": _reseed_numpy,
    "torch": _reseed_torch,
    "multiprocessing.process": _renew_multiprocessing,
    "tempfile": _renew_tempfile,
    "uuid": _renew_uuid,
}


class _Openssl:
    """One loaded copy of OpenSSL. It reseeds itself when the process id differs from that of its last use, which it need not after a resume:
    ids repeat from container to container. Where they differ it is left alone, since reaching for it costs a tenth of the resume.

    Called once at the commit, too: what it does when it is first used would cost every resume some milliseconds.
    """

    def __init__(self, path: str) -> None:
        self._add = ctypes.CDLL(path, mode=os.RTLD_NOLOAD).RAND_add
        self._add.argtypes, self._add.restype = [ctypes.c_char_p, ctypes.c_int, ctypes.c_double], None
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
