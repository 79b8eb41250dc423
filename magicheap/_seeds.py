"""Notes how each random.Random is seeded: explicitly, so that it repeats in every run, or from entropy.

    watch()                 # as soon as there can be any, and at the latest when a transaction begins
    kind_of(generator)      # "explicit", "drawn", or "unknown": made before anybody watched, and not seeded since

Every explicit seed passes through _random.Random.seed or setstate, which are replaced by functions that note it. A seed
that is itself a draw of the kernel's (random.Random(os.urandom(8))), or a state that came from a generator seeded so,
is none.

Imported with magicheap where random is loaded: so it imports nothing else.
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

_STATES_MAX = 10_000  # arbitrary: who asks for more states than that rarely goes back
_DIGEST_BITS = 512  # random.Random.seed appends the SHA-512 to bytes and text
_DRAWN_BYTES = (8, 16, 32)  # of seeds that programs draw themselves
_DRAWN_BYTES_MAX = 64

_real: Any = None  # _random.Random's own seed, getstate and setstate; None: nobody watches
_explicit: dict[int, Any] = {}  # id of a generator to a weak reference
_unseen: dict[int, Any] = {}  # those that were there before
_states: set[int] = set()  # hashes of states of generators seeded from entropy


def watch() -> None:
    """Note from here on how each random.Random is seeded."""
    global _real
    if _real:
        return
    for each in instances():
        _remember(_unseen, each)
    _real = exchange_random((_noting_seed, _noting_getstate, _noting_setstate))


def instances() -> list[Any]:
    """Return all that the collector knows, without the one that serves random's functions, which reseeds itself in a
    fork handler."""
    random: Any = sys.modules.get("random")
    if not hasattr(random, "Random"):  # or it is just being imported
        return []
    found = (
        each
        for each in gc.get_objects()
        if issubclass(type(each), random.Random) and not issubclass(type(each), random.SystemRandom)
    )
    own = global_random()
    return [each for each in found if each is not own]


def kind_of(generator: Any) -> str:
    """Tell how it was seeded last."""
    if id(generator) in _explicit:
        return "explicit"
    return "unknown" if id(generator) in _unseen or not _real else "drawn"


def reseed(generator: Any) -> None:
    """Seed it from entropy."""
    generator.seed() if not _real else _real[0](generator)
    generator.gauss_next = None
    _note(generator, False)


def shorter(handler: object) -> object:
    """Return what seeds the generator that serves random's functions as its fork handler does, without a line of
    Python; None: this is another handler, or it does more."""
    own = global_random() if "random" in sys.modules else None
    is_own = own is not None and handler == own.seed and own.gauss_next is None
    return _real[0].__get__(own) if is_own and _real else None


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
    except TypeError:  # a bare _random.Random, which nobody can find either
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
    """Tell whether the kernel gave just these bytes."""
    return bool(lib.mh_was_drawn(value, len(value)) == 1)


def is_drawn_number(number: int) -> bool:
    """Tell whether a seed, which is not negative, is a draw, as a number, or as bytes with the digest that
    random.Random.seed appends to them."""
    if number >> _DIGEST_BITS:
        text = number >> _DIGEST_BITS
        lengths = range((text.bit_length() + 7) // 8, _DRAWN_BYTES_MAX + 1)
        return any(is_drawn(text.to_bytes(size, "big")) for size in lengths)
    if not number >> 32:  # 64 bits are so by chance of 2**-32 only
        return False
    sizes = [size for size in _DRAWN_BYTES if number.bit_length() <= 8 * size]
    return any(is_drawn(number.to_bytes(size, "big")) or is_drawn(number.to_bytes(size, "little")) for size in sizes)
