"""Load a checkpoint in Meta's layout: consolidated.NN.pth, params.json, tokenizer.model.

A model trained on n devices comes in n shards, and each tensor is cut by its own rule:

    rows (outputs)    wq wk wv w1 w3 output; tok_embeddings since Llama 3
    columns (inputs)  wo w2; tok_embeddings in Llama 1 and 2: the shape tells
    not at all        the norms: every shard has them whole

RoPE pairs (2i, 2i+1), as in the original code, so nothing is permuted.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path

from llama._kernels import lib
from llama._native import ModelError
from llama.loaders import _build
from llama.loaders._build import TYPES
from llama.loaders._recognise import check_layout
from llama.loaders._unpickle import Checkpoint, Tensor
from llama.text._tokenizer import WORD_START, sentencepiece_processor
from llama.text._vocabulary import Vocabulary, install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from llama._kernels import mk_model

ROWS, COLUMNS, WHOLE = 0, 1, None
LAYER_TENSORS = {
    "attn_norm": "attention_norm",
    "wq": "attention.wq",
    "wk": "attention.wk",
    "wv": "attention.wv",
    "wo": "attention.wo",
    "ffn_norm": "ffn_norm",
    "w_gate": "feed_forward.w1",
    "w_up": "feed_forward.w3",
    "w_down": "feed_forward.w2",
}
TENSORS = {"embed": "tok_embeddings", "out_norm": "norm", "output": "output"}
CUT_BY_COLUMNS = ("wo", "w_down")
IGNORED = {"rope.freqs"}  # a buffer of Llama 1 and 2, which follows from rope_theta
READ = {  # keys of params.json
    "dim",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "vocab_size",
    "multiple_of",
    "ffn_dim_multiplier",
    "hidden_dim",
    "norm_eps",
    "rope_theta",
    "max_seq_len",
    "use_scaled_rope",
}
SILENT = {"max_batch_size", "model_parallel_size"}  # that do not concern the forward pass
TIKTOKEN = re.compile(rb"\A[A-Za-z0-9+/]+={0,2} [0-9]+\r?\n")  # a token in base 64, and its rank


def load(path: str | os.PathLike[str], quantize: str | None, progress: Callable[[int, int], object]) -> mk_model:
    """Return an mk_model pointer for the checkpoint in directory `path`."""
    directory = Path(path)
    check_layout(directory)
    params = _params(directory / "params.json")
    vocabulary = _vocabulary(directory)
    with ExitStack() as stack:
        shards = [stack.enter_context(closing(Checkpoint(file))) for file in _shard_files(directory)]
        config = _config(params, len(vocabulary.tokens), shards)
        with _build.building(config, name=os.fsencode(directory.resolve().name)) as model:
            install(model, vocabulary)
            _load_tensors(model, shards, TYPES[quantize] if quantize else None, progress)
            return model


def _shard_files(path: Path) -> list[Path]:
    files = sorted(path.glob("consolidated.*.pth"))
    expected = [path / f"consolidated.{i:02}.pth" for i in range(len(files))]
    if not files or files != expected:
        raise ModelError(f"{path} holds {len(files)} shards: expected consolidated.00.pth, consolidated.01.pth, ...")
    return files


def _params(path: Path) -> dict[str, Any]:
    try:
        params = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON: {error!s:.80}") from None
    if type(params) is not dict:
        raise ModelError(f"{path} is no JSON object")
    return params


def _vocabulary(path: Path) -> Vocabulary:
    file = next((f for f in (path / "tokenizer.model", path.resolve().parent / "tokenizer.model") if f.exists()), None)
    if file is None:
        raise ModelError(f"{path} has no tokenizer.model, nor has the directory above")
    blob = file.read_bytes()
    if TIKTOKEN.match(blob):
        raise ModelError(
            f"{file.name} is tiktoken's, as of Llama 3 and later, not sentencepiece's: load such a model from GGUF"
        )
    pieces = sentencepiece_processor(blob)
    ids = list(range(pieces.get_piece_size()))
    kinds = [lib.MK_TOKEN_NORMAL] * len(ids)
    for kind, flags in (
        (lib.MK_TOKEN_UNKNOWN, pieces.is_unknown(ids)),
        (lib.MK_TOKEN_CONTROL, pieces.is_control(ids)),
        (lib.MK_TOKEN_UNUSED, pieces.is_unused(ids)),
        (lib.MK_TOKEN_BYTE, pieces.is_byte(ids)),
    ):
        kinds = [kind if flag else old for flag, old in zip(flags, kinds)]
    return Vocabulary(
        tokenizer="llama",
        tokens=[piece.encode() for piece in pieces.id_to_piece(ids)],
        kinds=kinds,
        scores=pieces.get_score(ids),
        merges=[],
        bos_id=pieces.bos_id(),
        eos_id=pieces.eos_id(),
        unk_id=pieces.unk_id(),
        # The binding does not show the normaliser's settings, but its output does.
        add_space_prefix=pieces.encode_as_pieces("a")[0].startswith(WORD_START),
        sentencepiece=blob,
    )


def _config(params: dict[str, Any], n_vocab: int, shards: list[Checkpoint]) -> _build.Config:
    def integer(key: str, default: int | None = None) -> int:
        value = params.get(key)
        value = default if value is None else value
        if type(value) is not int:
            raise ModelError(f"params.json: {key} is {value!r:.80}, expected a whole number")
        return value

    def real(key: str, default: float) -> float:
        value = params.get(key)
        value = default if value is None else value
        if type(value) not in (int, float):
            raise ModelError(f"params.json: {key} is {value!r:.80}, expected a number")
        return float(value)

    for key, value in params.items():
        if key not in READ | SILENT and value:
            raise ModelError(
                f"params.json has {key[:40]!r}: this engine does not know it, and would answer wrongly without"
            )
    if params.get("use_scaled_rope"):
        raise ModelError("params.json asks for scaled RoPE (Llama 3.1 and later): load such a model from GGUF")
    if integer("vocab_size", -1) not in (-1, n_vocab):
        raise ModelError(f"params.json has vocab_size {params['vocab_size']}, tokenizer.model has {n_vocab} pieces")
    dim, n_heads, n_layers = integer("dim"), integer("n_heads"), integer("n_layers")
    if n_layers > len(shards[0].tensors):
        raise ModelError(f"{n_layers} layers, but only {len(shards[0].tensors)} tensors in the checkpoint")
    # Hidden width as llama's model.py computes it: two thirds of 4 dim, scaled, rounded up to multiple_of.
    multiple_of = integer("multiple_of", 256)
    ffn_dim = int(real("ffn_dim_multiplier", 1.0) * int(2 * (4 * dim) / 3))
    ffn_dim = integer("hidden_dim", -(-ffn_dim // max(multiple_of, 1)) * multiple_of)
    head_dim = integer("head_dim", dim // max(n_heads, 1))
    theta, norm_eps = real("rope_theta", 10000.0), real("norm_eps", 1e-5)
    # params.json does not have it; the generations differ in norm_eps, CodeLlama in theta (so did llama.cpp's
    # convert.py tell them apart).
    n_ctx = 16384 if theta == 1e6 else 4096 if norm_eps == 1e-5 else 2048
    return {
        "n_layers": n_layers,
        "dim": dim,
        "n_heads": n_heads,
        "n_kv_heads": integer("n_kv_heads", n_heads),
        "head_dim": head_dim,
        "ffn_dim": ffn_dim,
        "n_vocab": n_vocab,
        "n_ctx_train": integer("max_seq_len", n_ctx),
        "rope_dim": head_dim,
        "rope_neox": 0,
        "rope_theta": theta,
        "norm_eps": norm_eps,
    }


def _load_tensors(
    model: mk_model, shards: list[Checkpoint], quantize: int | None, progress: Callable[[int, int], object]
) -> None:
    slots = {_file_name(name): (name, slot) for name, slot in _build.slots(model).items() if name != "rope_freqs"}
    for shard in shards:
        if shard.tensors.keys() - IGNORED != slots.keys():
            odd = min((shard.tensors.keys() - IGNORED) ^ slots.keys())
            raise ModelError(f"tensor {odd!r:.80} is missing or none of a LLaMA model's")
    plan = [(file_name, slot, *_parts(file_name, name, slot, shards)) for file_name, (name, slot) in slots.items()]
    done, total = 0, sum(slot.rows * lib.mk_row_bytes(kind, slot.cols) for _, slot, kind, _, _ in plan)
    _build.reserve(model, [(slot, file_name, kind) for file_name, slot, kind, _, _ in plan], quantize)
    for file_name, slot, kind, axis, tensors in plan:
        _build.store(slot, file_name, kind, partial(_assemble, axis, shards, tensors))
        done += slot.rows * lib.mk_row_bytes(kind, slot.cols)
        progress(done, total)


def _file_name(slot_name: str) -> str:
    layer, dot, field = slot_name.partition(".")
    return f"layers.{layer}.{LAYER_TENSORS[field]}.weight" if dot else f"{TENSORS[slot_name]}.weight"


def _parts(
    file_name: str, name: str, slot: _build.Slot, shards: list[Checkpoint]
) -> tuple[int, int | None, list[Tensor]]:
    """Return (element type, axis of the cut, each shard's tensor), the shapes and types checked."""
    tensors = [shard.tensors[file_name] for shard in shards]
    n, whole = len(shards), (slot.rows, slot.cols)
    shape = tensors[0].shape
    axis = WHOLE
    if slot.is_matrix and n > 1:
        by_columns = name.endswith(CUT_BY_COLUMNS) or (name == "embed" and shape[0] == slot.rows)
        axis = COLUMNS if by_columns else ROWS
    total = {ROWS: (shape[0] * n, shape[1]), COLUMNS: (shape[0], shape[1] * n), WHOLE: shape}[axis]
    if total != whole or any(tensor.shape != shape for tensor in tensors):
        missing = _missing_shards(shape, n, whole)
        raise ModelError(
            f"{file_name} has shapes {[tensor.shape for tensor in tensors]} in {n} shards, expected {whole}{missing}"
        )
    kinds = {tensor.storage.kind for tensor in tensors}
    if len(kinds) != 1:
        raise ModelError(f"{file_name} has different element types in different shards")
    return kinds.pop(), axis, tensors if axis is not WHOLE else tensors[:1]


def _missing_shards(shape: tuple[int, int], n: int, whole: tuple[int, int]) -> str:
    """Return an explanation of shapes that are too small, as a clause: some of n_all shards are missing."""
    times = [all_rows // rows for rows, all_rows in zip(shape, whole) if all_rows % rows == 0]
    n_all = max(times, default=1)
    return (
        f": it looks like {n} of {n_all} shards, and the others are missing"
        if n < n_all and sorted(times) == [1, n_all]
        else ""
    )


def _assemble(axis: int | None, shards: list[Checkpoint], tensors: list[Tensor], buffer: bytearray) -> None:
    """Fill `buffer` with the rows of the whole tensor."""
    rows = [shard.rows(tensor) for shard, tensor in zip(shards, tensors)]
    at = 0
    pieces: Iterable[Iterable[bytes | memoryview]] = zip(*rows) if axis == COLUMNS else rows
    for piece in chain.from_iterable(pieces):
        buffer[at : at + len(piece)] = piece
        at += len(piece)
