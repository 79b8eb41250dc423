"""GGUF files: every type against the oracle, and refusals that say what was found and what was expected."""

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
        ({"kind": "Q5_0"}, "GGUF type 6: this engine reads F32, F16"),
        ({"llama__block_count": None}, "has no llama.block_count"),
        ({"llama__block_count": 3}, "tensor 'blk.2"),
        ({"llama__block_count": 1}, "tensor 'blk.1.attn_k.weight' is none of a LLaMA model's"),
        ({"llama__block_count": 2**31}, "layers, but only"),
        ({"llama__block_count": "2"}, "llama.block_count is a bytes, expected int"),
        ({"llama__embedding_length": 96}, r"dimensions \[64, 267\], expected \[96, 267\]"),
        ({"llama__attention__head_count": 0}, "n_heads is 0"),
        ({"llama__attention__head_count_kv": 3}, "cannot share"),
        ({"llama__attention__layer_norm_rms_epsilon": float("inf")}, "norm_eps is inf"),
        ({"llama__rope__freq_base": -1.0}, "rope_theta is -1"),
        ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type is b'yarn'"),
        ({"llama__expert_count": 8}, "llama.expert_count is 8"),
        ({"tokenizer__ggml__model": "bert"}, "tokenizer 'bert'"),
        ({"tokenizer__ggml__pre": "qwen2"}, "pre-tokenizer 'qwen2': this engine knows default, gpt-2, smollm"),
        ({"tokenizer__ggml__pre": None}, "pre-tokenizer ''"),
        ({"tokenizer__ggml__token_type": [1, 1]}, "267 tokens, 2 kinds"),
        ({"tokenizer__ggml__token_type": [9] * N_VOCAB}, "kind is none of GGUF's six"),
        ({"tokenizer__ggml__merges": ["a b c"]}, "merge b'a b c' is not 'left right'"),
        ({"tokenizer__ggml__merges": ["nowhere here"]}, "takes or makes b'nowhere', which is no token"),
        ({"tokenizer__ggml__merges": ["h e", "h e"]}, "a merge is listed twice"),
        ({"tokenizer__ggml__eos_token_id": N_VOCAB}, f"eos_id is {N_VOCAB}, but there are {N_VOCAB} tokens"),
    ],
)
def test_what_the_engine_does_not_do_is_refused(tmp_path, weights, changes, message):
    path = write_gguf(tmp_path / "m.gguf", weights, **changes)
    with pytest.raises(llama.ModelError, match=message) as raised:
        llama.load(path)
    assert str(raised.value).startswith(str(path))


def test_a_tensor_too_many_is_refused(tmp_path, weights):
    path = write_gguf(tmp_path / "m.gguf", {**weights, "blk.0.attn_q.bias": np.ones(64, np.float32)})
    with pytest.raises(llama.ModelError, match="tensor 'blk.0.attn_q.bias' is none of a LLaMA model's"):
        llama.load(path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model", b"GGUF" + bytes(20), b"GGUF\0\0\0\3" + bytes(16)])
def test_a_file_that_is_no_gguf_is_named(tmp_path, content):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(llama.ModelError, match="GGUF|ends too early"):
        llama.load(path)


def test_a_missing_file_is_the_kernels_own_error(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        llama.load(tmp_path / "none.gguf")
    assert raised.value.filename == str(tmp_path / "none.gguf")


def test_an_unknown_quantisation_is_the_callers_mistake(tmp_path):
    with pytest.raises(ValueError, match="quantize is 'q5_0', expected one of q8_0"):
        llama.load(tmp_path, quantize="q5_0")
