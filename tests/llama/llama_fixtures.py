"""Models for the llama tests: the real SmolLM2, and random tiny ones written as each file format has it."""

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import gguf
import numpy as np
import sentencepiece

SIZES = {"n_layers": 2, "dim": 64, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5, "rope_theta": 10000.0}
FFN_DIM = 192  # what Meta's formula makes of dim 64 and multiple_of 64
META_NAMES = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.wq",
    "attn_k": "attention.wk",
    "attn_v": "attention.wv",
    "attn_output": "attention.wo",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "feed_forward.w1",
    "ffn_up": "feed_forward.w3",
    "ffn_down": "feed_forward.w2",
    "token_embd": "tok_embeddings",
    "output_norm": "norm",
    "output": "output",
}
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def real_model_path():
    """Return the path of SmolLM2-135M-Instruct Q4_1, which `make model` fetches."""
    default = Path(__file__).parents[2] / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
    path = Path(os.environ.get("MAGICHEAP_TEST_MODEL") or default)
    assert path.is_file(), f"{path} is missing: run `make model`"
    return path


def tensor_shapes(n_vocab, ffn_dim=FFN_DIM, head_dim=None, **changes):
    """Return {GGUF name: shape} of a model of SIZES, or of others, with a head of its own."""
    sizes = {**SIZES, **changes}
    dim, q_dim = sizes["dim"], sizes["n_heads"] * (head_dim or sizes["dim"] // sizes["n_heads"])
    kv_dim = q_dim * sizes["n_kv_heads"] // sizes["n_heads"]
    shapes = {"token_embd.weight": (n_vocab, dim), "output_norm.weight": (dim,), "output.weight": (n_vocab, dim)}
    for i in range(sizes["n_layers"]):
        for name, shape in {
            "attn_norm": (dim,),
            "attn_q": (q_dim, dim),
            "attn_k": (kv_dim, dim),
            "attn_v": (kv_dim, dim),
            "attn_output": (dim, q_dim),
            "ffn_norm": (dim,),
            "ffn_gate": (ffn_dim, dim),
            "ffn_up": (ffn_dim, dim),
            "ffn_down": (dim, ffn_dim),
        }.items():
            shapes[f"blk.{i}.{name}.weight"] = shape
    return shapes


def random_weights(n_vocab, seed=1):
    """Return float32 weights of a model of SIZES by their GGUF names, with a head of its own."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in tensor_shapes(n_vocab).items()}


def rounded(weights, kind):
    """Return weights as GGUF type `kind` keeps them: matrices rounded, vectors as they are."""
    kind = gguf.GGMLQuantizationType[kind]
    return {
        name: w if w.ndim == 1 else gguf.quants.dequantize(gguf.quants.quantize(w, kind), kind).astype(np.float32)
        for name, w in weights.items()
    }


# ---- GGUF ----

# Blocks of 256 weights, as ggml-common.h lays them out; what is left of each are packed small integers.
K_BLOCKS = {
    "Q4_K": np.dtype([("d", "<f2"), ("dmin", "<f2"), ("packed", "u1", 140)]),
    "Q5_K": np.dtype([("d", "<f2"), ("dmin", "<f2"), ("packed", "u1", 172)]),
    "Q6_K": np.dtype([("packed", "u1", 208), ("d", "<f2")]),
}
# sizes of d that make weights of about 0.06; the last is subnormal
K_STEPS = {"Q4_K": 2.5e-4, "Q5_K": 1.2e-4, "Q6_K": 5e-5}
K_CENTRES = {"Q4_K": 7.5, "Q5_K": 15.5}  # dmin / d that makes their mean 0


def random_k_blocks(kind, shape, rng):
    """Return K-quants of (rows, cols) weights, a row each: random in every bit but those of the scales, which are
    plausible."""
    blocks = np.empty((shape[0], shape[1] // 256), K_BLOCKS[kind])
    blocks["packed"] = rng.integers(0, 256, blocks["packed"].shape)
    blocks["d"] = K_STEPS[kind] * rng.uniform(0.5, 2, blocks.shape) * rng.choice([-1, 1], blocks.shape)
    if kind in K_CENTRES:
        blocks["dmin"] = K_CENTRES[kind] * blocks["d"]
    return blocks


def byte_alphabet():
    """Return the 256 characters that GPT-2 spells bytes with, by byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


def byte_level_fields():
    """Return the GGUF fields of a small byte-level vocabulary with three control tokens and a template."""
    pairs = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("e", "r"), ("in", "g"), ("1", "2"), ("Ċ", "Ċ")]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_alphabet(), *(a + b for a, b in pairs)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": [f"{a} {b}" for a, b in pairs],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def model_fields():
    return {
        "llama.block_count": SIZES["n_layers"],
        "llama.context_length": 256,
        "llama.embedding_length": SIZES["dim"],
        "llama.feed_forward_length": FFN_DIM,
        "llama.attention.head_count": SIZES["n_heads"],
        "llama.attention.head_count_kv": SIZES["n_kv_heads"],
        "llama.attention.layer_norm_rms_epsilon": SIZES["norm_eps"],
        "llama.rope.freq_base": SIZES["rope_theta"],
    }


def write_gguf(path, weights=None, kind="F32", arch="llama", **changes):
    """Write a GGUF file with the gguf package. changes: fields to set, with "__" for "."; None leaves one out.

    A weight may be a pair (its own kind, rows of what the file shall hold) instead of an array of float32.
    """
    fields = {**model_fields(), **byte_level_fields()}
    for key, value in changes.items():
        fields[key.replace("__", ".")] = value
    fields = {key: value for key, value in fields.items() if value is not None}
    weights = random_weights(len(fields.get("tokenizer.ggml.tokens", [0]))) if weights is None else weights
    writer = gguf.GGUFWriter(path, arch)
    for key, value in fields.items():
        inner = gguf.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
        writer.add_key_value(key, value, _value_type(value), inner)
    for name, weight in weights.items():
        if isinstance(weight, tuple):
            own, values = weight
        else:
            own = kind if weight.ndim == 2 else "F32"
            values = gguf.quants.quantize(weight, gguf.GGMLQuantizationType[own])
        writer.add_tensor(name, values, raw_dtype=gguf.GGMLQuantizationType[own])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _value_type(value):
    if isinstance(value, int) and not isinstance(value, bool):
        return gguf.GGUFValueType.UINT32
    return gguf.GGUFValueType.get_type(value)


# ---- Meta's layout ----


def sentencepiece_model():
    """Return a small sentencepiece BPE model as Llama's: byte fallback, identity normaliser, dummy prefix."""
    text = (
        "the quick brown fox jumps over the lazy dog and then there is nothing more to say about the weather in Paris"
    )
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split() * 4 + [text]),
        model_writer=out,
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return out.getvalue()


SENTENCEPIECE = sentencepiece_model()
N_PIECES = 320


def write_meta(path, weights, n_shards=1, dtype="float32", embed_axis=1, **params):
    """Write a directory in Meta's layout, each tensor cut by its rule."""
    path.mkdir(exist_ok=True)
    known = {**SIZES, "multiple_of": 64, "vocab_size": -1}
    (path / "params.json").write_text(json.dumps({**known, **params}))
    (path / "tokenizer.model").write_bytes(SENTENCEPIECE)
    for shard in range(n_shards):
        pieces = {meta_name(name): cut(name, w, shard, n_shards, embed_axis) for name, w in weights.items()}
        write_pth(path / f"consolidated.{shard:02}.pth", pieces, dtype)
    return path


def meta_name(name):
    parts = name.removesuffix(".weight").split(".")
    layer = f"layers.{parts[1]}." if parts[0] == "blk" else ""
    return f"{layer}{META_NAMES[parts[-1]]}.weight"


def cut(name, weight, shard, n_shards, embed_axis):
    if weight.ndim == 1:
        return weight
    by_columns = ("attn_output", "ffn_down", "token_embd")[: 2 + embed_axis]
    pieces = np.split(weight, n_shards, axis=int(any(part in name for part in by_columns)))
    return np.ascontiguousarray(pieces[shard])


TORCH = {"float32": ("FloatStorage", 4), "float16": ("HalfStorage", 2), "bfloat16": ("BFloat16Storage", 2)}


def elements(weight, dtype):
    """Return the bytes of an array as torch stores that type."""
    if dtype == "bfloat16":
        return gguf.quants.quantize(weight, gguf.GGMLQuantizationType.BF16).tobytes()
    return weight.astype(dtype).tobytes()


def write_pth(path, tensors, dtype="float32", program=None, byteorder="little"):
    """Write what torch.save writes for a dict of tensors. program: another pickle in place of the right one."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program or pickled(tensors, dtype))
        file.writestr("archive/byteorder", byteorder)
        for key, weight in enumerate(tensors.values()):
            file.writestr(f"archive/data/{key}", elements(weight, dtype))
        file.writestr("archive/version", "3\n")


def pickled(tensors, dtype="float32", views=()):
    """Return the pickle of {name: tensor}, opcode by opcode: torch itself is no dependency of these tests.

    views: for some names, what differs from a tensor with a storage of its own, as arguments of `tensor`.
    """
    views = dict(views)
    items = b"".join(
        text(name) + tensor(key, weight, dtype, **views.get(name, {}))
        for key, (name, weight) in enumerate(tensors.items())
    )
    return b"\x80\x02}(" + items + b"u."


def tensor(key, weight, dtype, offset=0, shape=None, strides=None, n_items=None):
    storage = b"(" + text("storage") + f"ctorch\n{TORCH[dtype][0]}\n".encode() + text(str(key)) + text("cpu")
    storage += integer(weight.size if n_items is None else n_items) + b"tQ"
    shape = weight.shape if shape is None else shape
    strides = [s // weight.itemsize for s in weight.strides] if strides is None else strides
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = storage + integer(offset) + integers(shape) + integers(strides) + b"\x89" + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def text(string):
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"
