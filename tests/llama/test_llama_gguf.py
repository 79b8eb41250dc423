"""GGUF files: every type against the oracle, and refusals that say what was found and what was expected."""

import os

import gguf
import numpy as np
import pytest
from llama_fixtures import byte_level_fields, random_weights, rounded, write_gguf
from llama_oracle import Oracle, exact_activations

import llama

TOKENS = [1, 200, 17, 42, 5, 265, 88, 3, 3, 261]
BOUND = 2e-4  # largest difference of a logit; they span about 60 here, and float32 sums differ by up to 3e-5
KINDS = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0")
N_VOCAB = len(byte_level_fields()["tokenizer.ggml.tokens"])


@pytest.fixture(scope="module")
def weights():
    return random_weights(N_VOCAB)


def logits(path, **options):
    """Return the engine's logits after all of TOKENS."""
    model = llama.load(path, **options)
    with llama.Session(model, n_threads=1, cache_type="f32") as session, exact_activations():
        session.feed(TOKENS)
        found = np.frombuffer(session.logits, np.float32).copy()
    model.close()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_every_type_equal_the_oracles(tmp_path, weights, kind):
    path = write_gguf(tmp_path / "m.gguf", weights, kind)
    assert np.abs(logits(path) - Oracle.read(path).logits(TOKENS)[-1]).max() < BOUND


@pytest.mark.parametrize("source", ["F32", "F16", "BF16"])
def test_float_matrices_are_quantised_at_load(tmp_path, weights, source):
    found = logits(write_gguf(tmp_path / "m.gguf", weights, source), quantize="q4_1")
    expected = logits(write_gguf(tmp_path / "q.gguf", rounded(weights, source), "Q4_1"))
    assert np.array_equal(found, expected)


def test_quantising_twice_is_refused(tmp_path, weights):
    path = write_gguf(tmp_path / "m.gguf", weights, "Q8_0")
    with pytest.raises(llama.ModelError, match="is quantised already"):
        llama.load(path, quantize="q4_0")


def test_a_head_without_weights_of_its_own_is_the_embedding(tmp_path, weights):
    tied = {name: weight for name, weight in weights.items() if name != "output.weight"}
    path = write_gguf(tmp_path / "m.gguf", tied)
    assert np.abs(logits(path) - Oracle.read(path).logits(TOKENS)[-1]).max() < BOUND


def test_rope_frequency_divisors_are_used(tmp_path, weights):
    scaled = {**weights, "rope_freqs.weight": np.linspace(1, 8, 8, dtype=np.float32)}
    path = write_gguf(tmp_path / "m.gguf", scaled)
    assert np.abs(logits(path) - Oracle.read(path).logits(TOKENS)[-1]).max() < BOUND
    assert not np.allclose(logits(path), logits(write_gguf(tmp_path / "plain.gguf", weights)))


def test_progress_reaches_the_total(tmp_path, weights):
    seen = []
    llama.load(write_gguf(tmp_path / "m.gguf", weights), progress=lambda *counts: seen.append(counts)).close()
    assert seen == sorted(seen)
    assert seen[-1] == (sum(w.nbytes for w in weights.values()),) * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "qwen2"}, "architecture 'qwen2': this engine runs 'llama'"),
        ({"kind": "Q5_0"}, "has type Q5_0: this engine reads F32, F16"),
        ({"llama__block_count": None}, "has no llama.block_count"),
        ({"llama__block_count": 3}, "tensor 'blk.2"),
        ({"llama__block_count": 1}, "tensor 'blk.1.attn_k.weight' is none of a LLaMA model's"),
        ({"llama__block_count": 2**31}, "layers, but only"),
        ({"llama__block_count": "2"}, "llama.block_count is a text, expected a whole number"),
        ({"llama__embedding_length": 96}, r"dimensions \[64, 267\], expected \[96, 267\]"),
        ({"llama__attention__head_count": 0}, "n_heads is 0"),
        ({"llama__attention__head_count_kv": 3}, "cannot share"),
        ({"llama__attention__layer_norm_rms_epsilon": float("inf")}, "norm_eps is inf"),
        ({"llama__rope__freq_base": -1.0}, "rope_theta is -1"),
        (
            {"llama__rope__scaling__type": "yarn"},
            "llama.rope.scaling.type is 'yarn': this engine does 'linear' and 'none'",
        ),
        ({"llama__rope__scaling__type": "yarn", "llama__rope__scaling__factor": 1.0}, "scaling.type is 'yarn'"),
        ({"llama__rope__scaling__factor": -2.0}, "scaling.factor is -2.0, expected a positive number"),
        ({"llama__rope__scaling__factor": float("nan")}, "scaling.factor is nan"),
        (
            {"llama__rope__scaling__attn_factor": 1.5},
            "llama.rope.scaling.attn_factor is 1.5: this engine does not do that",
        ),
        ({"llama__attention__causal": False}, "llama.attention.causal is False"),
        ({"llama__attention__scale": 0.5}, "llama.attention.scale is 0.5"),
        ({"llama__attention__sliding_window": 4096}, "llama.attention.sliding_window is 4096"),
        ({"llama__attention__clamp_kqv": 8.0}, "llama.attention.clamp_kqv is 8.0"),
        ({"llama__logit_scale": 0.5}, "llama.logit_scale is 0.5"),
        ({"llama__something__else": "blue"}, "llama.something.else is 'blue'"),
        ({"llama__something__else": [0, 3]}, r"llama.something.else is \[0, 3\]"),
        ({"llama__attention__head_count_kv": [1, 2]}, "head_count_kv differs from layer to layer"),
        ({"general__type": "adapter"}, "of type 'adapter', not a model"),
        ({"split__count": 3, "split__no": 1}, "part 2 of a GGUF that was split into 3: join them"),
        ({"llama__expert_count": 8}, "llama.expert_count is 8"),
        ({"tokenizer__ggml__model": "bert"}, "tokenizer 'bert'"),
        ({"tokenizer__ggml__pre": "qwen2"}, "pre-tokenizer 'qwen2': this engine knows default, gpt-2, smollm"),
        ({"tokenizer__ggml__pre": None}, "pre-tokenizer ''"),
        ({"tokenizer__ggml__token_type": [1, 1]}, "267 tokens, 2 kinds"),
        ({"tokenizer__ggml__token_type": [9] * N_VOCAB}, "kind is none of GGUF's six"),
        ({"tokenizer__ggml__merges": ["a b c"]}, "merge 'a b c' is not 'left right'"),
        ({"tokenizer__ggml__merges": ["nowhere here"]}, "takes or makes 'nowhere', which is no token"),
        ({"tokenizer__ggml__eos_token_id": N_VOCAB}, f"eos_id is {N_VOCAB}, but there are {N_VOCAB} tokens"),
    ],
)
def test_what_the_engine_does_not_do_is_refused(tmp_path, weights, changes, message):
    path = write_gguf(tmp_path / "m.gguf", weights, **changes)
    with pytest.raises(llama.ModelError, match=message) as raised:
        llama.load(path)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize(
    "changes",
    [
        {"llama__attention__head_count_kv": [2, 2], "llama__attention__head_count": [4, 4]},
        {"tokenizer__ggml__unknown_token_id": 2**32 - 1},
        {"tokenizer__ggml__merges": [*byte_level_fields()["tokenizer.ggml.merges"], "h e"]},
        {
            "llama__expert_count": 0,
            "llama__attention__causal": True,
            "llama__logit_scale": 1.0,
            "llama__attention__sliding_window": 0,
        },
        {"llama__rope__scaling__type": "none", "llama__rope__scaling__factor": 4.0},
        {
            "llama__rope__scaling__type": "linear",
            "llama__rope__scaling__factor": 1.0,
            "llama__rope__scaling__finetuned": False,
        },
        {
            "llama__vocab_size": 300,
            "llama__tensor_data_layout": "Meta AI original pth",
            "general__type": "model",
            "split__count": 1,
        },
        {"llama__something__else": 0, "llama__another": "none", "llama__more": [0, 0]},
    ],
)
def test_what_changes_nothing_is_taken(tmp_path, weights, changes):
    plain = logits(write_gguf(tmp_path / "plain.gguf", weights))
    assert np.array_equal(logits(write_gguf(tmp_path / "m.gguf", weights, **changes)), plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"llama__rope__scale_linear": 4.0},
        {"llama__rope__scaling__factor": 4.0},
        {"llama__rope__scaling__factor": 4.0, "llama__rope__scale_linear": 2.0, "llama__rope__scaling__type": "linear"},
    ],
)
@pytest.mark.parametrize("divisors", [False, True])
def test_linear_scaling_divides_positions(tmp_path, weights, changes, divisors):
    """By whatever key; with divisors of the file's own, both count."""
    own = {"rope_freqs.weight": np.linspace(1, 8, 8, dtype=np.float32)} if divisors else {}
    all_in_divisors = {**weights, "rope_freqs.weight": 4 * own.get("rope_freqs.weight", np.ones(8, np.float32))}
    path = write_gguf(tmp_path / "divisors.gguf", all_in_divisors)
    found = logits(write_gguf(tmp_path / "m.gguf", {**weights, **own}, **changes))
    assert np.array_equal(found, logits(path))
    assert np.abs(found - Oracle.read(path).logits(TOKENS)[-1]).max() < BOUND
    assert not np.allclose(found, logits(write_gguf(tmp_path / "plain.gguf", weights)))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q8_0", "vector"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(tmp_path, weights, kind, value):
    name = "output_norm.weight" if kind == "vector" else "blk.1.ffn_up.weight"
    kind = "F32" if kind == "vector" else kind
    damaged = weights[name].copy()
    damaged.flat[40] = value
    if kind.startswith("Q"):  # whose scale, a half, comes first
        rows = gguf.quants.quantize(weights[name], gguf.GGMLQuantizationType[kind])
        rows[0, :2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)
        damaged = kind, rows
    path = write_gguf(tmp_path / "m.gguf", {**weights, name: damaged}, kind)
    with pytest.raises(llama.ModelError, match=f"{name} holds a value that is not finite: the file is damaged"):
        llama.load(path)


def test_scores_that_no_token_can_be_drawn_from_are_an_error_of_the_model(tmp_path, weights):
    """Each weight is a number, but their products are not."""
    large = {
        "output.weight": weights["output.weight"] * np.float32(1e38),
        "output_norm.weight": weights["output_norm.weight"] * np.float32(1e3),
    }
    path = write_gguf(tmp_path / "m.gguf", {**weights, **large})
    model = llama.load(path)
    with llama.Session(model) as session:
        session.feed(TOKENS)
        for temperature in (0, 1):
            with pytest.raises(llama.ModelError, match="scores of the next token are not finite"):
                llama.Sampler(temperature=temperature).pick(session)
    model.close()


@pytest.mark.parametrize("kind", [1, 3, 4, 5])
@pytest.mark.parametrize("name", ["<|im_end|>", "<|eot_id|>", "<end_of_turn>"])
def test_an_end_of_turn_is_known_by_its_name_whatever_its_kind(tmp_path, kind, name):
    fields = byte_level_fields()
    tokens = [name if token == "<|im_end|>" else token for token in fields["tokenizer.ggml.tokens"]]
    kinds = [3, 3, kind, *fields["tokenizer.ggml.token_type"][3:]]
    changes = {"tokens": tokens, "token_type": kinds, "eos_token_id": 0}
    model = llama.load(
        write_gguf(tmp_path / "m.gguf", **{f"tokenizer__ggml__{key}": value for key, value in changes.items()})
    )
    tokenizer = model.tokenizer
    assert tokenizer.end_ids == {0, 2}
    assert tokenizer.encode(name, special=True) == [2]
    assert tokenizer.encode(name) != [2], "a user can't end a turn"
    assert tokenizer.decode([2]) == ""
    model.close()


def test_a_tensor_too_many_is_refused(tmp_path, weights):
    path = write_gguf(tmp_path / "m.gguf", {**weights, "blk.0.attn_q.bias": np.ones(64, np.float32)})
    with pytest.raises(llama.ModelError, match=r"tensor 'blk\.0\.attn_q\.bias' is none of a LLaMA model's"):
        llama.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not a GGUF file \(it is empty\)"),
        (b"GGUF", "ends too early"),
        (b"not a model", "not a GGUF file: expected it to begin with 'GGUF'"),
        (b"GGUF" + bytes(20), "GGUF version 0"),
        (b"GGUF\0\0\0\3" + bytes(16), "big-endian"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\3\4" + bytes(40), "zip archive, perhaps a PyTorch checkpoint"),
        (b"tjgg" + bytes(40), "GGJT"),
        (bytes.fromhex("4000000000000000") + b'{"a": 1}', "safetensors file: convert a Hugging Face model"),
        (b"<!DOCTYPE html>", "a web page"),
    ],
)
def test_a_file_that_is_no_gguf_is_named(tmp_path, content, message):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(llama.ModelError, match=message):
        llama.load(path)


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(llama.ModelError, match="neither a file nor a directory"):
            llama.load(path)


def test_a_missing_file_is_the_kernels_own_error(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        llama.load(tmp_path / "none.gguf")
    assert raised.value.filename == str(tmp_path / "none.gguf")


def test_an_unknown_quantisation_is_the_callers_mistake(tmp_path):
    with pytest.raises(ValueError, match="quantize is 'q5_0', expected one of q8_0"):
        llama.load(tmp_path, quantize="q5_0")
