"""Model files for the comparison: SmolLM2 as Q4_0, and one of LLaMA-7B's shape whose weights are random.

The shape is that of "LLaMA: Open and Efficient Foundation Language Models" (arXiv 2302.13971), table 2; the types are
those that llama.cpp's quantisation gives it: Q4_0, and Q6_K for the output. What such a model says is noise, but its
numbers stay those of a real one: each matrix keeps the size of what passes through it.

A file gets its name when it is complete.
"""

import itertools
import os
import string
import subprocess
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from llamacpp.build import say


class Shape(NamedTuple):
    n_layers: int
    dim: int
    ffn_dim: int
    n_heads: int
    n_vocab: int


LLAMA_7B = Shape(n_layers=32, dim=4096, ffn_dim=11008, n_heads=32, n_vocab=32000)
N_CONTEXT = 2048  # what LLaMA was trained for
# A block's bytes: scales first or last, then quants that are random bits. Standard deviation of a uniform quant.
Q4_0_DEVIATION = 16 / 12**0.5  # of 0..15, less 8
Q6_K_DEVIATION = 64 / 12**0.5  # of 0..63, less 32
Q6_K_SCALE = 64  # of sub-blocks: of their int8, so that the block's own stays a normal float16


def smollm2_q4_0(source: Path, target: Path, programs: Path) -> Path:
    """Return the file at `target`, made from `source` by llama.cpp's own quantisation: its best case for its kernels'
    speed."""
    if not target.exists():
        part = target.with_suffix(".part")
        command = [str(programs / "llama-quantize"), "--allow-requantize", str(source), str(part), "Q4_0"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.replace(part, target)
    return target


def random_model(target: Path, shape: Shape = LLAMA_7B) -> Path:
    """Return the file at `target`, made if it isn't there."""
    if not target.exists():
        say(f"making {target.name}, of random weights, once")
        part = target.with_suffix(".part")
        write(part, shape)
        os.replace(part, target)
    return target


def write(path: Path, shape: Shape) -> None:
    """Write a GGUF file of random weights, the same for the same shape."""
    rng = np.random.Generator(np.random.SFC64(1))
    writer = gguf.GGUFWriter(path, "llama")
    add_fields(writer, shape)
    tensors = list(list_tensors(shape))
    for name, kind, *dims in tensors:
        writer.add_tensor_info(name, dims, np.dtype(np.float32), n_bytes(kind, dims), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, kind, *dims in tensors:
        writer.write_tensor_data(BLOCKS[kind](rng, n_bytes(kind, dims), dims[-1]))
    writer.close()


def list_tensors(shape: Shape):
    """Yield name, type and dimensions (rows, columns) of each tensor."""
    dim, ffn_dim = shape.dim, shape.ffn_dim
    yield "token_embd.weight", Type.Q4_0, shape.n_vocab, dim
    yield "output_norm.weight", Type.F32, dim
    yield "output.weight", Type.Q6_K, shape.n_vocab, dim
    for i in range(shape.n_layers):
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{i}.{name}.weight", Type.F32, dim
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{i}.{name}.weight", Type.Q4_0, dim, dim
        for name in ("ffn_gate", "ffn_up"):
            yield f"blk.{i}.{name}.weight", Type.Q4_0, ffn_dim, dim
        yield f"blk.{i}.ffn_down.weight", Type.Q4_0, dim, ffn_dim


def n_bytes(kind: Type, dims: list[int]) -> int:
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(dims)) // block_values * block_bytes


# ---- weights: each function returns so many bytes of one type, for rows of n_columns ----


def ones(rng, size, n_columns):
    return np.ones(size // 4, np.float32)


def q4_0(rng, size, n_columns):
    blocks = random_bytes(rng, size).reshape(-1, 18)
    set_scales(rng, blocks[:, :2], n_columns**-0.5 / Q4_0_DEVIATION)
    return blocks


def q6_k(rng, size, n_columns):
    blocks = random_bytes(rng, size).reshape(-1, 210)  # 128 + 64 bytes of quants, 16 of scales, 2 of the scales' scale
    blocks[:, 192:208] = Q6_K_SCALE
    set_scales(rng, blocks[:, 208:], n_columns**-0.5 / Q6_K_DEVIATION / Q6_K_SCALE)
    return blocks


def set_scales(rng, places, mean):
    scales = mean * rng.uniform(0.5, 1.5, len(places))
    places[:] = scales.astype("<f2").view(np.uint8).reshape(-1, 2)


def random_bytes(rng, size):
    return rng.integers(0, 1 << 64, -(-size // 8), np.uint64).view(np.uint8)[:size]


BLOCKS = {Type.F32: ones, Type.Q4_0: q4_0, Type.Q6_K: q6_k}

# ---- everything else ----


def add_fields(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name(f"random weights, {shape.n_layers} layers of {shape.dim}")
    writer.add_block_count(shape.n_layers)
    writer.add_context_length(N_CONTEXT)
    writer.add_embedding_length(shape.dim)
    writer.add_feed_forward_length(shape.ffn_dim)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(shape.dim // shape.n_heads)
    writer.add_vocab_size(shape.n_vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    spellings, kinds = vocabulary(shape.n_vocab)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(spellings)
    writer.add_token_types(kinds)
    writer.add_token_scores([-float(i) for i in range(shape.n_vocab)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)


def vocabulary(n_vocab: int) -> tuple[list[str], list[int]]:
    """Return spellings and kinds as a sentencepiece model has them: control, bytes, then pieces made of pieces,
    shortest first."""
    kind = gguf.TokenType
    start = "\u2581"  # of a word
    control = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    raw = [(f"<0x{byte:02X}>", kind.BYTE) for byte in range(256)]
    letters = string.ascii_lowercase
    single = [*string.ascii_letters, *string.digits, *string.punctuation, start]
    words = (
        prefix + "".join(word)
        for n in itertools.count(1)
        for prefix in ("", start)
        for word in itertools.product(letters, repeat=n)
    )
    pieces = itertools.chain(single, (word for word in words if len(word) > 1))
    normal = [(piece, kind.NORMAL) for piece in itertools.islice(pieces, n_vocab - len(control) - len(raw))]
    spellings, kinds = zip(*control, *raw, *normal)
    return list(spellings), [int(each) for each in kinds]
