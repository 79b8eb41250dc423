"""Check the vocabulary that a loader has read and install it in a model: tables, special ids, serialised form.

`tokenizer_blob` is what a Tokenizer starts from:
    "llama"  a sentencepiece ModelProto: the checkpoint's own, or one made here from the tables
    "gpt2"   tables of merges and spellings in which to search (_byte_pairs.py)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from llama._kernels import lib
from llama._native import ModelError, copy_bytes, set_string, show
from llama.text._byte_pairs import PRE_TOKENIZERS, pack
from llama.text._tokenizer import sentencepiece_processor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama._kernels import mk_model

# Names of the tokens by which chat-tuned LLaMA-family models end an answer, likeliest first: GGUF files rarely name it.
END_NAMES = (b"<|eot_id|>", b"<|im_end|>", b"<|end|>", b"<|endoftext|>", b"<|end_of_text|>", b"<end_of_turn>")


@dataclass
class Vocabulary:
    """A tokenizer as its file describes it; None for a field that the file lacks."""

    tokenizer: str  # "gpt2" or "llama"
    tokens: list[bytes]  # n_vocab spellings, bytes
    kinds: Sequence[int]  # n_vocab MK_TOKEN_*
    scores: Sequence[float]  # n_vocab floats
    merges: list[bytes]  # b"left right", best first
    pre_tokenizer: str = ""
    bos_id: int = -1
    eos_id: int = -1
    unk_id: int = -1
    eot_id: int | None = None
    add_bos: bool | None = None
    add_space_prefix: bool = False
    sentencepiece: bytes | None = None  # the tokenizer.model file


def install(model: mk_model, vocabulary: Vocabulary) -> None:
    """Fill the model's tokenizer fields; ModelError for a vocabulary that cannot be used faithfully."""
    v = vocabulary
    _check(v)
    v.kinds = _mended_kinds(v)
    is_spm = v.tokenizer == "llama"
    pairs = [] if is_spm else _pairs(v)
    blob = (v.sentencepiece or _sentencepiece_proto(v)) if is_spm else _packed(v, pairs)
    if is_spm and sentencepiece_processor(blob).get_piece_size() != len(v.tokens):
        raise ModelError("the sentencepiece model and the vocabulary differ in length")
    for i, (spelling, kind) in enumerate(zip(v.tokens, v.kinds, strict=True)):
        token = model.tokens[i]
        token.bytes, token.n_bytes = copy_bytes(spelling), len(spelling)
        token.kind = kind
    set_string(model, "tokenizer", v.tokenizer.encode())
    set_string(model, "pre_tokenizer", v.pre_tokenizer.encode())
    model.tokenizer_blob, model.n_tokenizer_blob = copy_bytes(blob), len(blob)
    model.n_merges = len(pairs)
    model.bos_id, model.eos_id, model.unk_id = v.bos_id, v.eos_id, v.unk_id
    model.eot_id = _end_of_turn(v) if v.eot_id is None else v.eot_id
    begins = is_spm or v.pre_tokenizer in ("llama-bpe", "llama3", "llama-v3")  # as llama.cpp decides where files do not
    model.add_bos = begins if v.add_bos is None else v.add_bos
    model.add_space_prefix = v.add_space_prefix


def _check(v: Vocabulary) -> None:
    if v.tokenizer not in ("gpt2", "llama"):
        raise ModelError(f"tokenizer {v.tokenizer!r}: this engine knows 'gpt2' (byte-level BPE) and 'llama'")
    if v.tokenizer == "gpt2" and v.pre_tokenizer not in PRE_TOKENIZERS:
        raise ModelError(f"pre-tokenizer {v.pre_tokenizer!r}: this engine knows {', '.join(PRE_TOKENIZERS)}")
    n = len(v.tokens)
    if not n or len(v.kinds) != n or len(v.scores) != n:
        raise ModelError(f"{n} tokens, {len(v.kinds)} kinds, {len(v.scores)} scores: expected as many of each")
    if not all(type(kind) is int and lib.MK_TOKEN_NORMAL <= kind <= lib.MK_TOKEN_BYTE for kind in v.kinds):
        raise ModelError("a token's kind is none of GGUF's six")
    for name in ("bos_id", "eos_id", "unk_id", "eot_id"):
        if not -1 <= (getattr(v, name) or 0) < n:
            raise ModelError(f"{name} is {getattr(v, name)}, but there are {n} tokens")
    for spelling in (*v.tokens, *v.merges):
        if type(spelling) is not bytes or b"\0" in spelling:
            raise ModelError(f"{show(spelling)} among the tokens or merges: expected text without NUL")
    try:
        b"\0".join(v.tokens).decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"a token is not UTF-8: {error}") from None


def _pairs(v: Vocabulary) -> list[tuple[bytes, bytes]]:
    """Return the merges as (left, right) spellings."""
    pairs = []
    for merge in v.merges:
        pair = merge.split(b" ")
        if len(pair) != 2:
            raise ModelError(f"merge {show(merge)} is not 'left right'")
        pairs.append((pair[0], pair[1]))
    return pairs


def _packed(v: Vocabulary, pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Return the tables of _byte_pairs.py. Control tokens are not in them: no text can become one."""
    ids: dict[bytes, int] = {}
    for i, (spelling, kind) in enumerate(zip(v.tokens, v.kinds)):
        if kind != lib.MK_TOKEN_CONTROL:
            ids.setdefault(spelling, i)
    try:
        return pack(ids, pairs)
    except KeyError as error:
        raise ModelError(f"a merge takes or makes {show(error.args[0])}, which is no token") from None
    except ValueError as error:
        raise ModelError(str(error)) from None


def _end_of_turn(v: Vocabulary) -> int:
    for name in END_NAMES:
        if name in v.tokens:
            found = v.tokens.index(name)
            if found != v.eos_id:
                return found
    return -1


def _mended_kinds(v: Vocabulary) -> list[int]:
    """Return the kinds of tokens. As in llama.cpp, a token with the name of an end of answer is a control token,
    whatever kind the file gives."""
    kinds = list(v.kinds)
    for name in END_NAMES:
        if name in v.tokens:
            kinds[v.tokens.index(name)] = lib.MK_TOKEN_CONTROL
    return kinds


def _sentencepiece_proto(v: Vocabulary) -> bytes:
    """Return a ModelProto for the tables; field numbers are those of sentencepiece_model.proto.

    GGUF numbers the kinds of tokens as sentencepiece numbers the types of pieces.
    """

    def varint(value: int) -> bytes:
        low, high = value & 0x7F, value >> 7
        return bytes([low | 0x80]) + varint(high) if high else bytes([low])

    def integer(field: int, value: int) -> bytes:
        return varint(field << 3) + varint(value)

    def nested(field: int, payload: bytes) -> bytes:
        return varint(field << 3 | 2) + varint(len(payload)) + payload

    def piece(spelling: bytes, kind: int, score: float) -> bytes:
        return nested(1, nested(1, spelling) + b"\x15" + struct.pack("<f", score) + integer(3, kind))

    pieces = b"".join(map(piece, v.tokens, v.kinds, v.scores))
    bpe = integer(3, 2)
    byte_fallback = integer(35, lib.MK_TOKEN_BYTE in v.kinds)
    trainer = nested(2, bpe + byte_fallback)
    identity = nested(1, b"identity")
    add_dummy_prefix, keep_extra_spaces, escape_spaces = integer(3, v.add_space_prefix), integer(4, 0), integer(5, 1)
    return pieces + trainer + nested(3, identity + add_dummy_prefix + keep_extra_spaces + escape_spaces)
