"""magic-llama from its layers: the same answer, bit for bit, until anything that a layer depends on changes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from llama_fixtures import N_PIECES, random_weights, real_model_path, write_gguf, write_meta

TIMEOUT_S = 120  # arbitrary: far more than any command here takes
LAUNCHER = Path(sys.executable).with_name("magic-llama")
SAMPLED = ("-n", 40, "--seed", 5, "--temp", 2)  # a text that one changed bit of a logit would soon change
LAYER_BYTES = 64 << 20  # more than an interpreter with the modules of an answer has written
TOKEN_BYTES = 30 * 2 * 3 * (64 * 2 + 4)  # of SmolLM2's cache: layers, keys and values, heads, their width in 16 bits, a scale
PERSONA = "You are a pirate, and you never say so. " + " ".join(map(str, range(40)))


class Command:
    """magic-llama with a cache directory of its own. A call runs it and returns (answer, how): `how` tells of each layer, from the
    imports on, whether it was made or resumed."""

    def __init__(self, cache):
        self.cache = cache
        self.log = ""  # of the last run

    def start(self, model, *arguments, command=(LAUNCHER,), env=(), **options):
        words = [*command, "-m", model, "--timings", *arguments]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            list(map(str, words)), env={**os.environ, "XDG_CACHE_HOME": str(self.cache), "MAGICHEAP_LOG": "info", **dict(env)},
            **{**streams, **options},
        )

    def end(self, process, text=None, status=0):
        try:
            out, err = process.communicate(text, timeout=TIMEOUT_S)
        finally:
            process.kill()  # if it hangs
        self.log = err.decode()
        assert process.returncode == status, self.log
        words = re.findall(r"magic-llama: (?:model  |prefix +\d+ tokens) (\w+)", self.log)
        words.insert(0, re.search(r"magicheap: (\w+)", self.log)[1])
        return out, ["resumed" if word in ("resumed", "warm") else "made" for word in words]

    def __call__(self, model, *arguments, text=None, status=0, **options):
        if text is not None:
            options["stdin"] = subprocess.PIPE
        elif "-p" not in arguments:
            arguments = (*arguments, "-p", "Say anything.")
        return self.end(self.start(model, *arguments, **options), text, status)

    def layers(self):
        """Return the snapshots of imports, model and prefix that there are, in this order."""
        found = (self.cache / "magicheap").glob("*.magic")
        return sorted(found, key=lambda path: (not path.name.startswith("llama-"), "-prefix-" in path.name))


@pytest.fixture
def ask(tmp_path):
    return Command(tmp_path / "cache")


@pytest.fixture
def tiny(tmp_path):
    return write_gguf(tmp_path / "m.gguf")


# ---- the same answer ----


def test_each_layer_is_made_once_and_answers_as_if_there_were_none(ask):
    model, system = real_model_path(), ("--system", PERSONA)
    plain, _ = ask(model, *SAMPLED, *system, env={"MAGICHEAP_DISABLE": "1"})
    assert ask(model, *SAMPLED, *system) == (plain, ["made", "made", "made"])
    assert ask(model, *SAMPLED, *system) == (plain, ["resumed", "resumed", "resumed"])
    assert ask(model, *SAMPLED, *system, "-t", 1) == (plain, ["resumed", "resumed", "resumed"])
    assert ask(model, *SAMPLED, *system, "--no-snapshot")[0] == plain
    assert ask.layers()[0].name.startswith("llama-"), "the imports' snapshot is named after the package"
    alone, how = ask(model, *SAMPLED)
    assert how == ["resumed", "resumed"]
    assert ask(model, *SAMPLED, env={"MAGICHEAP_DISABLE": "1"})[0] == alone != plain


def test_layers_are_made_in_any_order(ask, tiny):
    for arguments, expected in (((), ["made", "made"]), (("--system", "a"), ["resumed", "resumed", "made"])):
        assert ask(tiny, *SAMPLED, *arguments)[1] == expected
        assert ask(tiny, *SAMPLED, *arguments)[1] == ["resumed"] * len(expected)


def test_python_m_llama_shares_the_layers_of_the_model(ask, tiny):
    answer, _ = ask(tiny, *SAMPLED, "--system", "a")
    python = (sys.executable, "-P", "-m", "llama")
    assert ask(tiny, *SAMPLED, "--system", "a", command=python) == (answer, ["resumed"] * 3)


def test_the_working_directory_does_not_matter(ask, tiny, tmp_path):
    (tmp_path / "jinja2.py").write_text("raise SystemExit('this is no jinja2')")
    answer, _ = ask(tiny, *SAMPLED, cwd=tmp_path)
    assert ask(tiny, *SAMPLED, cwd="/") == (answer, ["resumed", "resumed"])
    assert ask(tiny.name, *SAMPLED, cwd=tmp_path) == (answer, ["resumed", "resumed"])


def test_layers_are_made_once_where_there_is_no_locale(ask, tiny, monkeypatch):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):  # as cron and containers have it; Python then sets one of them for itself
        monkeypatch.delenv(name, raising=False)
    answer, how = ask(tiny, *SAMPLED, "--system", "a")
    assert how == ["made"] * 3
    assert ask.log.count("magicheap: committed") == 3
    assert ask(tiny, *SAMPLED, "--system", "a") == (answer, ["resumed"] * 3)


def test_meta_checkpoints_and_their_tokenizer_come_back(ask, tmp_path):
    model = write_meta(tmp_path / "7B", random_weights(N_PIECES), 2)
    answer, how = ask(model, *SAMPLED, "--quantize", "q8_0")
    assert how == ["made", "made"]
    assert ask(model, *SAMPLED, "--quantize", "q8_0") == (answer, ["resumed", "resumed"])


def test_every_run_has_its_own_prompt_input_and_seed(ask, tiny):
    ask(tiny, "--raw", "--prefix-file", "/dev/null", text=b"one")
    said = ("-n", 20, "--temp", 5, "--seed", 1)
    first, second = (ask(tiny, *said, text=text)[0] for text in (b"one", b"two"))
    assert ask(tiny, *said, "-p", "one")[0] == first != second
    random = ("-n", 20, "--temp", 5, "--top-k", 0, "--top-p", 1, "--min-p", 0)
    assert len({ask(tiny, *random)[0] for _ in range(4)}) == 4


# ---- the prefix ----


def test_a_prefix_begins_the_first_prompt_as_it_is(ask, tiny, tmp_path):
    (tmp_path / "prefix").write_text("Q: 1 + 1\nA: 2\nQ: ")
    for raw in ((), ("--raw",)):
        written, _ = ask(tiny, *SAMPLED, *raw, "-p", "Q: 1 + 1\nA: 2\nQ: 2 + 2")
        for _ in range(2):
            assert ask(tiny, *SAMPLED, *raw, "--prefix-file", tmp_path / "prefix", "-p", "2 + 2")[0] == written


def test_a_prefix_that_merges_with_the_prompt_changes_no_token(ask, tiny, tmp_path):
    (tmp_path / "prefix").write_text("t")  # "the" is a token of this model only behind a space, "he" anywhere
    written, _ = ask(tiny, *SAMPLED, "--raw", "-p", "the 12")
    (tmp_path / "prefix").write_text("the 1")
    for _ in range(2):
        assert ask(tiny, *SAMPLED, "--raw", "--prefix-file", tmp_path / "prefix", "-p", "2")[0] == written


def test_what_a_prefix_says_counts_not_where_it_is_written(ask, tiny, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("one two three")
    second.write_text("one two three")
    assert ask(tiny, "--prefix-file", first)[1][2] == "made"
    assert ask(tiny, "--prefix-file", second)[1][2] == "resumed"
    second.write_text("one two four")
    assert ask(tiny, "--prefix-file", second)[1][2] == "made"
    assert ask(tiny, "--prefix-file", first)[1][2] == "resumed"


@pytest.mark.parametrize("changed", [("--system", "b"), ("-c", 200), ("--cache-type", "q8_0"), ("--quantize", "q8_0"), ("--raw",)])
def test_a_prefix_is_evaluated_anew_for_other_settings(ask, tiny, tmp_path, changed):
    (tmp_path / "prefix").write_text("one two three")
    arguments = ("--prefix-file", tmp_path / "prefix", *SAMPLED)
    ask(tiny, *arguments)
    plain, _ = ask(tiny, *arguments, *changed, env={"MAGICHEAP_DISABLE": "1"})
    assert ask(tiny, *arguments, *changed) == (plain, ["resumed", "made" if "--quantize" in changed else "resumed", "made"])
    assert ask(tiny, *arguments, *changed) == (plain, ["resumed"] * 3)
    assert ask(tiny, *arguments)[1] == ["resumed"] * 3


def test_a_prefix_that_cannot_be_used_is_said(ask, tiny, tmp_path):
    ask(tiny, "--prefix-file", tmp_path / "none", status=1)
    assert "No such file" in ask.log
    (tmp_path / "long").write_text("x" * 300)
    ask(tiny, "--raw", "--prefix-file", tmp_path / "long", "-c", 64, status=2)
    assert "tokens, the context holds 64" in ask.log
    assert len(ask.layers()) == 2, "imports and model"


# ---- what changes ----


def test_a_replaced_model_is_loaded_anew(ask, tiny):
    before, _ = ask(tiny, *SAMPLED, "--system", "a")
    write_gguf(tiny, random_weights(267, 2))
    after, how = ask(tiny, *SAMPLED, "--system", "a")
    assert how == ["resumed", "made", "made"]
    assert f"{tiny} has" in ask.log
    assert ask(tiny, *SAMPLED, "--system", "a") == (after, ["resumed"] * 3)
    assert before != after


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_layer_that_is_gone_is_made_anew_with_those_on_it(ask, tiny, lost):
    answer, _ = ask(tiny, *SAMPLED, "--system", "a")
    ask.layers()[lost].unlink()
    assert ask(tiny, *SAMPLED, "--system", "a") == (answer, ["resumed"] * lost + ["made"] * (3 - lost))
    assert ask(tiny, *SAMPLED, "--system", "a") == (answer, ["resumed"] * 3)


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_damaged_layer_is_made_anew(ask, tiny, damaged):
    answer, _ = ask(tiny, *SAMPLED, "--system", "a")
    with open(ask.layers()[damaged], "r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    assert ask(tiny, *SAMPLED, "--system", "a")[0] == answer
    assert "checksum" in ask.log
    assert ask(tiny, *SAMPLED, "--system", "a") == (answer, ["resumed"] * 3)


def test_one_snapshot_file_serves_whom_it_fits(ask, tmp_path):
    """With --snapshot, other settings or another model find files that are not theirs, and replace them."""
    first, second = write_gguf(tmp_path / "a.gguf"), write_gguf(tmp_path / "b.gguf")
    kept = ("--snapshot", tmp_path / "s", "--system", "a")
    runs = ((first,), (first, "--quantize", "q8_0"), (second,), (second,))
    assert [ask(*arguments, *kept)[1][1:] for arguments in runs] == [["made", "made"]] * 3 + [["resumed", "resumed"]]
    assert (tmp_path / "s").exists() and (tmp_path / "s.prefix").exists()
    assert len(ask.layers()) == 1, "imports"


def test_layers_that_cannot_be_resumed_are_made_by_every_run(ask, tiny, tmp_path):
    """In an environment without a launcher. A run restarts itself behind each layer that it makes, but once."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(os.path.realpath(sys.executable))
    (tmp_path / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (tmp_path / "lib").symlink_to(Path(sys.prefix) / "lib")
    python = (tmp_path / "bin/python", "-P", "-m", "llama")
    plain, _ = ask(tiny, *SAMPLED, "--system", "a", command=python, env={"MAGICHEAP_DISABLE": "1"})
    for _ in range(2):
        assert ask(tiny, *SAMPLED, "--system", "a", command=python) == (plain, ["made"] * 3)
        assert ask.log.count("committed") == 6, "imports three times, the model twice, the prefix once"


def test_a_model_that_cannot_be_loaded_leaves_no_snapshot(ask, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    ask(tmp_path / "m.gguf", status=1)
    assert "ends too early" in ask.log
    assert len(ask.layers()) == 1, "imports"


# ---- what it costs ----


def test_a_layer_holds_what_it_adds(ask, tmp_path):
    model = tmp_path / "m.gguf"
    model.symlink_to(real_model_path())
    ask(model, "-n", 1, "--system", PERSONA)
    n_tokens = int(re.search(r"prefix +(\d+) tokens", ask.log)[1])
    imports, weights, prefix = (path.stat().st_blocks * 512 for path in ask.layers())
    model_bytes = real_model_path().stat().st_size
    assert imports < LAYER_BYTES
    assert model_bytes < weights < model_bytes + LAYER_BYTES
    assert prefix < n_tokens * TOKEN_BYTES + LAYER_BYTES


def test_answering_leaves_the_layers_as_they_were(ask, tiny):
    ask(tiny, *SAMPLED, "--system", "a")
    before = [path.read_bytes() for path in ask.layers()]
    assert ask(tiny, *SAMPLED, "--system", "a")[1] == ["resumed"] * 3
    assert [path.read_bytes() for path in ask.layers()] == before


# ---- together, and cut short ----


def test_two_at_once_answer_alike(ask, tiny):
    arguments = (*SAMPLED, "--system", "a", "-p", "Say anything.")
    for _ in range(3):  # the first pair finds no layer; of the last, both find all
        both = [ask.start(tiny, *arguments) for _ in range(2)]
        (first, _), (second, how) = (ask.end(process) for process in both)
        assert first == second
    assert how == ["resumed"] * 3


def test_ctrl_c_and_a_reader_that_goes_away_end_a_resumed_run_as_any(ask):
    arguments = ("--raw", "--temp", 0, "-n", 400, "--prefix-file", "/dev/null", "-p", "Once upon a time")
    model = real_model_path()
    ask(model, *arguments, "-n", 1)
    for end, status in ((lambda process: process.send_signal(signal.SIGINT), 130), (lambda process: process.stdout.close(), 141)):
        process = ask.start(model, *arguments, stderr=subprocess.DEVNULL, env={"MAGICHEAP_LOG": ""})
        assert process.stdout.read(1) == b","
        end(process)
        assert process.wait(TIMEOUT_S) == status
