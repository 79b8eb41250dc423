"""Read a torch.save file without torch, and without pickle: a machine that can only build tensors.

    name.pth (zip, nothing compressed)
      */data.pkl    pickle of {name: tensor}
      */byteorder   "little", in files of torch 2.1 and later
      */data/<key>  one storage each: raw elements

A pickle is a program. The few opcodes that torch writes for a dict of tensors are run by a loop that has no way to
import or call anything: its globals are tokens compared by name, its results are str, int, tuple, dict and Tensor.
Every other opcode and name is refused; so is every tensor that reaches past its storage.
"""

from __future__ import annotations

import errno
import struct
import zipfile
from contextlib import contextmanager
from typing import NamedTuple

from llama._kernels import lib
from llama._native import ModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

STORAGES = {  # class of torch, as pickled: element type and size in bytes
    "torch FloatStorage": (lib.MK_F32, 4),
    "torch HalfStorage": (lib.MK_F16, 2),
    "torch BFloat16Storage": (lib.MK_BF16, 2),
}
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
ORDERED_DICT = "collections OrderedDict"
GLOBALS = {*STORAGES, REBUILD_TENSOR, ORDERED_DICT}
MARK = object()
LARGEST_PICKLE = 1 << 22  # bytes: 64 times what LLaMA-7B takes, and too little to fill a machine's memory


class Global(str):
    """A name that the pickle may mention."""


class Storage(NamedTuple):
    """Elements of one type in one member of the zip."""

    key: str
    kind: int  # MK_F32, MK_F16 or MK_BF16
    item_bytes: int
    n_items: int


class Tensor(NamedTuple):
    """A view of a storage: offset and strides in elements, rows contiguous."""

    storage: Storage
    offset: int
    shape: tuple[int, int]  # one or two dimensions
    row_stride: int


class Checkpoint:
    """An open torch.save file: `tensors` by name, and their bytes by `rows`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # key and bytes of the storage read last: several tensors may share it
        self._last: tuple[str | None, bytes | memoryview] = None, b""
        self.tensors: dict[str, Tensor] = {}
        with _damage_named(f"{path} is no zip file as torch.save writes it"):
            self._zip = zipfile.ZipFile(path)
        try:
            self._read_index()
        except BaseException:
            self._zip.close()
            raise

    def _read_index(self) -> None:
        members = self._zip.infolist()
        size = self._zip.fp.seek(0, 2) if self._zip.fp else 0
        pickles = [info for info in members if info.filename.endswith("/data.pkl") and info.filename.count("/") == 1]
        if len(pickles) != 1 or pickles[0].file_size > LARGEST_PICKLE:
            raise ModelError(f"{self._path} holds {len(pickles)} pickles of usable size, expected one")
        self._prefix = pickles[0].filename.removesuffix("data.pkl")
        self._members = {info.filename: info for info in members}
        for info in members:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise ModelError(f"{self._path}: {info.filename} is compressed or longer than the file")
        if f"{self._prefix}byteorder" in self._members and self._member("byteorder") != b"little":
            raise ModelError(f"{self._path} is big-endian: save it anew on a little-endian machine")
        for name, value in _run(self._member("data.pkl")).items():
            if type(value) is Tensor:
                self._check(name, value)
                self.tensors[name] = value

    def _member(self, name: str) -> bytes:
        with _damage_named(f"{self._path}: {name} is damaged or missing"):
            return self._zip.read(self._prefix + name)

    def _check(self, name: str, tensor: Tensor) -> None:
        storage = tensor.storage
        info = self._members.get(f"{self._prefix}data/{storage.key}")
        if info is None or info.file_size != storage.n_items * storage.item_bytes:
            raise ModelError(f"{self._path}: the storage of {name} is missing or not {storage.n_items} elements long")
        rows, cols = tensor.shape
        if tensor.offset + (rows - 1) * tensor.row_stride + cols > storage.n_items:
            raise ModelError(f"{self._path}: {name} reaches past its storage of {storage.n_items} elements")

    def rows(self, tensor: Tensor) -> Iterator[bytes | memoryview]:
        """Yield the bytes of each row of a tensor of this file."""
        storage = tensor.storage
        if self._last[0] != storage.key:
            self._last = None, b""  # freed before the next one is read
            self._last = storage.key, memoryview(self._member(f"data/{storage.key}"))
        data, item = self._last[1], storage.item_bytes
        rows, cols = tensor.shape
        for row in range(rows):
            start = (tensor.offset + row * tensor.row_stride) * item
            yield data[start : start + cols * item]

    def close(self) -> None:
        self._zip.close()


@contextmanager
def _damage_named(what: str) -> Iterator[None]:
    """Turn zipfile's exceptions about a damaged file into ModelError; errors of the kernel pass through."""
    try:
        yield
    except (zipfile.BadZipFile, EOFError, KeyError, OverflowError, RuntimeError, ValueError, struct.error) as error:
        raise ModelError(f"{what}: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to an offset that no file has
            raise
        raise ModelError(f"{what}: it points outside itself") from None


def _run(program: bytes) -> dict[str, Any]:
    """Return the dict that a pickle of protocol 2 or 3 describes; ModelError if it is not a dict of tensors."""
    try:
        result = _Machine(program).run()
    except (IndexError, KeyError, struct.error, UnicodeDecodeError, TypeError, ValueError) as error:
        raise ModelError(f"data.pkl is damaged: {type(error).__name__} {error!s:.80}") from None
    if type(result) is dict and result and not any(type(value) is Tensor for value in result.values()):
        raise ModelError(
            f"data.pkl has no tensors but {', '.join(sorted(result))[:60]}: save the dict of tensors that is "
            "in it by itself"
        )
    if type(result) is not dict:
        raise ModelError(f"data.pkl holds a {type(result).__name__}, expected a dict of tensors")
    return result


class _Machine:
    """Stack, memo and position of one run over a pickle."""

    def __init__(self, program: bytes) -> None:
        self.program, self.at = program, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (op := self.take(1)) != b".":
            handler = OPCODES.get(op)
            if handler is None:
                raise ModelError(
                    f"data.pkl uses opcode {op!r}: it is no plain dict of tensors as torch.save(state_dict, "
                    "file) writes it"
                )
            handler(self)
        return self.stack[-1]

    def take(self, n: int) -> bytes:
        taken = self.program[self.at : self.at + n]
        if n < 0 or len(taken) != n:
            raise ModelError("data.pkl ends too early")
        self.at += n
        return taken

    def number(self, code: str) -> int:
        return int(struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0])

    def line(self) -> str:
        end = self.program.index(b"\n", self.at)
        return self.take(end + 1 - self.at)[:-1].decode()

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        return values[::-1]

    def pop(self, n: int) -> tuple[Any, ...]:
        values = tuple(self.stack[-n:])
        if len(values) != n:
            raise IndexError("too few values on the stack")
        del self.stack[-n:]
        return values

    def find(self) -> None:
        name = f"{self.line()} {self.line()}"
        if name not in GLOBALS:
            raise ModelError(f"data.pkl names {name!r:.80}: only tensors of float32, float16 and bfloat16 are read")
        self.push(Global(name))

    def persistent(self) -> None:
        kind, storage_class, key, _location, n_items = self.stack.pop()
        if kind != "storage" or type(storage_class) is not Global or type(key) is not str or type(n_items) is not int:
            raise ModelError("data.pkl refers to something outside itself that is no storage")
        self.push(Storage(key, *STORAGES[storage_class], n_items))

    def reduce(self) -> None:
        name, arguments = self.pop(2)
        if type(name) is not Global or type(arguments) is not tuple:
            raise ModelError("data.pkl calls something that is no tensor")
        if name == ORDERED_DICT and not arguments:
            self.push({})
        elif name == REBUILD_TENSOR:
            self.push(_tensor(*arguments))
        else:
            raise ModelError(f"data.pkl calls {name}")

    def set_items(self, values: list[Any] | tuple[Any, ...]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise ModelError("data.pkl stores into something that is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str:
                raise ModelError("data.pkl has a key that is no text")
            target[key] = value


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, *metadata: Any
) -> Tensor:
    """torch._utils._rebuild_tensor_v2: a matrix or vector, the latter as one row."""
    if type(storage) is not Storage or len(shape) != len(strides) or len(shape) not in (1, 2):
        raise ModelError("data.pkl has a tensor that is neither a vector nor a matrix")
    if not all(type(n) is int and n > 0 for n in (*shape, *strides)) or type(offset) is not int or offset < 0:
        raise ModelError("data.pkl has a tensor whose shape, strides and offset are no positive numbers")
    rows, cols = (1, *shape)[-2:]
    row_stride, stride = (cols, *strides)[-2:]
    if stride != 1 and cols != 1:
        raise ModelError(f"data.pkl has a transposed tensor, strides {strides}: save it contiguous")
    return Tensor(storage, offset, (rows, cols), row_stride)


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


# the language of https://docs.python.org/3/library/pickletools.html, as far as torch.save speaks it
OPCODES: dict[bytes, Callable[[_Machine], object]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"(": lambda m: m.push(MARK),  # MARK
    b"N": lambda m: m.push(None),  # NONE
    b"\x88": lambda m: m.push(True),  # NEWTRUE
    b"\x89": lambda m: m.push(False),  # NEWFALSE
    b"J": lambda m: m.push(m.number("i")),  # BININT
    b"K": lambda m: m.push(m.number("B")),  # BININT1
    b"M": lambda m: m.push(m.number("H")),  # BININT2
    b"\x8a": lambda m: m.push(int.from_bytes(m.take(m.number("B")), "little", signed=True)),  # LONG1
    b"X": lambda m: m.push(m.take(m.number("I")).decode()),  # BINUNICODE
    b"}": lambda m: m.push({}),  # EMPTY_DICT
    b")": lambda m: m.push(()),  # EMPTY_TUPLE
    b"\x85": lambda m: m.push(m.pop(1)),  # TUPLE1
    b"\x86": lambda m: m.push(m.pop(2)),  # TUPLE2
    b"\x87": lambda m: m.push(m.pop(3)),  # TUPLE3
    b"t": lambda m: m.push(tuple(m.pop_mark())),  # TUPLE
    b"q": lambda m: _put(m, m.number("B")),  # BINPUT
    b"r": lambda m: _put(m, m.number("I")),  # LONG_BINPUT
    b"h": lambda m: m.push(m.memo[m.number("B")]),  # BINGET
    b"j": lambda m: m.push(m.memo[m.number("I")]),  # LONG_BINGET
    b"c": _Machine.find,  # GLOBAL
    b"Q": _Machine.persistent,  # BINPERSID
    b"R": _Machine.reduce,  # REDUCE
    b"s": lambda m: m.set_items(m.pop(2)),  # SETITEM
    b"u": lambda m: m.set_items(m.pop_mark()),  # SETITEMS
    b"b": lambda m: m.pop(1),  # BUILD: attributes of the dict, such as _metadata, which are not used here
}
