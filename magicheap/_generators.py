"""The program's own generators of random and numpy: which were seeded from entropy, and how each process reseeds these.

    steps, unknown = find()    # in the committing process, before the fork; each step is executed in a resumed
                               # process, after the fork handlers

G1  A generator that was seeded explicitly repeats its numbers in each run, as in a plain one, so it is left alone.
G2  _seeds.py knows how a random.Random was seeded.
G3  A generator of numpy refers to its SeedSequence, which has its entropy. Entropy that numpy drew is as long as the
    pool, and recorded as a draw (native/route/entropy.c). A generator without a SeedSequence was seeded by the legacy
    seed() or set_state(), which counts as explicit.
G4  A generator whose seeding can't be shown is named, and left alone.
G5  A step writes to the same memory in every run; so there is no step without such a generator.
"""

from __future__ import annotations

import gc
import os
import sys

from magicheap import _seeds
from magicheap._cpython_library import global_random

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Step = tuple[str, Callable[[], None]]

_WORD = 1 << 64  # a draw of 128 bits is below this with a probability of 2**-64

_entropies: set[int] = set()  # of numpy's SeedSequences: set by us, or known to be drawn
_last: list[Any] = []  # generators reseeded in this process: gc.freeze hides them from a later walk over all objects


def find() -> tuple[list[Step], list[str]]:
    """Examine every object that the collector knows; also return the generators of unknown seeding."""
    steps: list[Step] = []
    unknown: set[str] = set()
    if "random" in sys.modules:
        _find_random(steps, unknown)
    if "numpy.random.mtrand" in sys.modules:
        _find_numpy(steps, unknown)
    return steps, sorted(unknown)


def _once(objects: Iterable[Any]) -> list[Any]:
    return list({id(each): each for each in objects}.values())


# ---- random ----


def _find_random(steps: list[Step], unknown: set[str]) -> None:
    own = global_random()
    if _seeds.kind_of(own) == "explicit":  # its fork handler would reseed it
        state = _seeds.state_of(own)
        steps.append(("random", lambda: _seeds.set_state(own, state, True)))
    equal: dict[Any, list[Any]] = {}  # copies, which stay copies
    for each in _once([*_seeds.instances(), *(each for each in _last if hasattr(each, "gauss_next"))]):
        kind = _seeds.kind_of(each)
        if kind == "unknown":
            unknown.add(f"a {type(each).__module__}.{type(each).__qualname__} made before magicheap watched")
        elif kind == "drawn":
            equal.setdefault(_seeds.state_of(each), []).append(each)
    if equal:
        steps.append(("random.Random", lambda: _reseed_random([*equal.values()])))


def _reseed_random(groups: list[list[Any]]) -> None:
    for first, *copies in groups:
        _seeds.reseed(first)
        for each in copies:
            _seeds.set_state(each, _seeds.state_of(first), False)
        _last.extend((first, *copies))


# ---- numpy ----


def _kind_of(sequence: Any) -> str:
    """As _seeds.kind_of."""
    entropy = getattr(sequence, "entropy", None)
    if not isinstance(entropy, int) or entropy < 0:
        return "explicit"
    size = sequence.pool_size * 4  # of what numpy draws by secrets.randbits
    is_drawn = entropy.bit_length() <= 8 * size and _seeds.is_drawn(entropy.to_bytes(size, "big"))
    if is_drawn or entropy in _entropies or _seeds.is_drawn_number(entropy):
        return "drawn"
    return "explicit" if entropy < _WORD else "unknown"


def _sequence_of(generator: Any) -> Any:
    return getattr(generator, "seed_seq", getattr(generator, "_seed_seq", None))  # as numpy before 1.25 calls it


def _is_drawn(generator: Any, sequence_kind: Any) -> bool:
    sequence = _sequence_of(generator)
    return isinstance(sequence, sequence_kind) and _kind_of(sequence) == "drawn"


def is_drawn(value: Any) -> bool:
    """Tell whether an object of numpy.random is, or stands on, a generator that was seeded from entropy."""
    for name in ("bit_generator", "_bit_generator"):
        value = getattr(value, name, value)
    numpy: Any = sys.modules["numpy.random.bit_generator"]
    if isinstance(value, numpy.SeedSequence):
        return _kind_of(value) == "drawn"
    return isinstance(value, numpy.BitGenerator) and _is_drawn(value, numpy.SeedSequence)


def _own() -> tuple[Any, Any, Any]:
    """Return numpy's global RandomState, its bit generator, and that one's SeedSequence, which is None after
    numpy.random.seed."""
    state = sys.modules["numpy.random.mtrand"]._rand
    generator = state._bit_generator
    return state, generator, _sequence_of(generator)


def _find_numpy(steps: list[Step], unknown: set[str]) -> None:
    numpy: Any = sys.modules["numpy.random.bit_generator"]
    legacy: Any = sys.modules["numpy.random.mtrand"].RandomState
    own = _own()
    if type(own[1]).__name__ == "MT19937" and isinstance(own[2], numpy.SeedSequence) and own[2].entropy >= _WORD:
        _entropies.add(own[2].entropy)  # numpy drew it as it was imported
    sequences, generators, states = [], [], []
    for each in _once([*own, *gc.get_objects(), *_last]):
        kind = type(each)
        if issubclass(kind, numpy.SeedSequence):
            sequences += [each] if _kind_of(each) == "drawn" else []
            if _kind_of(each) == "unknown":
                unknown.add(
                    "a generator of numpy's that was made before the transaction, or given a seed as long as "
                    "those it draws"
                )
        elif issubclass(kind, numpy.BitGenerator):
            generators += [each] if _is_drawn(each, numpy.SeedSequence) else []
        elif issubclass(kind, legacy):
            states += [each] if _is_drawn(each._bit_generator, numpy.SeedSequence) else []
    if sequences:
        steps.append(("numpy.random.mtrand", lambda: _reseed_numpy(sequences, generators, states)))


def _reseed_numpy(sequences: list[Any], generators: list[Any], states: list[Any]) -> None:
    _own()  # raises here if the program has removed it
    fresh: dict[int, int] = {}  # new entropy for old: sequences with the same entropy, by spawn, share it again
    for each in sequences:
        if each.entropy not in fresh:
            fresh[each.entropy] = int.from_bytes(os.urandom(16), "big") | _WORD
        each.__init__(
            fresh[each.entropy],
            spawn_key=each.spawn_key,
            pool_size=each.pool_size,
            n_children_spawned=each.n_children_spawned,
        )
    for each in generators:
        each.state = type(each)(_sequence_of(each)).state
    for each in states:
        each.set_state({**each._bit_generator.state, "has_gauss": 0, "gauss": 0.0})
    _entropies.update(fresh.values())
    _last.extend((*sequences, *generators, *states))
