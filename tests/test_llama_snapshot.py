"""magic-llama from a snapshot: the same answer, bit for bit, until anything it depends on changes."""

import os
import subprocess
import sys

import pytest
from llama_fixtures import N_PIECES, random_weights, real_model_path, write_gguf, write_meta

TIMEOUT_S = 120  # arbitrary: far more than any command here takes
SAMPLED = ("-n", 40, "--seed", 5, "--temp", 2)  # a text that one changed bit of a logit would soon change


def ask(model, *arguments, cache):
    """Run magic-llama with its snapshots below `cache`; return (answer, "loaded" or "mapped")."""
    command = [sys.executable, "-P", "-m", "llama._cli", "-m", model, "-p", "Say anything.", "--timings", *arguments]
    done = subprocess.run(
        [*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.decode().split()[2]


def test_a_warm_answer_is_the_cold_one(tmp_path):
    model = real_model_path()
    cold, warm, again = (ask(model, *SAMPLED, "--snapshot", tmp_path / "s", cache=tmp_path) for _ in range(3))
    plain = ask(model, *SAMPLED, "--no-snapshot", cache=tmp_path)
    assert [how for _, how in (cold, warm, again, plain)] == ["loaded", "mapped", "mapped", "loaded"]
    assert cold[0] == warm[0] == again[0] == plain[0]


def test_answering_leaves_the_snapshot_as_it_was(tmp_path):
    snapshot = tmp_path / "s"
    model = write_gguf(tmp_path / "m.gguf")
    ask(model, *SAMPLED, "--snapshot", snapshot, cache=tmp_path)
    before = snapshot.read_bytes()
    assert ask(model, *SAMPLED, "--snapshot", snapshot, cache=tmp_path)[1] == "mapped"
    assert snapshot.read_bytes() == before


def test_meta_checkpoints_and_their_tokenizer_come_back_warm(tmp_path):
    model = write_meta(tmp_path / "7B", random_weights(N_PIECES), 2)
    cold, warm = (ask(model, *SAMPLED, "--quantize", "q8_0", cache=tmp_path) for _ in range(2))
    assert (cold[1], warm[1]) == ("loaded", "mapped")
    assert cold[0] == warm[0]


def test_each_setting_has_a_snapshot_of_its_own(tmp_path):
    model = write_gguf(tmp_path / "m.gguf")
    for arguments in ((), ("--quantize", "q8_0"), ("--quantize", "q4_0")):
        assert ask(model, *arguments, "-n", 1, cache=tmp_path)[1] == "loaded"
    for arguments in ((), ("--quantize", "q8_0"), ("--quantize", "q4_0")):
        assert ask(model, *arguments, "-n", 1, cache=tmp_path)[1] == "mapped"
    assert len(list((tmp_path / "magicheap").glob("m-*.magic"))) == 3


def test_one_snapshot_file_serves_whom_it_fits(tmp_path):
    """With --snapshot, other settings or another model find a file that is not theirs, and replace it."""
    first, second = write_gguf(tmp_path / "a.gguf"), write_gguf(tmp_path / "b.gguf")
    kept = ("--snapshot", tmp_path / "s", "-n", 1)
    found = [ask(*arguments, *kept, cache=tmp_path)[1] for arguments in ((first,), (first, "--quantize", "q8_0"), (second,), (second,))]
    assert found == ["loaded", "loaded", "loaded", "mapped"]


def test_a_replaced_model_is_loaded_anew(tmp_path):
    path = tmp_path / "m.gguf"
    answers = []
    for seed in (1, 2):
        write_gguf(path, random_weights(267, seed))
        answers.append(ask(path, *SAMPLED, cache=tmp_path))
        assert ask(path, *SAMPLED, cache=tmp_path) == (answers[-1][0], "mapped")
    assert [how for _, how in answers] == ["loaded", "loaded"]
    assert answers[0][0] != answers[1][0]


def test_a_model_that_cannot_be_loaded_leaves_no_snapshot(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(AssertionError, match="ends too early"):
        ask(tmp_path / "m.gguf", cache=tmp_path)
    assert list((tmp_path / "magicheap").iterdir()) == []
