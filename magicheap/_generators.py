"""Generators that the program made, of random and numpy: which were seeded from entropy, and how these get other seeds
in each process.

    steps, unknown = find()    # in the committing process, before the fork; each step is to be taken in a resumed
                               # process, behind the fork handlers

G1  One that was seeded explicitly gives in each run what it gives in a plain one, so it is left alone.
G2  How a random.Random was seeded, _seeds.py knows.
G3  numpy's know their SeedSequence, and that its entropy; what numpy itself draws is as long as its pool and known as a
    draw (native/route/entropy.c). One without was seeded by the legacy seed() or set_state(), which counts as
    explicit.
G4  Where neither can be shown, nothing is guessed: it is named, and left alone.
G5  What a step touches it touches in every run; so there is none where there is no such generator.
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

_WORD = 1 << 64  # no draw of 128 bits is below this, but by chance of 2**-64

_entropies: set[int] = set()  # of numpy's SeedSequences: given by us, or known to be drawn
_last: list[Any] = []  # what was reseeded in this process: a later look at all objects leaves it out (gc.freeze)


def find() -> tuple[list[Step], list[str]]:
    """Look at every object that the collector knows; also return what can't be told."""
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
    """Return numpy's global RandomState, its bit generator, and the SeedSequence of that, which is None after
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
    _own()  # whoever has taken it away is told
    fresh: dict[int, int] = {}  # sequences that were spawned by one another stay relatives
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
