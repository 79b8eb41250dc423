"""Load a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

    magic version n_tensors n_kv | key type value ... | name n_dims dims type offset ... | pad | tensor data

The file is hostile: every count and length is compared with the remaining bytes before use. So no read passes the end,
and no allocation exceeds a small multiple of the file. A feature that this engine lacks (another architecture, an
unknown tensor) is refused, never ignored. The reader is our own, since that of the `gguf` package takes two seconds for
a vocabulary of 49,000 tokens.
"""

from __future__ import annotations

import os
import struct
from array import array
from functools import partial

from llama._kernels import lib
from llama._native import ModelError, show
from llama.families import _llama
from llama.loaders import _build
from llama.loaders._build import TYPES
from llama.loaders._recognise import MAGIC, looks_like
from llama.text._vocabulary import Vocabulary, install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader
    from typing import Any

    from llama._kernels import mk_model

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
NO_TOKEN = (1 << 32) - 1  # -1, as files with unsigned ids write it
READ_AHEAD = 1 << 22  # bytes: the metadata of a 128k vocabulary in two or three reads

TYPE_NAMES = {
    lib.MK_F32: "F32",
    lib.MK_F16: "F16",
    lib.MK_BF16: "BF16",
    lib.MK_Q4_0: "Q4_0",
    lib.MK_Q4_1: "Q4_1",
    lib.MK_Q8_0: "Q8_0",
    lib.MK_Q4_K: "Q4_K",
    lib.MK_Q5_K: "Q5_K",
    lib.MK_Q6_K: "Q6_K",
}
OTHER_TYPES = {
    6: "Q5_0",
    7: "Q5_1",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}


class Cursor:
    """A position in a file; every take is checked against the bytes that are left."""

    def __init__(self, file: BufferedReader) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.buffer = b""
        self.start = 0  # file offset of buffer[0]
        self.at = 0  # position within buffer

    @property
    def offset(self) -> int:
        return self.start + self.at

    def take(self, n: int) -> bytes:
        """Return the next n bytes."""
        if n > self.size - self.offset:
            raise ModelError(f"the file ends too early: {n} bytes wanted at {self.offset} of {self.size}")
        if n > len(self.buffer) - self.at:
            self.start += self.at
            self.buffer = self.buffer[self.at :] + self.file.read(max(n, READ_AHEAD))
            self.at = 0
        taken = self.buffer[self.at : self.at + n]
        if len(taken) != n:
            raise ModelError(f"the file became shorter while it was read, at {self.offset}")
        self.at += n
        return taken

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def string(self) -> bytes:
        return self.take(self.number("Q"))

    def sequence(self) -> array[Any] | list[bytes]:
        kind, n = struct.unpack("<IQ", self.take(12))
        if kind in SCALARS:
            code = SCALARS[kind].replace("?", "B")
            return array(code, self.take(n * struct.calcsize("<" + code)))
        if kind != STRING:
            raise ModelError(f"an array of GGUF type {kind}: expected numbers or strings")
        if n > (self.size - self.offset) // 8:
            raise ModelError(f"an array of {n} strings does not fit the {self.size} bytes of the file")
        string = self.string
        return [string() for _ in range(n)]

    def value(self) -> Any:
        kind = self.number("I")
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.sequence()
        raise ModelError(f"a value of GGUF type {kind}: the file is damaged or newer than this reader")


class Header:
    """Everything before the tensor data: `fields` by key, `tensors` {name: (dims, type, offset in the file)}."""

    def __init__(self, file: BufferedReader) -> None:
        cursor = Cursor(file)
        begin = cursor.take(min(cursor.size, 32))
        if begin[:4] != MAGIC:
            raise ModelError(f"not a GGUF file{looks_like(begin)}: expected it to begin with 'GGUF'")
        cursor.at = len(MAGIC)
        version, n_tensors, n_kv = struct.unpack("<IQQ", cursor.take(20))
        if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, 2, 3):
            raise ModelError("the file is big-endian: this reader knows little-endian GGUF, as nearly all files are")
        if version not in (2, 3):
            raise ModelError(f"GGUF version {version}: this reader knows 2 and 3")
        self.fields: dict[str, Any] = {}
        for _ in range(n_kv):
            key = cursor.string().decode("utf-8", "replace")
            self.fields[key] = cursor.value()
        infos: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(n_tensors):
            name = cursor.string().decode("utf-8", "replace")
            n_dims = cursor.number("I")
            if n_dims > 4 or name in infos:
                raise ModelError(f"tensor {name!r} is listed twice or has {n_dims} dimensions")
            dims = struct.unpack(f"<{n_dims}Q", cursor.take(8 * n_dims))
            kind, offset = struct.unpack("<IQ", cursor.take(12))
            infos[name] = dims, kind, offset
        align = self.get("general.alignment", int, 32)
        if align < 1 or align & (align - 1):
            raise ModelError(f"general.alignment is {align}, expected a power of two")
        base = -(-cursor.offset // align) * align
        self.tensors = {name: (dims, kind, base + offset) for name, (dims, kind, offset) in infos.items()}
        self.size = cursor.size

    def get(self, key: str, kind: type[Any], *default: Any) -> Any:
        """Return a field of Python type `kind`; ModelError when it is missing without default, or another type."""
        if key not in self.fields:
            if default:
                return default[0]
            raise ModelError(f"the file has no {key}: it is no complete model")
        value = self.fields[key]
        if type(value) is not kind:
            raise ModelError(f"{key} is {KINDS[type(value)]}, expected {KINDS[kind]}")
        return value

    def number(self, key: str, *default: Any) -> Any:
        """Return a whole number, or the common value of an array, which some files have with a number for each
        layer."""
        value = self.fields.get(key)
        if type(value) is array and value.typecode not in "fd" and len(set(value)) == 1:
            return value[0]
        if type(value) is array:
            raise ModelError(f"{key} differs from layer to layer: this engine needs one number")
        return self.get(key, int, *default)


KINDS = {
    bool: "a truth value",
    int: "a whole number",
    float: "a fraction",
    bytes: "a text",
    array: "a list of numbers",
    list: "a list of texts",
}


def load(path: str | os.PathLike[str], quantize: str | None, progress: Callable[[int, int], object]) -> mk_model:
    """Return an mk_model pointer for the GGUF file at `path`."""
    with open(path, "rb") as file:
        header = Header(file)
        _check_what_it_is(header)
        _llama.check(header)
        vocabulary = _vocabulary(header)
        config = _llama.config(header, len(header.tensors), len(vocabulary.tokens))
        with _build.building(
            config,
            name=header.get("general.name", bytes, os.path.basename(os.fsencode(path))),
            chat_template=header.get("tokenizer.chat_template", bytes, b""),
        ) as model:
            install(model, vocabulary)
            _load_tensors(model, header, file, TYPES[quantize] if quantize else None, progress)
            _build.scale_positions(model, _llama.rope_factor(header))
            return model


def _check_what_it_is(header: Header) -> None:
    """Refuse a file that is not a complete model, before a missing part is reported."""
    n_parts = header.fields.get("split.count", 0)
    if type(n_parts) is int and n_parts > 1:
        part = header.fields.get("split.no", 0)
        raise ModelError(
            f"the file is part {part + 1 if type(part) is int else '?'} of a GGUF that was split into {n_parts}: "
            "join them with llama.cpp's llama-gguf-split --merge"
        )
    kind = header.get("general.type", bytes, b"model")
    if kind != b"model":
        raise ModelError(f"the file is of type {show(kind)}, not a model: give the model itself")


def _vocabulary(header: Header) -> Vocabulary:
    tokens = header.get("tokenizer.ggml.tokens", list)
    kind = header.get("tokenizer.ggml.model", bytes).decode("utf-8", "replace")
    is_spm = kind == "llama"

    def token_id(name: str, *spm_default: int) -> int:
        found: int = header.get(f"tokenizer.ggml.{name}_token_id", int, *(spm_default if is_spm else (-1,)))
        return -1 if found == NO_TOKEN else found

    return Vocabulary(
        tokenizer=kind,
        pre_tokenizer=header.get("tokenizer.ggml.pre", bytes, b"").decode("utf-8", "replace"),
        tokens=tokens,
        kinds=header.get("tokenizer.ggml.token_type", array, [lib.MK_TOKEN_NORMAL] * len(tokens)),
        scores=header.get("tokenizer.ggml.scores", array, [0.0] * len(tokens)),
        # listed twice: the better place counts
        merges=list(dict.fromkeys(header.get("tokenizer.ggml.merges", list, []))),
        # Where a sentencepiece file is silent, ids are those of Meta's tokenizer.
        bos_id=token_id("bos", 1),
        eos_id=token_id("eos", 2),
        unk_id=token_id("unknown", 0),
        eot_id=header.get("tokenizer.ggml.eot_token_id", int, None),
        add_bos=header.get("tokenizer.ggml.add_bos_token", bool, None),
        add_space_prefix=header.get("tokenizer.ggml.add_space_prefix", bool, is_spm),
    )


def _load_tensors(
    model: mk_model, header: Header, file: BufferedReader, quantize: int | None, progress: Callable[[int, int], object]
) -> None:
    slots = _build.slots(model)
    present = {_llama.tensor_name(name): slot for name, slot in slots.items()}
    if unknown := header.tensors.keys() - present.keys():
        raise ModelError(f"tensor {min(unknown)!r} is none of a LLaMA model's: the answer would be wrong without it")
    optional = {_llama.tensor_name(name) for name in _llama.OPTIONAL}
    if missing := present.keys() - header.tensors.keys() - optional:
        raise ModelError(f"tensor {min(missing)!r} is missing: the file is no complete model")
    done, total = 0, sum(_tensor_bytes(name, present[name], header) for name in header.tensors)
    _build.reserve(model, [(present[name], name, kind) for name, (_, kind, _) in header.tensors.items()], quantize)
    for name in header.tensors:
        _, kind, offset = header.tensors[name]
        _build.store(present[name], name, kind, partial(_read, file, offset))
        done += _tensor_bytes(name, present[name], header)
        progress(done, total)
    if not model.output.data:
        _build.tie_output(model)


def _read(file: BufferedReader, offset: int, buffer: bytearray) -> None:
    file.seek(offset)
    if file.readinto(buffer) != len(buffer):
        raise ModelError(f"the file became shorter while it was read, at {offset}")


def _tensor_bytes(name: str, slot: _build.Slot, header: Header) -> int:
    """Return a tensor's size in the file; ModelError if its shape, type or place cannot be."""
    dims, kind, offset = header.tensors[name]
    if tuple(dims) not in ((slot.cols, slot.rows), (slot.cols,) if slot.rows == 1 else ()):
        raise ModelError(f"{name} has dimensions {list(dims)}, expected {[slot.cols, slot.rows]}")
    if kind not in TYPE_NAMES:
        raise ModelError(
            f"{name} has type {OTHER_TYPES.get(kind, kind)}: this engine reads {', '.join(TYPE_NAMES.values())}"
        )
    n_bytes = slot.rows * lib.mk_row_bytes(kind, slot.cols)
    if not n_bytes:
        raise ModelError(f"{name} has rows of {slot.cols} values, which {TYPE_NAMES[kind]} cannot hold")
    if offset + n_bytes > header.size:
        raise ModelError(f"{name} ends at byte {offset + n_bytes} of {header.size}: the file was cut short")
    return n_bytes
