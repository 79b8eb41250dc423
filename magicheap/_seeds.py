"""Records how each random.Random is seeded: explicitly, so that it repeats in every run, or from entropy.

    watch()                 # as soon as random is loaded, and at the latest when a transaction begins
    kind_of(generator)      # "explicit", "drawn", or "unknown": made before watch(), and not seeded since

Every explicit seed passes through _random.Random.seed or setstate, which are replaced by functions that record it. A
seed that the kernel drew (random.Random(os.urandom(8))), or a state of a generator with such a seed, is not explicit.

The module is imported with magicheap if random is loaded. So it imports nothing else.
"""

from __future__ import annotations

import gc
import sys

from magicheap._cpython import weak_reference
from magicheap._cpython_library import exchange_random, global_random
from magicheap._native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STATES_MAX = 10_000  # arbitrary: a program that reads more states rarely restores them
_DIGEST_BITS = 512  # random.Random.seed appends the SHA-512 to bytes and text
_DRAWN_BYTES = (8, 16, 32)  # of seeds that programs draw themselves
_DRAWN_BYTES_MAX = 64

_real: Any = None  # _random.Random's own seed, getstate and setstate; None before watch()
_explicit: dict[int, Any] = {}  # id of a generator to a weak reference
_unseen: dict[int, Any] = {}  # generators that existed before watch()
_states: set[int] = set()  # hashes of states of generators seeded from entropy


def watch() -> None:
    """Record from here on how each random.Random is seeded."""
    global _real
    if _real:
        return
    for each in instances():
        _remember(_unseen, each)
    _real = exchange_random((_noting_seed, _noting_getstate, _noting_setstate))


def instances() -> list[Any]:
    """Return all generators that the collector knows, except that of random's functions, which reseeds itself in a fork
    handler."""
    random: Any = sys.modules.get("random")
    if not hasattr(random, "Random"):  # random is just being imported
        return []
    found = (
        each
        for each in gc.get_objects()
        if issubclass(type(each), random.Random) and not issubclass(type(each), random.SystemRandom)
    )
    own = global_random()
    return [each for each in found if each is not own]


def kind_of(generator: Any) -> str:
    """Tell how the generator was seeded last."""
    if id(generator) in _explicit:
        return "explicit"
    return "unknown" if id(generator) in _unseen or not _real else "drawn"


def reseed(generator: Any) -> None:
    """Seed the generator from entropy."""
    generator.seed() if not _real else _real[0](generator)
    generator.gauss_next = None
    _note(generator, False)


def shorter(handler: object) -> object:
    """Return what seeds the generator that serves random's functions as its fork handler does, without a line of
    Python; None: this is another handler, or it does more."""
    own = global_random() if "random" in sys.modules else None
    is_own = own is not None and handler == own.seed and own.gauss_next is None
    return _real[0].__get__(own) if is_own and _real else None


def of_functions() -> Any:
    """Return what seeds the generator that serves random's functions, as random's fork handler does; None: there is
    none."""
    own = global_random() if "random" in sys.modules else None
    return None if own is None else own.seed


def state_of(generator: Any) -> Any:
    return _real[1](generator), generator.gauss_next


def set_state(generator: Any, state: Any, is_explicit: bool) -> None:
    _real[2](generator, state[0])
    generator.gauss_next = state[1]
    _note(generator, is_explicit)


def _remember(table: dict[int, Any], generator: Any) -> None:
    key = id(generator)
    try:
        pop = table.pop
        table[key] = weak_reference(generator, lambda _: pop(key, None))
    except TypeError:  # a bare _random.Random: no weak reference, and no collector knows it
        pass


def _note(generator: Any, is_explicit: bool) -> None:
    _unseen.pop(id(generator), None)
    if is_explicit:
        _remember(_explicit, generator)
    else:
        _explicit.pop(id(generator), None)


def _noting_seed(self: Any, n: Any = None, /) -> None:
    _real[0](self, n)
    _note(self, n is not None and not (isinstance(n, int) and is_drawn_number(int.__abs__(n))))  # as it takes a number


def _noting_getstate(self: Any, /) -> Any:
    state = _real[1](self)
    if id(self) not in _explicit and len(_states) < _STATES_MAX:
        _states.add(hash(state))
    return state


def _noting_setstate(self: Any, state: Any, /) -> None:
    _real[2](self, state)
    _note(self, hash(state) not in _states)


# ---- draws ----


def is_drawn(value: bytes) -> bool:
    """Tell whether these bytes are a draw of the kernel's."""
    return bool(lib.mh_was_drawn(value, len(value)) == 1)


def is_drawn_number(number: int) -> bool:
    """Tell whether a seed, which is not negative, is a draw: as a number, or as bytes with the digest that
    random.Random.seed appends to them."""
    if number >> _DIGEST_BITS:
        text = number >> _DIGEST_BITS
        lengths = range((text.bit_length() + 7) // 8, _DRAWN_BYTES_MAX + 1)
        return any(is_drawn(text.to_bytes(size, "big")) for size in lengths)
    if not number >> 32:  # a draw of 64 bits is so small with a probability of 2**-32
        return False
    sizes = [size for size in _DRAWN_BYTES if number.bit_length() <= 8 * size]
    return any(is_drawn(number.to_bytes(size, "big")) or is_drawn(number.to_bytes(size, "little")) for size in sizes)
