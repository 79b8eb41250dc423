"""What a program brings to its `with`: the variables of all callers, each as its name and a digest of its value.

A snapshot resumes the callers with the variables of the run that committed. So a run in which Python reaches the `with`
takes the snapshot only if its variables are the same. Two values are the same if they consist of the same plain parts
in the same structure. Of an opaque value (a lock, an open file, a generator) only the type counts, since the snapshot
has a value of that type. Values that each resumed process has anew (sys.argv, os.environ, the standard streams) are
left out.
"""

from __future__ import annotations

import marshal
import os
import sys

from magicheap import _openings
from magicheap._cpython import RANDOM, blake2b
from magicheap._cpython_environment import ENVIRONMENT, ENVIRONMENT_IN_BYTES
from magicheap._cpython_library import library_of_ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

_OF_THE_MODULE = frozenset(
    (
        "__builtins__",
        "__cached__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__spec__",
        "__annotations__",
        "__conditional_annotations__",
    )
)
_PARTS_MAX = 1_000_000  # of all values together, which takes some seconds; more count as different; arbitrary
_DIGEST_BYTES = 6
_LARGE = 10_000
_WITHOUT_REFERENCES = 2  # version of marshal's format: later ones record which values are one object
_FLAT = frozenset((bool, int, float, complex, str, bytes, type(None)))  # marshal writes these alike in every process
_ATOMS = (bool, int, float, complex, type(None), type(...), type(NotImplemented))


def describe(frame: FrameType | None, is_first: bool) -> list[str]:
    """Return NAME=DIGEST for each variable of this frame, sorted, then of each of its callers.

    is_first: False: after another transaction. Its runs share the memory that it loaded, and a look at each object
        would copy the object's page. So a plain container of more than 10,000 parts counts by its length alone.
    """
    digester = _Digester(None if is_first else _LARGE)
    return [variable for each in _frames(frame) for variable in sorted(_variables(digester, each))]


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame:
        yield frame
        frame = frame.f_back


def _variables(digester: _Digester, frame: FrameType) -> Iterator[str]:
    for name, value in list(frame.f_locals.items()):
        if name not in _OF_THE_MODULE and not digester.is_left_out(value):
            yield f"{name}={digester.digest(value)}"
    if frame.f_locals is not frame.f_globals and not str(frame.f_globals.get("__name__")).startswith(
        ("importlib.", "runpy")
    ):
        for name, value in list(frame.f_globals.items()):
            if name not in _OF_THE_MODULE and not digester.is_left_out(value):
                yield f"{name}={digester.digest(value)}"


class _Digester:
    """Digests values canonically: a shared part has the digest of an equal one."""

    def __init__(self, large: int | None) -> None:
        self._blake2b = blake2b()
        self._n_parts, self._large, self._temporary = 0, large, frozenset(_openings.temporary())
        self._renewed = {
            id(each)
            for each in (sys.argv, sys.orig_argv, sys.path, sys.modules, ENVIRONMENT, ENVIRONMENT_IN_BYTES)
            if each is not None
        }
        for name in ("stdin", "stdout", "stderr"):
            self._renewed |= {id(getattr(sys, name)), id(getattr(sys, f"__{name}__"))}

    def is_left_out(self, value: object) -> bool:
        """Tell whether each process has its own value here, or whether the value is ours: the transaction itself."""
        return (id(value) in self._renewed and value is not None) or type(value).__module__.partition(".")[
            0
        ] == "magicheap"

    def digest(self, value: object) -> str:
        hasher = self._blake2b(digest_size=_DIGEST_BYTES)
        try:
            self._feed(hasher, value, {})
        except RecursionError:
            hasher.update(b"too deep" + os.urandom(16))  # equals no other digest, as with too many parts
        return str(hasher.hexdigest())

    def _feed(self, hasher: Any, value: Any, above: dict[int, int]) -> None:
        """`above`: the values that `value` is a part of, as {id: depth}. A cycle is digested as the distance that it
        leads back."""
        self._n_parts += 1
        kind = type(value)
        hasher.update(f"{kind.__module__}.{kind.__qualname__}:".encode(errors="replace"))
        if self._n_parts > _PARTS_MAX or self.is_left_out(value):
            hasher.update(b"too many" + os.urandom(16) if self._n_parts > _PARTS_MAX else b"renewed")
        elif kind is str and value in self._temporary:
            hasher.update(b"temporary")  # each run makes its own
        elif kind in _ATOMS:
            hasher.update(repr(value).encode())
        elif kind is str:
            hasher.update(f"{len(value)}:".encode() + value.encode(errors="surrogatepass"))
        elif kind in (bytes, bytearray):
            hasher.update(f"{len(value)}:".encode() + value)
        elif self._large is not None and kind in (list, tuple, dict, set, frozenset) and len(value) > self._large:
            hasher.update(f"{len(value)} parts".encode())
        elif _is_flat(kind, value):
            hasher.update(marshal.dumps(value, _WITHOUT_REFERENCES))
        elif id(value) in above:
            hasher.update(f"up {len(above) - above[id(value)]}".encode())
        else:
            self._feed_parts(hasher, value, {**above, id(value): len(above)})

    def _feed_parts(self, hasher: Any, value: Any, above: dict[int, int]) -> None:
        kind = type(value)
        if kind in (tuple, list):
            parts: Any = value
        elif kind in (set, frozenset):
            parts = sorted(self.digest(each) for each in value)
        elif kind is dict:
            parts = [part for item in list(value.items()) for part in item]
        else:
            parts = _parts_of(value)
        hasher.update(f"{len(parts)}[".encode())
        for part in parts:
            self._feed(hasher, part, above)


def _is_flat(kind: type, value: Any) -> bool:
    """Tell whether this holds plain values alone: most large containers do, and marshal digests them fast."""
    if kind in (list, tuple):
        return _FLAT.issuperset(map(type, value))
    return kind is dict and _FLAT.issuperset(map(type, value)) and _FLAT.issuperset(map(type, value.values()))


def _is_renewed(value: Any, kind: type) -> bool:
    """Tell whether this is a random generator that was seeded from entropy: each resumed process reseeds it."""
    if any(each.__module__ == RANDOM for each in kind.__mro__):
        from magicheap import _seeds

        return _seeds.kind_of(value) == "drawn"
    if any(each.__module__.startswith("numpy.random") for each in kind.__mro__):
        from magicheap import _generators

        return _generators.is_drawn(value)
    return False


def _parts_of(value: Any) -> list[Any]:
    """Return the parts of an object: its name, if a module has the object under that name; else what pickle would
    store; else its type alone."""
    kind = type(value)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if kind.__name__ in (
        "module",
        "function",
        "builtin_function_or_method",
        "type",
        "ABCMeta",
        "EnumType",
        "EnumMeta",
        "method_descriptor",
    ) or isinstance(value, type):
        # its code is in a file that is an input, or in the code of a caller
        return [str(getattr(value, "__module__", "")), str(name)]
    if _is_renewed(value, kind) or kind.__module__ == "tempfile":
        return []
    if any((each.__module__, each.__name__) == ("threading", "Thread") for each in kind.__mro__):
        return [str(value.name)]  # its ids are those of each process
    library = library_of_ctypes(value)
    if library is not None:
        return [library]  # which keeps its address
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # a lock, a file, a generator, a socket; or an error of foreign code
        return []
    if isinstance(reduced, str):
        return [reduced]
    function, arguments, *rest = reduced
    state = rest[0] if rest else None
    return [
        getattr(function, "__qualname__", ""),
        *arguments,
        state,
        *(list(each) for each in rest[1:3] if each is not None),
    ]
