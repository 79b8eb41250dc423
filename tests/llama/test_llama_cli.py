"""magic-llama as a shell runs it: what goes where, what joins what, and how it ends."""

import re
import signal
import subprocess

import pytest
from llama_command import ENVIRONMENT, command, found_in, own_cache, run  # noqa: F401
from llama_fixtures import real_model_path, write_gguf
from running import TIMEOUT_S, start


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of random weights: babbles at once, in tokens that are mostly single bytes."""
    return write_gguf(tmp_path_factory.mktemp("model") / "m.gguf")


def test_the_real_model_answers_and_nothing_else_is_printed():
    out, err = run(
        real_model_path(), "-p", "Name the capital of France and one thing to see there.", "--temp", 0, "-n", 32
    )
    assert out == b"The capital of France is Paris."
    assert err == ""


def test_raw_continues_where_a_chat_would_answer():
    model = real_model_path()
    out, _ = run(model, "-p", "1, 2, 3, 4,", "--raw", "--temp", 0, "-n", 6)
    assert out == b" 5, 6,"
    chatted, _ = run(model, "-p", "1, 2, 3, 4,", "--temp", 0, "-n", 6)
    assert chatted != out


def prompt_length(model, *arguments, **options):
    _, err = run(model, "-n", 1, "--timings", *arguments, **options)
    return int(found_in(err, r"prompt +(\d+) tokens"))


def test_bytes_that_are_not_text_are_replaced(tiny):
    assert prompt_length(tiny, "--raw", "-p", b"\xff".decode("utf-8", "surrogateescape")) == 3
    assert prompt_length(tiny, "--raw", input=b"a\xffb") == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no prompt: give one with -p, or pipe it in"),
        (("-p", ""), "no prompt: give one with -p, or pipe it in"),
        (("-",), "no prompt: give one with -p, or pipe it in"),
        (("hello",), "'hello' is no option: a prompt is given with -p"),
        (("-p", "hi", "-i"), "-i needs a terminal on stdin"),
        (("-p", "hi", "--raw", "--system", "be brief"), "--system needs a chat template"),
        (("-p", "hi", "-n", "-2"), "-2 is not between -1 and"),
        (("-p", "hi", "-c", "0"), "0 is not between 1 and"),
        (("-p", "hi", "--temp", "nan"), "nan is not a number between 0 and"),
        (("-p", "hi", "--top-p", "1.5"), "1.5 is not a number between 0 and 1"),
        (("-p", "hi", "--quantize", "q5_0"), "invalid choice: 'q5_0'"),
        (("-p", "hi", "--snapshot", "x", "--no-snapshot"), "not allowed with argument"),
        (("-p", "hi", "--nonsense"), "unrecognized arguments"),
    ],
)
def test_what_cannot_be_done_is_said_with_status_2(tiny, arguments, message):
    out, err = run(tiny, *arguments, status=2)
    assert message in err
    assert out == b""


@pytest.mark.parametrize("package", ["jinja2", "tokenizers"])
def test_a_package_of_the_extra_that_is_missing_is_named_with_what_installs_it(package, tmp_path):
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module named {package}', name='{package}')")
    env = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    out, err = run(real_model_path(), "-p", "hello", "-n", 1, status=1, env=env)
    assert out == b""
    assert err == f"magic-llama: this model needs {package}, not installed: pip install 'magicheap[llama]'\n"


def test_a_prompt_longer_than_the_context_is_refused_with_its_counts(tiny):
    out, err = run(tiny, "--raw", "-p", "x" * 33, "-c", 32, status=2)
    assert err == (
        "magic-llama: the prompt is 33 tokens, the context holds 32: shorten it or raise -c "
        "(the model was trained for 256)\n"
    )
    assert out == b""


@pytest.mark.parametrize("length", [31, 32])
def test_a_full_context_ends_the_answer(tiny, length):
    out, err = run(tiny, "--raw", "-p", "x" * length, "-c", 32, "--seed", 1, "--timings")
    assert re.search(rf"answer +{33 - length} tokens .*; the context is full\n", err)
    assert out


def test_an_answer_that_the_context_cuts_says_so(tiny):
    _, err = run(tiny, "--raw", "-p", "x", "-c", 16, "--seed", 1)
    assert err == "magic-llama: the answer is cut short: the context of 16 tokens is full; raise -c\n"
    assert run(tiny, "--raw", "-p", "x", "-c", 16, "--seed", 1, "-n", 15)[1] == "", "-n was reached"


def test_a_context_beyond_what_the_model_was_trained_for_is_named(tiny):
    _, err = run(tiny, "--raw", "-p", "x", "-c", 257, "-n", 1)
    assert err == (
        "magic-llama: -c 257 is more than the 256 tokens that the model was trained for: answers beyond "
        "these will be nonsense\n"
    )


def test_timings_say_why_the_answer_stopped(tiny):
    _, err = run(tiny, "--raw", "-p", "x", "-n", 3, "--seed", 1, "--timings")
    assert [line.split()[1] for line in err.splitlines()] == ["model", "prompt", "answer"]
    assert err.endswith("-n was reached\n")


def test_a_seed_fixes_the_answer(tiny):
    options = ("--raw", "-p", "x", "-n", 30, "--temp", 5, "--top-k", 0, "--top-p", 1, "--min-p", 0)
    first, second, other = (run(tiny, *options, "--seed", seed)[0] for seed in (1, 1, 2))
    assert first == second != other
    assert run(tiny, *options, "--seed", 1, "-t", 1)[0] == first
    assert run(tiny, *options)[0] != run(tiny, *options)[0], "without a seed each run differs"


def test_no_answer_wanted_is_no_answer(tiny):
    assert run(tiny, "-p", "x", "-n", 0) == (b"", "")


def test_what_cannot_be_read_is_status_1(tiny, tmp_path):
    for path, message in ((tmp_path / "none.gguf", "No such file"), (tmp_path, "params.json")):
        out, err = run(path, "-p", "hi", status=1)
        assert message in err
        assert err.startswith("magic-llama: ")
        assert len(err.splitlines()) == 1
        assert out == b""
    (tmp_path / "bad.gguf").write_bytes(tiny.read_bytes()[:5000])
    assert "ends too early" in run(tmp_path / "bad.gguf", "-p", "hi", status=1)[1]


def test_a_reader_that_goes_away_ends_it_quietly(tiny):
    words = command(tiny, "--raw", "-p", "x", "-n", 200, "--seed", 3)
    process = start(words, ENVIRONMENT, stdin=subprocess.DEVNULL, text=False)
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(TIMEOUT_S) == 141


def test_a_full_disk_is_said_once(tiny):
    with open("/dev/full", "wb") as full:
        _, err = run(tiny, "-p", "x", "-n", 5, "--seed", 1, stdout=full, status=1)
    assert err == "magic-llama: [Errno 28] No space left on device\n"


def test_ctrl_c_is_status_130_and_quiet():
    words = command(real_model_path(), "--raw", "-p", "Once upon a time", "--temp", 0)
    process = start(words, ENVIRONMENT, stdin=subprocess.DEVNULL, text=False)
    assert process.stdout.read(1) == b","
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (130, b"")


def test_help_tells_the_exit_statuses_and_version_the_version(tiny):
    out, _ = run(tiny, "--help")
    assert b"141  the reader of stdout went away" in out
    assert re.fullmatch(rb"magic-llama \d+\.\d+\.\d+\n", run(tiny, "--version")[0])
