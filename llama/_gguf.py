"""Load a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

    magic version n_tensors n_kv | key type value ... | name n_dims dims type offset ... | pad | tensor data

The file is hostile: every count and length is compared with the bytes that are left before it is believed, so that
nothing is read past the end and no allocation exceeds a small multiple of the file. Whatever the file says that
this engine does not do (another architecture, a tensor it does not know) is refused, never ignored.
Own reader rather than the `gguf` package's, which takes two seconds for a vocabulary of 49,000 tokens.
"""

import os
import struct
from array import array
from functools import partial

from llama import _build
from llama._build import TYPES
from llama._kernels import lib
from llama._model import ModelError
from llama._vocabulary import Vocabulary, install

MAGIC = b"GGUF"
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
READ_AHEAD = 1 << 22  # bytes: the metadata of a 128k vocabulary in two or three reads

TYPE_NAMES = {lib.MK_F32: "F32", lib.MK_F16: "F16", lib.MK_BF16: "BF16",
              lib.MK_Q4_0: "Q4_0", lib.MK_Q4_1: "Q4_1", lib.MK_Q8_0: "Q8_0",
              lib.MK_Q4_K: "Q4_K", lib.MK_Q5_K: "Q5_K", lib.MK_Q6_K: "Q6_K"}
LAYER_TENSORS = {
    "attn_norm": "attn_norm", "wq": "attn_q", "wk": "attn_k", "wv": "attn_v", "wo": "attn_output",
    "ffn_norm": "ffn_norm", "w_gate": "ffn_gate", "w_up": "ffn_up", "w_down": "ffn_down",
}
TENSORS = {"embed": "token_embd", "out_norm": "output_norm", "output": "output", "rope_freqs": "rope_freqs"}
OPTIONAL = ("output", "rope_freqs")  # tied head; plain RoPE
REFUSED = {  # keys of llama-architecture files that change the forward pass in ways this engine does not do
    "llama.expert_count": (0,),
    "llama.rope.scaling.type": (b"none",),
    "llama.attention.sliding_window": (),
}


class Cursor:
    """A position in a file; every take is checked against the bytes that are left."""

    def __init__(self, file):
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.buffer = b""
        self.start = 0  # file offset of buffer[0]
        self.at = 0  # position within buffer

    @property
    def offset(self):
        return self.start + self.at

    def take(self, n):
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

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def string(self):
        return self.take(self.number("Q"))

    def sequence(self):
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

    def value(self):
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

    def __init__(self, file):
        cursor = Cursor(file)
        if cursor.size < 4 or cursor.take(4) != MAGIC:
            raise ModelError("not a GGUF file: expected it to begin with 'GGUF'")
        version, n_tensors, n_kv = struct.unpack("<IQQ", cursor.take(20))
        if version not in (2, 3):
            raise ModelError(f"GGUF version {version}: this reader knows 2 and 3, little-endian")
        self.fields = {}
        for _ in range(n_kv):
            key = cursor.string().decode("utf-8", "replace")
            self.fields[key] = cursor.value()
        infos = {}
        for _ in range(n_tensors):
            name = cursor.string().decode("utf-8", "replace")
            n_dims = cursor.number("I")
            if n_dims > 4 or name in infos:
                raise ModelError(f"tensor {name!r} is listed twice or has {n_dims} dimensions")
            dims = struct.unpack(f"<{n_dims}Q", cursor.take(8 * n_dims))
            infos[name] = (dims, *struct.unpack("<IQ", cursor.take(12)))
        align = self.get("general.alignment", int, 32)
        if align < 1 or align & (align - 1):
            raise ModelError(f"general.alignment is {align}, expected a power of two")
        base = -(-cursor.offset // align) * align
        self.tensors = {name: (dims, kind, base + offset) for name, (dims, kind, offset) in infos.items()}
        self.size = cursor.size

    def get(self, key, kind, *default):
        """Return a field of Python type `kind`; ModelError when it is missing without default, or another type."""
        if key not in self.fields:
            if default:
                return default[0]
            raise ModelError(f"the file has no {key}: it is no complete model")
        value = self.fields[key]
        if type(value) is not kind:
            raise ModelError(f"{key} is a {type(value).__name__}, expected {kind.__name__}")
        return value


def load(path, quantize, progress):
    """Return an mk_model pointer for the GGUF file at `path`."""
    with open(path, "rb") as file:
        header = Header(file)
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
            return model


def _config(header, n_vocab):
    arch = header.get("general.architecture", bytes)
    if arch != b"llama":
        raise ModelError(f"architecture {arch.decode('utf-8', 'replace')!r}: this engine runs 'llama'")
    for key, harmless in REFUSED.items():
        if header.fields.get(key, None) not in (None, *harmless):
            raise ModelError(f"{key} is {header.fields[key]!r}: this engine does not do that")
    dim = header.get("llama.embedding_length", int)
    n_heads = header.get("llama.attention.head_count", int)
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
        "n_kv_heads": header.get("llama.attention.head_count_kv", int, n_heads),
        "head_dim": head_dim,
        "ffn_dim": header.get("llama.feed_forward_length", int),
        "n_vocab": n_vocab,
        "n_ctx_train": header.get("llama.context_length", int),
        "rope_dim": header.get("llama.rope.dimension_count", int, head_dim),
        "rope_neox": 0,
        "rope_theta": header.get("llama.rope.freq_base", float, 10000.0),
        "norm_eps": header.get("llama.attention.layer_norm_rms_epsilon", float),
    }


def _vocabulary(header):
    tokens = header.get("tokenizer.ggml.tokens", list)
    kind = header.get("tokenizer.ggml.model", bytes).decode("utf-8", "replace")
    is_spm = kind == "llama"

    def token_id(name, *spm_default):
        return header.get(f"tokenizer.ggml.{name}_token_id", int, *(spm_default if is_spm else (-1,)))

    return Vocabulary(
        tokenizer=kind,
        pre_tokenizer=header.get("tokenizer.ggml.pre", bytes, b"").decode("utf-8", "replace"),
        tokens=tokens,
        kinds=header.get("tokenizer.ggml.token_type", array, [lib.MK_TOKEN_NORMAL] * len(tokens)),
        scores=header.get("tokenizer.ggml.scores", array, [0.0] * len(tokens)),
        merges=header.get("tokenizer.ggml.merges", list, []),
        # Where a sentencepiece file is silent, ids are those of Meta's tokenizer.
        bos_id=token_id("bos", 1),
        eos_id=token_id("eos", 2),
        unk_id=token_id("unknown", 0),
        eot_id=header.get("tokenizer.ggml.eot_token_id", int, None),
        add_bos=header.get("tokenizer.ggml.add_bos_token", bool, None),
        add_space_prefix=header.get("tokenizer.ggml.add_space_prefix", bool, is_spm),
    )


def _file_name(slot_name):
    layer, dot, field = slot_name.partition(".")
    return f"blk.{layer}.{LAYER_TENSORS[field]}.weight" if dot else f"{TENSORS[slot_name]}.weight"


def _load_tensors(model, header, file, quantize, progress):
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


def _read(file, offset, buffer):
    file.seek(offset)
    if file.readinto(buffer) != len(buffer):
        raise ModelError(f"the file became shorter while it was read, at {offset}")


def _tensor_bytes(name, slot, header):
    """Return a tensor's size in the file; ModelError if its shape, type or place cannot be."""
    dims, kind, offset = header.tensors[name]
    if tuple(dims) not in ((slot.cols, slot.rows), (slot.cols,) if slot.rows == 1 else ()):
        raise ModelError(f"{name} has dimensions {list(dims)}, expected {[slot.cols, slot.rows]}")
    if kind not in TYPE_NAMES:
        raise ModelError(f"{name} has GGUF type {kind}: this engine reads {', '.join(TYPE_NAMES.values())}")
    n_bytes = slot.rows * lib.mk_row_bytes(kind, slot.cols)
    if not n_bytes:
        raise ModelError(f"{name} has rows of {slot.cols} values, which {TYPE_NAMES[kind]} cannot hold")
    if offset + n_bytes > header.size:
        raise ModelError(f"{name} ends at byte {offset + n_bytes} of {header.size}: the file was cut short")
    return n_bytes
