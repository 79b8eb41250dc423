"""llama as a library in a heap transaction: a mapped model is the loaded one, bit for bit, until the file changes."""

import pytest
from llama_fixtures import N_PIECES, random_weights, real_model_path, write_gguf, write_meta

PROGRAM = """
    import sys
    import llama
    from magicheap import magic_transaction

    with magic_transaction("s.magic", process=False) as magic:
        if not magic.was_committed:
            magic.root = llama.load(sys.argv[1], quantize=sys.argv[2] if sys.argv[2:] else None).pointer
    model = llama.Model(magic.root)
    with llama.Session(model) as session:
        session.feed(model.tokenizer.encode("Say anything.", bos=True))
        answer = list(session.generate(llama.Sampler(seed=5, temperature=2), 40))
    print(magic.was_committed, *answer)
"""


@pytest.fixture
def ask(program):
    """Run the program; return (whether it was warm, the tokens it sampled: one changed bit of a logit would soon change
    them)."""
    wanted = program(PROGRAM)

    def ask(*arguments):
        was_committed, *answer = wanted(*arguments)
        return was_committed == "True", answer

    return ask


def test_a_mapped_model_answers_as_the_loaded_one(ask):
    model = real_model_path()
    (was_cold, cold), (was_warm, warm), (_, again) = (ask(model) for _ in range(3))
    assert (was_cold, was_warm) == (False, True)
    assert cold == warm == again


def test_meta_checkpoints_and_their_tokenizer_come_back_warm(ask, tmp_path):
    model = write_meta(tmp_path / "7B", random_weights(N_PIECES), 2)
    (was_cold, cold), (was_warm, warm) = (ask(model, "q8_0") for _ in range(2))
    assert (was_cold, was_warm) == (False, True)
    assert cold == warm


def test_answering_leaves_the_snapshot_as_it_was(ask, tmp_path):
    model = write_gguf(tmp_path / "m.gguf")
    ask(model)
    before = (tmp_path / "s.magic").read_bytes()
    assert ask(model)[0]
    assert (tmp_path / "s.magic").read_bytes() == before


def test_a_replaced_model_is_loaded_anew(ask, tmp_path):
    path = tmp_path / "m.gguf"
    answers = []
    for seed in (1, 2):
        write_gguf(path, random_weights(267, seed))
        was_committed, answer = ask(path)
        assert not was_committed
        assert ask(path) == (True, answer)
        answers.append(answer)
    assert answers[0] != answers[1]
