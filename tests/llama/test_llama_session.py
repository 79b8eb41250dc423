"""Sessions, samplers, chats and handles: what they hold, and what they refuse."""

from pkgutil import iter_modules
from types import ModuleType

import numpy as np
import pytest
from llama_fixtures import CHAT_TEMPLATE, SIZES, byte_level_fields, random_weights, write_gguf
from llama_oracle import exact_activations

import llama
from llama._kernels import ffi, lib
from llama._native import check
from llama.command._options import UsageError

PROMPT = [1, 50, 60, 70, 80, 90]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("model") / "m.gguf", kind="Q4_0")


@pytest.fixture(scope="module")
def model(path):
    model = llama.load(path)
    yield model
    model.close()


@pytest.fixture
def session(model):
    with llama.Session(model, n_ctx=32) as session:
        yield session


def test_all_is_sorted_and_names_every_public_thing():
    public = {name for name in vars(llama) if not name.startswith("_")}
    folders = {name for name in public if isinstance(vars(llama)[name], ModuleType)}
    assert llama.__all__ == sorted(llama.__all__)
    assert public - folders == set(llama.__all__)
    assert all(module.name.startswith("_") for name in folders for module in iter_modules(vars(llama)[name].__path__))


def test_a_model_is_its_pointer(model):
    again = llama.Model(ffi.cast("void *", int(ffi.cast("uintptr_t", model.pointer))))
    assert again.pointer == model.pointer
    assert again.config.dim == SIZES["dim"]
    assert again.chat_template == CHAT_TEMPLATE


def test_every_status_of_the_kernels_becomes_its_own_exception():
    statuses = [name for name in dir(lib) if name.startswith("MK_ERR_")]
    expected = {MemoryError, ValueError, llama.ContextError, llama.ModelError}
    kinds = set()
    for name in statuses:
        with pytest.raises(tuple(expected)) as raised:
            check(getattr(lib, name))
        kinds.add(raised.type)
    assert kinds == expected and len(statuses) == len(expected)
    check(lib.MK_OK)


def test_errors_of_llama_have_one_base():
    for error in (llama.ModelError, llama.ContextError, UsageError):
        assert issubclass(error, llama.LlamaError)
    assert llama.LlamaError.__bases__ == (Exception,)


def test_a_null_pointer_is_no_model():
    with pytest.raises(ValueError, match="NULL pointer"):
        llama.Model(ffi.NULL)


def test_closing_twice_is_harmless_and_use_after_it_an_error(path):
    model = llama.load(path)
    model.close()
    model.close()
    with pytest.raises(ValueError, match="the model is closed"):
        _ = model.config
    assert repr(model) == "<llama.Model closed>"


def test_a_closed_session_refuses_to_work(model):
    session = llama.Session(model, n_ctx=8)
    session.close()
    session.close()
    with pytest.raises(ValueError, match="the session is closed"):
        session.feed([1])


def test_a_prompt_in_pieces_gives_the_same_bits(model):
    rng = np.random.default_rng(3)
    prompt = rng.integers(0, model.config.n_vocab, 200).tolist()
    found = []
    for pieces in ([200], [1] * 200, [7, 128, 65]):
        with llama.Session(model, n_ctx=200) as session:
            at = 0
            for n in pieces:
                session.feed(prompt[at : at + n])
                at += n
            found.append(bytes(session.logits))
    assert found[0] == found[1] == found[2]


def test_feeding_all_gives_the_scores_after_each_token(model):
    prompt = np.random.default_rng(4).integers(0, model.config.n_vocab, 140).tolist()
    with llama.Session(model, n_ctx=140) as session:
        expected = b""
        for token in prompt:
            session.feed([token])
            expected += bytes(session.logits)
    with llama.Session(model, n_ctx=140) as session:
        session.feed(prompt[:5])
        assert bytes(session.feed_all(prompt[5:])) == expected[5 * len(session.logits) :]
        assert session.tokens == prompt
        assert bytes(session.logits) == expected[-len(session.logits) :]


def test_feeding_all_of_too_much_changes_nothing(session):
    session.feed(PROMPT)
    before = bytes(session.logits)
    with pytest.raises(llama.ContextError, match="raise n_ctx"):
        session.feed_all([1] * 27)
    assert session.tokens == PROMPT
    assert bytes(session.logits) == before
    assert len(session.feed_all([])) == 0


def test_feeding_too_much_changes_nothing(session):
    session.feed(PROMPT)
    before = bytes(session.logits)
    with pytest.raises(llama.ContextError, match="raise n_ctx"):
        session.feed([1] * 27)
    assert session.tokens == PROMPT
    assert bytes(session.logits) == before


@pytest.mark.parametrize("token", [-1, 267])
def test_a_token_that_does_not_exist_is_refused(session, token):
    with pytest.raises(ValueError, match="token"):
        session.feed([token])


def test_a_cache_type_that_does_not_exist_is_refused(model):
    with pytest.raises(ValueError, match="cache_type is 'q4_0', expected one of i16, q8_0, f32"):
        llama.Session(model, cache_type="q4_0")


def test_cache_types_differ_by_their_rounding(model):
    def logits(cache_type):
        with llama.Session(model, n_ctx=200, cache_type=cache_type) as session, exact_activations():
            session.feed(list(range(3, 153)))
            return np.frombuffer(session.logits, np.float32).copy()

    exact = logits("f32")
    size = np.abs(exact).max()
    for cache_type, bound in (("i16", 1e-3), ("q8_0", 2e-2)):  # arbitrary, a few times what is observed
        assert 0 < np.abs(logits(cache_type) - exact).max() < bound * size


def test_no_more_threads_start_than_there_are_cpus_for(model):
    for wanted, started in ((None, lib.mk_cpu_count()), (1, 1), (1000, lib.mk_cpu_count())):
        with llama.Session(model, n_ctx=8, n_threads=wanted) as session:
            session.feed(PROMPT)
            assert lib.mk_pool_threads(session._pool) == started


def test_a_context_of_no_length_is_refused(model):
    with pytest.raises(ValueError, match="shape, type, token or position"):
        llama.Session(model, n_ctx=0)


def test_rewinding_keeps_what_is_shared(session):
    session.feed(PROMPT)
    assert session.rewind_to([1, 50, 60, 5, 6]) == [5, 6]
    session.feed([5, 6])
    found = bytes(session.logits)
    assert session.rewind_to([1, 50, 60, 5, 6]) == [6], "the last token is evaluated again, for its logits"
    session.feed([6])
    assert bytes(session.logits) == found
    assert session.rewind_to([9, 9]) == [9, 9]


def test_generation_stops_at_its_limit(session):
    session.feed(PROMPT)
    assert len(list(session.generate(llama.Sampler(seed=1), limit=4))) == 4
    assert session.stop_reason == "length"


def test_generation_stops_where_the_context_is_full(session):
    session.feed(PROMPT)
    answer = list(session.generate(llama.Sampler(seed=1)))
    assert session.stop_reason == "context"
    assert len(PROMPT) + len(answer) == session.n_ctx + 1, "the last token needs no place"


def test_generation_stops_at_an_end_token(tmp_path):
    weights = random_weights(len(byte_level_fields()["tokenizer.ggml.tokens"]))
    weights["output.weight"][:] = 0
    weights["output.weight"][2] = 1 + abs(weights["output.weight"][2])
    weights["output_norm.weight"][:] = 1
    weights["token_embd.weight"][:] = abs(weights["token_embd.weight"])
    model = llama.load(write_gguf(tmp_path / "m.gguf", {**weights, **zero_layers(weights)}))
    with llama.Session(model, n_ctx=8) as session:
        session.feed([5])
        assert list(session.generate(llama.Sampler(temperature=0))) == []
        assert session.stop_reason == "end"
    model.close()


def zero_layers(weights):
    return {name: weight * 0 for name, weight in weights.items() if "attn_output" in name or "ffn_down" in name}


def test_a_seed_fixes_the_text_and_another_changes_it(model):
    def sample(seed):
        with llama.Session(model, n_ctx=64) as session:
            session.feed(PROMPT)
            return list(
                session.generate(llama.Sampler(seed=seed, temperature=5.0, top_k=0, top_p=1.0, min_p=0.0), limit=40)
            )

    assert sample(7) == sample(7)
    assert sample(7) != sample(8)


def test_a_state_that_is_handed_over_goes_on_as_its_own_would(model):
    with llama.Session(model, n_ctx=100) as first, llama.Session(model, n_ctx=100) as second:
        first.feed(PROMPT * 12)
        state = memoryview(bytearray(first.state_bytes))
        first.save_state(state)
        with pytest.raises(ValueError, match="shape, type, token or position"):
            second.load_state(PROMPT * 12, state[:-1])
        assert second.tokens == []
        second.load_state(PROMPT * 12, state)
        assert second.tokens == PROMPT * 12
        for session in (first, second):
            session.feed(session.rewind_to([*PROMPT * 11, 7, 8]))
        assert bytes(first.logits) == bytes(second.logits)
