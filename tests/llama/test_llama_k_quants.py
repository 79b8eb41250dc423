"""K-quants (Q4_K, Q5_K, Q6_K) as llama.cpp writes them: each weight and the logits against the gguf package's reading.

The blocks are random in every bit but the scales, so that each position of each packed integer counts.
"""

import struct

import numpy as np
import pytest
from llama_fixtures import K_BLOCKS, byte_level_fields, random_k_blocks, tensor_shapes, write_gguf
from llama_oracle import Oracle, exact_activations

import llama
from llama._kernels import ffi, lib
from llama.families._llama import tensor_name
from llama.loaders._build import slots

KINDS = ("Q4_K", "Q5_K", "Q6_K")
MIXED = ("Q4_K", "Q6_K")  # in one product, as the queries and values of Q4_K_M are
TOKENS = [1, 200, 17, 42, 5, 265, 88, 3, 3, 261]
N_VOCAB = len(byte_level_fields()["tokenizer.ggml.tokens"])  # 267: rows that no tile divides

WIDE = {"dim": 512, "n_heads": 8, "n_kv_heads": 2, "ffn_dim": 768}
# few tensors fit K-quants; the rest is float32
ODD = {"dim": 256, "n_heads": 3, "n_kv_heads": 1, "head_dim": 10, "ffn_dim": 261}

GROUP = 32  # weights that share the scales they are packed with
# Of the largest weight in the group. Q4_K becomes Q4_1: its scale and its minimum are rounded to halves, each by 2^-11,
# and the largest is at least a third of what they span. The others become Q8_0: half a step of 1/127, and a scale
# rounded to a half.
WEIGHT_BOUNDS = {"Q4_K": 3 * 2**-11, "Q5_K": 0.5 / 127 + 2**-11, "Q6_K": 0.5 / 127 + 2**-11, "F32": 0}
TINY = 127 * 2**-25  # what a scale below 2^-14, a half without all its bits, may add
SUM_BOUND = 2e-5  # of the largest logit: float32 sums in another order made 5e-6
# of the largest logit: these weights, random, make 0.07 of all that is rounded; a tensor misread makes 1
LOGIT_BOUND = 0.15


def weights(shape, kinds, seed=5):
    """Return a model's weights for write_gguf: matrices in turn of `kinds` where their rows allow it."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, (*rows, cols) in tensor_shapes(N_VOCAB, **shape).items():
        if not rows:
            made[name] = rng.normal(1, 0.1, cols).astype(np.float32)
        elif cols % 256:
            made[name] = rng.normal(0, 0.06, (*rows, cols)).astype(np.float32)
        else:
            kind = kinds[len(made) % len(kinds)]
            made[name] = kind, random_k_blocks(kind, (*rows, cols), rng)
    return made


def write(path, shape, made):
    """Write them; blocks become the rows of bytes that the gguf package wants."""
    head_dim = shape.get("head_dim", shape["dim"] // shape["n_heads"])
    return write_gguf(
        path,
        {name: (w[0], w[1].view(np.uint8)) if isinstance(w, tuple) else w for name, w in made.items()},
        llama__embedding_length=shape["dim"],
        llama__feed_forward_length=shape["ffn_dim"],
        llama__attention__head_count=shape["n_heads"],
        llama__attention__head_count_kv=shape["n_kv_heads"],
        llama__attention__key_length=head_dim,
        llama__attention__value_length=head_dim,
    )


def matrices(model):
    """Yield (GGUF name, mk_tensor *) of all matrices that the model has."""
    for name, (tensor, _, _, is_matrix) in slots(model.pointer).items():
        if is_matrix:
            yield tensor_name(name), tensor


def dequantised(tensor):
    rows = np.full((tensor.rows, tensor.cols), np.nan, np.float32)
    for i, row in enumerate(rows):
        assert lib.mk_dequantize_row(tensor, i, ffi.from_buffer("float[]", row)) == lib.MK_OK
    return rows


@pytest.fixture
def exact_products():
    """Let weights meet float32 activations, not such as are rounded to 8 bits."""
    with exact_activations():
        yield


shapes = pytest.mark.parametrize("shape", [WIDE, ODD], ids=["wide", "odd"])
kinds = pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), MIXED], ids="-".join)


@shapes
@kinds
def test_every_weight_is_what_gguf_reads(tmp_path, shape, kinds):
    made = weights(shape, kinds)
    path = write(tmp_path / "m.gguf", shape, made)
    expected = Oracle.read(path).weights
    model = llama.load(path)
    for name, tensor in matrices(model):
        kind = made[name][0] if isinstance(made[name], tuple) else "F32"
        wanted = expected[name]
        off = abs(dequantised(tensor) - wanted)
        for first in range(0, tensor.cols, GROUP):
            group = np.s_[:, first : first + GROUP]
            most = WEIGHT_BOUNDS[kind] * abs(wanted[group]).max(axis=1) + (kind != "F32") * TINY
            assert (off[group].max(axis=1) <= most).all(), (name, first)
    model.close()


def largest_difference(model, oracle):
    """Return how far a logit is from the oracle's, as a part of the largest."""
    expected = oracle.logits(TOKENS)
    with llama.Session(model, n_ctx=len(TOKENS), cache_type="f32") as session:
        found = np.frombuffer(session.feed_all(TOKENS), np.float32).reshape(expected.shape)
    return abs(found - expected).max() / abs(expected).max()


@shapes
@kinds
def test_logits_are_near_those_of_the_weights_that_gguf_reads(tmp_path, shape, kinds):
    path = write(tmp_path / "m.gguf", shape, weights(shape, kinds))
    model = llama.load(path)
    assert largest_difference(model, Oracle.read(path)) <= LOGIT_BOUND
    model.close()


@shapes
@kinds
def test_logits_are_those_of_the_weights_as_packed(tmp_path, shape, kinds, exact_products):
    path = write(tmp_path / "m.gguf", shape, weights(shape, kinds))
    model = llama.load(path)
    oracle = Oracle.read(path)
    oracle.weights.update((name, dequantised(tensor)) for name, tensor in matrices(model))
    assert largest_difference(model, oracle) <= SUM_BOUND
    model.close()


def test_a_k_quant_is_not_quantised_again(tmp_path):
    path = write(tmp_path / "m.gguf", WIDE, weights(WIDE, ["Q4_K"]))
    with pytest.raises(llama.ModelError, match="is quantised already"):
        llama.load(path, quantize="q4_0")


# ---- damage ----


def load_and_use(path):
    """Load it, unless it is refused, and use it. Its logits may be unfit to pick a token from, and nothing else may
    happen."""
    try:
        model = llama.load(path)
    except llama.ModelError:
        return
    with llama.Session(model, n_ctx=8, n_threads=1) as session:
        session.feed([0, N_VOCAB - 1])
        try:
            assert 0 <= llama.Sampler(seed=1).pick(session) < N_VOCAB
        except ValueError:
            pass
    for _, tensor in matrices(model):
        dequantised(tensor)
    model.close()


def rescaled(kind, field, scale):
    """Return a model's weights, a few of whose blocks have another scale."""
    made = weights(WIDE, [kind])
    for name in ("blk.0.attn_q.weight", "blk.1.ffn_down.weight", "token_embd.weight", "output.weight"):
        made[name][1][field][::7, -1] = scale
    return made


scale_fields = [(kind, field) for kind in KINDS for field in ("d", "dmin") if field in (K_BLOCKS[kind].names or ())]
scales = pytest.mark.parametrize(("kind", "field"), scale_fields)


@scales
@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf], ids=str)
def test_a_scale_that_is_no_number_is_refused(tmp_path, kind, field, scale):
    with pytest.raises(llama.ModelError, match="holds a value that is not finite"):
        llama.load(write(tmp_path / "m.gguf", WIDE, rescaled(kind, field, scale)))


@scales
@pytest.mark.parametrize("scale", [65504, -65504, 6e-8, 0], ids=str)
def test_a_scale_that_no_model_has_does_no_harm(tmp_path, kind, field, scale):
    load_and_use(write(tmp_path / "m.gguf", WIDE, rescaled(kind, field, scale)))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_random_bytes_do_no_harm(tmp_path, kind):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        made = weights(ODD, [kind])
        for weight in made.values():
            if isinstance(weight, tuple) and rng.random() < 0.5:
                blocks = weight[1].view(np.uint8)
                blocks[:] = rng.integers(0, 256, blocks.shape)
        load_and_use(write(tmp_path / "m.gguf", ODD, made))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_cut_short_is_refused(tmp_path, kind):
    made = weights(ODD, [kind])
    last = made.pop("output.weight")
    path = write(tmp_path / "m.gguf", ODD, {**made, "output.weight": last})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    with pytest.raises(llama.ModelError, match="the file was cut short"):
        llama.load(path)


@pytest.mark.parametrize(("kind", "code"), [("Q4_K", 12), ("Q5_K", 13), ("Q6_K", 14)])
def test_rows_that_are_no_whole_blocks_are_refused(tmp_path, kind, code):
    """A matrix of float32 with rows of 64, said to be K-quants."""
    path = write_gguf(tmp_path / "m.gguf")
    described = b"output.weight" + struct.pack("<IQQI", 2, 64, N_VOCAB, 0)
    data = path.read_bytes()
    assert data.count(described) == 1
    path.write_bytes(data.replace(described, described[:-4] + struct.pack("<I", code)))
    with pytest.raises(llama.ModelError, match=f"has rows of 64 values, which {kind} cannot hold"):
        llama.load(path)
