"""Random graphs of what a root may hold, from recipes: lists of steps that hypothesis can make and shrink, and JSON can
carry.

A step makes one object from numbers and from objects made before, which it names by their place, modulo how many there
are; so references are shared, views overlap and lists hold themselves. `build` makes the same graph from the same
recipe in any process; `differs` tells whether one came back as it should: an array that a root keeps in place is as it
was made, with its layout and those that share its memory; all else is what pickle makes of it, and one object where
pickle makes one.
"""

import array
import collections
import copyreg
import dataclasses
import pickle
from typing import Any, Literal

import numpy

MAX_WORK: Any = 1000  # arbitrary: of shares_memory(); numpy's annotation knows 0 and -1 alone
DTYPES = [
    "u1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8", "<c16", "?", "U3", "S5", "M8[s]", "m8[D]", "V7", "S0", "O",
    "structured", "aligned", "nested", "with objects",
]  # fmt: skip
STRUCTURED = {
    "structured": numpy.dtype([("a", "<i2"), ("b", ">f8"), ("c", "S3"), ("d", "<i4", (2, 2))]),
    "aligned": numpy.dtype([("a", "u1"), ("b", "<f8"), ("c", "u1")], align=True),
    "nested": numpy.dtype([("p", [("x", "<f4"), ("y", "<f4")]), ("q", "U2")]),
    "with objects": numpy.dtype([("a", "<i4"), ("o", "O")]),
}


class Named(numpy.ndarray):
    """A subclass with an attribute that its pickle carries."""

    def __array_finalize__(self, other):
        self.name = getattr(other, "name", "unnamed")

    def __reduce__(self):
        reduced = super().__reduce__()
        assert isinstance(reduced, tuple)
        remake, arguments, state = reduced
        return remake, arguments, (*state, self.name)

    def __setstate__(self, state):
        super().__setstate__(state[:-1])
        self.name = state[-1]


class Plain:
    def __init__(self, parts):
        self.parts = parts


class Fresh(Plain):
    """Makes arrays for its pickle, from those that it has."""

    def __getstate__(self):
        return {"parts": self.parts, "fresh": [numpy.array([len(self.parts), i]) for i in range(5)]}

    def __setstate__(self, state):
        assert [part.tolist() for part in state["fresh"]] == [[len(state["parts"]), i] for i in range(5)]
        self.parts = state["parts"]


class Reduced(Plain):
    def __reduce__(self):
        return Reduced, (numpy.arange(len(self.parts)) * 3,), {"parts": self.parts}

    def __setstate__(self, state):
        assert self.parts.tolist() == [3 * i for i in range(len(state["parts"]))]
        self.parts = state["parts"]


class Slotted:
    __slots__ = ("other", "parts")

    def __init__(self, parts):
        self.parts, self.other = parts, len(parts)


class Registered(Plain):
    pass


copyreg.pickle(Registered, lambda value: (Registered, (value.parts,)))


@dataclasses.dataclass(eq=False)
class Data:
    parts: list


class Buffered:
    """Bytes that are lent as a PickleBuffer of one kind or another."""

    def __init__(self, data, kind):
        self.data, self.kind = data, kind

    def __reduce_ex__(self, protocol):
        content = bytes(self.data)
        exporter = [
            bytes, bytearray, lambda data: array.array("B", data), lambda data: numpy.frombuffer(data, "u1").copy(),
            lambda data: memoryview(b"xx" + data)[2:],
        ][self.kind](content)  # fmt: skip
        return Buffered, (pickle.PickleBuffer(exporter), self.kind)


Pair = collections.namedtuple("Pair", "first second")
OBJECTS = [Plain, Fresh, Reduced, Slotted, Registered, Data]
CONTAINERS = [
    list, tuple, lambda parts: dict(enumerate(parts)), lambda parts: {"parts": parts},
    lambda parts: Pair(parts, len(parts)), collections.deque, lambda parts: collections.OrderedDict(enumerate(parts)),
]  # fmt: skip
SCALARS = [
    None,
    True,
    0,
    10**30,
    -(2**46),
    2.5,
    "text",
    b"bytes",
    1j,
    frozenset([1, 2]),
    numpy.float32(1.5),
    numpy.dtype("<f4"),
    numpy.int64,
]


def build(recipe):
    made: list[object] = []
    for kind, numbers in recipe:
        made.append(MAKERS[kind % len(MAKERS)](made, [*numbers, 0, 0, 0, 0, 0, 0]))
    return made


ORDERS: tuple[Literal["C", "F"], ...] = ("C", "F")


def _array(_, numbers):
    name = DTYPES[numbers[0] % len(DTYPES)]
    dtype = STRUCTURED.get(name) or numpy.dtype(name)
    shape = tuple(n % 5 for n in numbers[1:4])[: numbers[4] % 4]
    made = numpy.zeros(shape, dtype, order=ORDERS[numbers[5] % 2])
    if dtype.kind == "O":
        made[...] = "object"
    elif not dtype.hasobject and made.nbytes:
        codes = numpy.random.default_rng(numbers[0]).integers(48, 58, made.nbytes, "u1")
        plain = numpy.frombuffer(codes.astype("?") if dtype.kind == "b" else codes, "u1")
        text = numpy.arange(made.size).astype("U3") if dtype.kind == "U" else None
        if text is not None:
            made[...] = text.reshape(shape)
        elif name != "nested":
            made = numpy.ndarray(shape, dtype, plain.tobytes(), order=ORDERS[numbers[5] % 2]).copy(order="K")
    return made


def _pick(made, number, wanted=object):
    found = [value for value in made if isinstance(value, wanted)]
    return found[number % len(found)] if found else None


def _view(made, numbers):
    viewed = _pick(made, numbers[0], numpy.ndarray)
    if viewed is None:
        return numpy.arange(6)
    how = numbers[1] % 8
    if how == 0:
        return viewed.T
    if how == 1:
        return viewed[tuple(slice(n % 3, None, n % 2 + 1) for n, _ in zip(numbers[2:], viewed.shape))]
    if how == 2:
        return viewed[tuple(slice(None, None, -(n % 2 + 1)) for n, _ in zip(numbers[2:], viewed.shape))]
    if how == 3 and viewed.dtype.names and type(viewed) is numpy.ndarray:
        return viewed[viewed.dtype.names[numbers[2] % len(viewed.dtype.names)]]
    if how == 4:
        return numpy.broadcast_to(viewed, (2, *viewed.shape))
    if how == 5:
        kept = viewed[...]
        kept.flags.writeable = False
        return kept
    if how == 6 and viewed.ndim:
        return viewed[..., numpy.newaxis]
    return viewed.reshape(-1) if viewed.flags.c_contiguous else viewed[...]


def _subclass(made, numbers):
    of = _pick(made, numbers[0], numpy.ndarray)
    of = numpy.arange(4.0) if of is None else of
    how = numbers[1] % 4
    if how == 0 and of.ndim <= 2 and not of.dtype.hasobject:
        return numpy.asmatrix(numpy.array(of, subok=False))
    if how == 1 and of.dtype.names and type(of) is numpy.ndarray:
        return of.view(numpy.recarray)
    if how == 2 and of.dtype.kind in "iuf":
        return numpy.ma.masked_array(of, mask=numpy.arange(of.size).reshape(of.shape) % 2 == 0)
    made = numpy.array(of, subok=False).view(Named)
    made.name = f"name {numbers[2]}"
    return made


def _parts(made, numbers):
    return [made[n % len(made)] for n in numbers[1 : 1 + numbers[0] % 5]] if made else []


def _container(made, numbers):
    return CONTAINERS[numbers[5] % len(CONTAINERS)](_parts(made, numbers))


def _object(made, numbers):
    return OBJECTS[numbers[5] % len(OBJECTS)](_parts(made, numbers))


def _object_array(made, numbers):
    parts = _parts(made, numbers)
    array = numpy.empty(len(parts), object)
    for i, part in enumerate(parts):
        array[i] = part
    return array


def _cycle(made, numbers):
    of = _pick(made, numbers[0], list)
    if of is None:
        return [numbers[0]]
    of.append(made[numbers[1] % len(made)])
    return numbers[0]


def _buffered(_, numbers):
    return Buffered(bytes(n % 256 for n in numbers) * (numbers[0] % 50), numbers[1] % 5)


MAKERS = [
    _array, _array, _view, _view, _view, _subclass, _container, _container, _object, _object, _object_array, _cycle,
    _buffered, lambda made, numbers: SCALARS[numbers[0] % len(SCALARS)],
]  # fmt: skip


# ---- comparing ----


def _is_plain(value):
    return type(value) is numpy.ndarray and not value.dtype.hasobject


def plain_arrays(graph):
    """Return the arrays of a graph whose memory a root keeps in place, in the order of their steps."""
    return [value for value in graph if _is_plain(value)]


def differs(got, recipe):
    """Return how a graph differs from what the recipe makes, as a path and what is wrong there, or ""."""
    made = build(recipe)
    wrong = _differs(got, pickle.loads(pickle.dumps(made, 5)), "root", {}, {})
    return wrong or _plain_arrays_differ(plain_arrays(got), plain_arrays(made))


def _plain_arrays_differ(ours, theirs):
    for i, a in enumerate(ours):
        found, wanted = [
            (x.shape, x.dtype, x.flags.writeable, repr(x.tolist()), x.strides if x.size else ()) for x in (a, theirs[i])
        ]
        if found != wanted:
            return f"array {i}: {found}, not {wanted}"
        for j in range(i):
            shared = (
                numpy.shares_memory(theirs[i], theirs[j], max_work=MAX_WORK)
                if theirs[i].nbytes and theirs[j].nbytes
                else False
            )
            if a.nbytes and ours[j].nbytes and numpy.shares_memory(a, ours[j], max_work=MAX_WORK) != shared:
                return f"arrays {j} and {i} {'do not share' if shared else 'share'} memory"
    return ""


_VALUES = (type(None), bool, int, float, complex, str, bytes, frozenset, numpy.generic, numpy.dtype, type)


def _differs(a, b, path, met, met_back):
    if type(a) is not type(b) and not (
        isinstance(a, (memoryview, bytes)) and isinstance(b, (memoryview, bytes, bytearray))
    ):
        return f"{path}: {type(a)}, not {type(b)}"
    if isinstance(b, _VALUES):
        is_equal = bytes(a) == bytes(b) if isinstance(b, bytes) else a == b
        return "" if is_equal else f"{path}: {a!r}, not {b!r}"
    if id(a) in met or id(b) in met_back:
        is_same = met.get(id(a)) == id(b) and met_back.get(id(b)) == id(a)
        return "" if is_same or isinstance(a, tuple) else f"{path}: objects are one here and two there"
    met[id(a)], met_back[id(b)] = id(b), id(a)
    if isinstance(a, numpy.ndarray):
        return _arrays_differ(a, b, path, met, met_back)
    if isinstance(a, Buffered):
        return "" if bytes(a.data) == bytes(b.data) else f"{path}: buffers differ"
    if isinstance(a, dict):
        if list(a) != list(b):
            return f"{path}: keys {list(a)}, not {list(b)}"
        pairs = [(a[key], value, key) for key, value in b.items()]
        return next(filter(None, (_differs(x, y, f"{path}[{key!r}]", met, met_back) for x, y, key in pairs)), "")
    if isinstance(a, (list, tuple, collections.deque)):
        if len(a) != len(b):
            return f"{path}: {len(a)} parts, not {len(b)}"
        return next(
            filter(None, (_differs(x, y, f"{path}[{i}]", met, met_back) for i, (x, y) in enumerate(zip(a, b)))), ""
        )
    return _differs(a.parts, b.parts, f"{path}.parts", met, met_back)


def _arrays_differ(a, b, path, met, met_back):
    if _is_plain(a):
        return ""  # compared with what it was
    if (a.shape, a.dtype, getattr(a, "name", "")) != (b.shape, b.dtype, getattr(b, "name", "")):
        return f"{path}: {a.shape} of {a.dtype}, not {b.shape} of {b.dtype}"
    if isinstance(a, numpy.ma.MaskedArray):
        if not numpy.array_equal(numpy.ma.getmaskarray(a), numpy.ma.getmaskarray(b)):
            return f"{path}: masks differ"
        a, b = a.data, b.data
    if a.dtype == object:
        pairs = zip(a.ravel().tolist(), b.ravel().tolist())
        return next(
            filter(None, (_differs(x, y, f"{path}.flat[{i}]", met, met_back) for i, (x, y) in enumerate(pairs))), ""
        )
    return "" if repr(a.tolist()) == repr(b.tolist()) else f"{path}: elements differ"
