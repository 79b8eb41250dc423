"""Load a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

    magic version n_tensors n_kv | key type value ... | name n_dims dims type offset ... | pad | tensor data

The file is hostile: every count and length is compared with the bytes that are left before it is believed, so that
nothing is read past the end and no allocation exceeds a small multiple of the file. Whatever the file says that
this engine does not do (another architecture, a tensor it does not know) is refused, never ignored.
Own reader rather than the `gguf` package's, which takes two seconds for a vocabulary of 49,000 tokens.
"""

from __future__ import annotations

import os
import struct
from array import array
from functools import partial

from llama._kernels import lib
from llama._native import ModelError, show
from llama.loaders import _build
from llama.loaders._build import CONVERT, TYPES
from llama.text._vocabulary import Vocabulary, install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader
    from typing import Any

    from llama._kernels import mk_model

MAGIC = b"GGUF"
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
LAYER_TENSORS = {
    "attn_norm": "attn_norm",
    "wq": "attn_q",
    "wk": "attn_k",
    "wv": "attn_v",
    "wo": "attn_output",
    "ffn_norm": "ffn_norm",
    "w_gate": "ffn_gate",
    "w_up": "ffn_up",
    "w_down": "ffn_down",
}
TENSORS = {"embed": "token_embd", "out_norm": "output_norm", "output": "output", "rope_freqs": "rope_freqs"}
OPTIONAL = ("output", "rope_freqs")  # tied head; plain RoPE
# What keys of the architecture's own may be there: those that are read here, and those that say nothing about the
# forward pass.
READ = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
}
SILENT = {
    "vocab_size",
    "tensor_data_layout",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "attention.layer_norm_epsilon",
}
NEUTRAL = {  # of others, values that change nothing, besides zero, "" and "none"
    "logit_scale": (1.0,),
    "embedding_scale": (1.0,),
    "residual_scale": (1.0,),
    "rope.scaling.attn_factor": (1.0,),
    "use_parallel_residual": (True,),  # which the GPT-NeoX family alone reads
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
            raise ModelError(f"not a GGUF file{_looks_like(begin)}: expected it to begin with 'GGUF'")
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
        """Return a whole number, or what all elements of an array are, as files with a number a layer have it."""
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
LOOKS = (  # what other files of models begin with
    (b"version https://git-lfs", "a Git LFS pointer to one, of a repository that was cloned without git-lfs"),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint: give its directory, if that has Meta's layout"),
    (b"lmgg", "llama.cpp's format of early 2023 (GGML)"),
    (b"fmgg", "llama.cpp's format of 2023 (GGMF)"),
    (b"tjgg", "llama.cpp's format of 2023 (GGJT)"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)


def _looks_like(begin: bytes) -> str:
    """Return what a file that begins so is, as a clause, or ""."""
    if not begin:
        return " (it is empty)"
    if begin[8:9] == b"{":
        return f" (it is a safetensors file: {CONVERT})"
    return next((f" (it is {what})" for magic, what in LOOKS if begin.startswith(magic)), "")


def load(path: str | os.PathLike[str], quantize: str | None, progress: Callable[[int, int], object]) -> mk_model:
    """Return an mk_model pointer for the GGUF file at `path`."""
    with open(path, "rb") as file:
        header = Header(file)
        check_what_it_is(header)
        vocabulary = _vocabulary(header)
        config = _config(header, len(vocabulary.tokens))
        with _build.building(
            config,
            len(vocabulary.merges),
            name=header.get("general.name", bytes, os.path.basename(os.fsencode(path))),
            chat_template=header.get("tokenizer.chat_template", bytes, b""),
        ) as model:
            install(model, vocabulary)
            _load_tensors(model, header, file, TYPES[quantize] if quantize else None, progress)
            _build.scale_positions(model, _rope_factor(header))
            return model


def check_what_it_is(header: Header) -> None:
    """Refuse a file that is no whole model of this family; before anything is missed in it."""
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
    arch = header.get("general.architecture", bytes)
    if arch != b"llama":
        raise ModelError(f"architecture {show(arch)}: this engine runs 'llama'")
    for key, value in header.fields.items():
        own = key.removeprefix("llama.")
        if own != key and own not in READ | SILENT and not is_neutral(own, value):
            shown = show(list(value) if type(value) is array else value)
            raise ModelError(f"{key} is {shown}: this engine does not do that, and would answer wrongly without")


def is_neutral(key: str, value: Any) -> bool:
    if key == "attention.causal":
        return value is True
    return not value or value in (b"none", *NEUTRAL.get(key, ())) or (type(value) is array and not any(value))


def _rope_factor(header: Header) -> float:
    """Return by what linear scaling (Chen et al. 2023, "position interpolation") divides positions; 1: there is none.

    As llama.cpp reads these keys: the factor's older name, and linear where a factor has no type.
    """
    kind = header.get("llama.rope.scaling.type", bytes, b"linear")
    older = header.get("llama.rope.scale_linear", float, 0.0)
    factor: float = header.get("llama.rope.scaling.factor", float, older)
    if kind == b"none" or (factor in (0.0, 1.0) and kind == b"linear"):
        return 1.0
    if kind != b"linear":
        raise ModelError(f"llama.rope.scaling.type is {show(kind)}: this engine does 'linear' and 'none'")
    if not 0.0 < factor < 1e6:
        raise ModelError(f"llama.rope.scaling.factor is {factor}, expected a positive number")
    return factor


def _config(header: Header, n_vocab: int) -> _build.Config:
    dim = header.get("llama.embedding_length", int)
    n_heads = header.number("llama.attention.head_count")
    head_dim = header.get("llama.attention.key_length", int, dim // max(n_heads, 1))
    if header.get("llama.attention.value_length", int, head_dim) != head_dim:
        raise ModelError("keys and values differ in length: this engine needs them equal")
    n_layers = header.get("llama.block_count", int)
    if n_layers > len(header.tensors):
        raise ModelError(f"{n_layers} layers, but only {len(header.tensors)} tensors in the file")
    return {
        "n_layers": n_layers,
        "dim": dim,
        "n_heads": n_heads,
        "n_kv_heads": header.number("llama.attention.head_count_kv", n_heads),
        "head_dim": head_dim,
        "ffn_dim": header.number("llama.feed_forward_length"),
        "n_vocab": n_vocab,
        "n_ctx_train": header.get("llama.context_length", int),
        "rope_dim": header.get("llama.rope.dimension_count", int, head_dim),
        "rope_neox": 0,
        "rope_theta": header.get("llama.rope.freq_base", float, 10000.0),
        "norm_eps": header.get("llama.attention.layer_norm_rms_epsilon", float),
    }


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


def _file_name(slot_name: str) -> str:
    layer, dot, field = slot_name.partition(".")
    return f"blk.{layer}.{LAYER_TENSORS[field]}.weight" if dot else f"{TENSORS[slot_name]}.weight"


def _load_tensors(
    model: mk_model, header: Header, file: BufferedReader, quantize: int | None, progress: Callable[[int, int], object]
) -> None:
    slots = _build.slots(model)
    present = {_file_name(name): slot for name, slot in slots.items()}
    if unknown := header.tensors.keys() - present.keys():
        raise ModelError(f"tensor {min(unknown)!r} is none of a LLaMA model's: the answer would be wrong without it")
    optional = {_file_name(name) for name in OPTIONAL}
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
