"""Checkpoints in Meta's layout: every shard rule, element type and quantisation against the oracle; refusals."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from llama_fixtures import (
    N_PIECES,
    SIZES,
    elements,
    meta_name,
    pickled,
    random_weights,
    rounded,
    text,
    write_meta,
    write_pth,
)
from llama_oracle import Oracle, exact_activations

import llama
from llama.loaders._unpickle import Checkpoint

TOKENS = [1, 300, 17, 42, 5, 319, 88, 3, 3, 261]
BOUND = 2e-4  # largest difference of a logit; they span about 60 here, and float32 sums differ by up to 3e-5
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@pytest.fixture(scope="module")
def weights():
    return random_weights(N_PIECES)


def logits(path, **options):
    """Return the engine's logits after each of TOKENS."""
    model = llama.load(path, **options)
    with llama.Session(model, n_threads=1, cache_type="f32") as session, exact_activations():
        found = []
        for token in TOKENS:
            session.feed([token])
            found.append(np.frombuffer(session.logits, np.float32).copy())
    model.close()
    return np.array(found)


def expected(weights):
    sizes = {key: value for key, value in SIZES.items() if key not in ("n_layers", "dim")}
    return Oracle(weights, **sizes).logits(TOKENS)


@pytest.mark.parametrize("embed_axis", [0, 1])
@pytest.mark.parametrize("n_shards", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_equal_the_oracles(tmp_path, weights, dtype, n_shards, embed_axis):
    write_meta(tmp_path, weights, n_shards, dtype, embed_axis)
    kept = {
        name: rounded({name: w.reshape(1, -1)}, DTYPES[dtype])[name].reshape(w.shape) for name, w in weights.items()
    }
    assert np.abs(logits(tmp_path) - expected(kept)).max() < BOUND


@pytest.mark.parametrize("n_shards", [1, 2])
@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "q4_1"])
def test_quantising_at_load_equals_the_oracle_of_quantised_weights(tmp_path, weights, kind, n_shards):
    write_meta(tmp_path, weights, n_shards)
    assert np.abs(logits(tmp_path, quantize=kind) - expected(rounded(weights, kind.upper()))).max() < BOUND


def test_what_torch_itself_saved_is_read():
    """torch 2.13 wrote it: an OrderedDict with _metadata, three dtypes, two views of one storage."""
    checkpoint = Checkpoint(Path(__file__).parent / "data/torch_saved.pth")
    found = {name: b"".join(checkpoint.rows(tensor)) for name, tensor in checkpoint.tensors.items()}
    checkpoint.close()
    whole = ramp(24).reshape(4, 6)
    assert found == {
        "weight": elements(ramp(12), "float32"),
        "norm": elements(ramp(5), "float32"),
        "half": elements(ramp(6), "float16"),
        "left": elements(whole[:, :3], "bfloat16"),
        "right": elements(whole[:, 3:], "bfloat16"),
    }
    assert checkpoint.tensors["right"].shape == (4, 3)


def ramp(n):
    return ((np.arange(n) - n / 2) * 0.25).astype(np.float32)


def test_the_vocabulary_is_the_tokenizers(tmp_path, weights):
    model = llama.load(write_meta(tmp_path, weights))
    tokenizer = model.tokenizer
    assert tokenizer.bos_id == 1
    assert tokenizer.end_ids == {2}
    ids = tokenizer.encode("the quick fox, 語", bos=True)
    assert ids[0] == 1
    assert tokenizer.decode(ids) == "the quick fox, 語"
    model.close()


def test_a_tokenizer_one_directory_up_is_found(tmp_path, weights):
    write_meta(tmp_path / "7B", weights)
    (tmp_path / "7B/tokenizer.model").rename(tmp_path / "tokenizer.model")
    llama.load(tmp_path / "7B").close()


def test_a_tensor_that_is_part_of_a_larger_storage_is_found(tmp_path, weights):
    write_meta(tmp_path, weights)
    plain = logits(tmp_path)
    tensors = {meta_name(name): weight for name, weight in weights.items()}
    view = {"offset": 8, "shape": (320, 64), "strides": (80, 1), "n_items": 320 * 80}
    program = pickled(tensors, views={"tok_embeddings.weight": view})
    wide = np.full((320, 80), np.nan, np.float32)
    wide[:, 8:72] = tensors["tok_embeddings.weight"]
    write_pth(tmp_path / "consolidated.00.pth", {**tensors, "tok_embeddings.weight": wide}, program=program)
    assert np.array_equal(logits(tmp_path), plain)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dim": 128}, "expected"),
        ({"n_layers": 3}, "layers.2"),
        ({"n_heads": 0}, "n_heads is 0"),
        ({"n_heads": "4"}, "n_heads is '4'"),
        ({"vocab_size": 32000}, "vocab_size 32000"),
        ({"norm_eps": float("nan")}, "norm_eps"),
        ({"multiple_of": 0}, "ffn_dim is 0"),
        ({"n_kv_heads": 3}, "cannot share"),
        ({"n_layers": 2**40}, "layers"),
        ({"use_scaled_rope": True}, "scaled RoPE"),
        ({"sliding_window": 4096}, "has 'sliding_window'"),
        ({"moe": {"num_experts": 8}}, "has 'moe'"),
        ({"rope_scaling": {"factor": 8}}, "has 'rope_scaling'"),
        ({"hidden_dim": 256}, "expected"),
        ({"head_dim": 32}, "expected"),
    ],
)
def test_params_that_contradict_the_tensors_are_named(tmp_path, weights, params, message):
    write_meta(tmp_path, weights, **params)
    with pytest.raises(llama.ModelError, match=message):
        llama.load(tmp_path)


def test_params_that_say_nothing_about_the_model_are_left_alone(tmp_path, weights):
    neutral: dict[str, object] = {
        "max_batch_size": 32,
        "moe": None,
        "sliding_window": 0,
        "lora_args": {},
        "use_scaled_rope": False,
        "head_dim": 16,
        "hidden_dim": 192,
    }
    llama.load(write_meta(tmp_path, weights, **neutral)).close()


def test_a_missing_shard_is_named(tmp_path, weights):
    write_meta(tmp_path, weights, 2)
    (tmp_path / "consolidated.00.pth").unlink()
    with pytest.raises(llama.ModelError, match=r"1 shards: expected consolidated\.00\.pth"):
        llama.load(tmp_path)


def test_a_shard_too_few_is_named(tmp_path, weights):
    write_meta(tmp_path, weights, 2)
    (tmp_path / "consolidated.01.pth").unlink()
    with pytest.raises(
        llama.ModelError, match=r"in 1 shards, expected .*: it looks like 1 of 2 shards, and the others are missing"
    ):
        llama.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("IQ== 0\nIg== 1\n", "is tiktoken's, as of Llama 3"),
        ("IQ== 0\r\n", "is tiktoken's"),
        ("words\n", "no usable sentencepiece model"),
        ("", "model: it is empty"),
    ],
)
def test_a_tokenizer_that_is_not_sentencepiece_is_named(tmp_path, weights, content, message):
    write_meta(tmp_path, weights)
    (tmp_path / "tokenizer.model").write_text(content)
    with pytest.raises(llama.ModelError, match=message):
        llama.load(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("config.json", "model.safetensors"), "Hugging Face's layout"),
        (("model-00001-of-00002.safetensors",), "Hugging Face's layout"),
        (("m.gguf",), "but with m.gguf: give that file"),
    ],
)
def test_a_directory_of_another_layout_is_named(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(llama.ModelError, match=message):
        llama.load(tmp_path)


def test_a_file_that_is_alone_in_its_key_is_named(tmp_path, weights):
    write_meta(tmp_path, weights)
    write_pth(tmp_path / "consolidated.00.pth", {}, program=b"\x80\x02}(" + text("model") + b"}u.")
    with pytest.raises(
        llama.ModelError, match="has no tensors but model: save the dict of tensors that is in it by itself"
    ):
        llama.load(tmp_path)


def test_an_empty_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"params\.json"):
        llama.load(tmp_path)


def test_gguf_types_are_those_of_the_kernels():
    from llama._kernels import lib

    for kind in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"):
        assert getattr(lib, f"MK_{kind}") == gguf.GGMLQuantizationType[kind]
