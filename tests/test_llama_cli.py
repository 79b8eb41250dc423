"""magic-llama as a shell runs it: what goes where, what joins what, and how it ends."""

import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from llama_fixtures import real_model_path, write_gguf

import llama

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # users buffer
TIMEOUT_S = 120  # arbitrary: far more than any command here takes, so that waiting for input is a failure


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    """Even --no-snapshot starts from one of the imports; these tests share it with nobody."""
    ENVIRONMENT["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of random weights: babbles at once, in tokens that are mostly single bytes."""
    return write_gguf(tmp_path_factory.mktemp("model") / "m.gguf")


def command(model, *arguments):
    snapshot = [] if "--snapshot" in arguments else ["--no-snapshot"]
    return [sys.executable, "-P", "-m", "llama", "-m", str(model), *snapshot, *map(str, arguments)]


def run(model, *arguments, status=0, **options):
    """Run the command to its end; return (stdout, stderr)."""
    streams = {"stdin": subprocess.DEVNULL} if "input" not in options else {}
    streams |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    done = subprocess.run(command(model, *arguments), timeout=TIMEOUT_S, **{**streams, **options})
    assert done.returncode == status, done.stderr
    return done.stdout, (done.stderr or b"").decode()


def test_the_real_model_answers_and_nothing_else_is_printed():
    out, err = run(real_model_path(), "-p", "Name the capital of France and one thing to see there.", "--temp", 0, "-n", 32)
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
    return int(re.search(r"prompt +(\d+) tokens", err)[1])


def test_stdin_is_joined_to_the_prompt_by_a_blank_line(tiny, tmp_path):
    joined = prompt_length(tiny, "--raw", "-p", "xx\n\nyyyy")
    assert joined == 8
    assert prompt_length(tiny, "--raw", "-p", "xx", input=b"yyyy\n") == joined
    (tmp_path / "in").write_text("yyyy")
    with open(tmp_path / "in") as file:
        assert prompt_length(tiny, "--raw", "-p", "xx", stdin=file) == joined


def test_either_of_prompt_and_stdin_is_enough(tiny):
    assert prompt_length(tiny, "--raw", input=b"yyyy\n") == 4
    assert prompt_length(tiny, "--raw", "-p", "xx", input=b"") == 2
    assert prompt_length(tiny, "--raw", "-p", "xx", stdin=subprocess.DEVNULL) == 2


def test_bytes_that_are_not_text_are_replaced(tiny):
    assert prompt_length(tiny, "--raw", "-p", b"\xff".decode("utf-8", "surrogateescape")) == 3
    assert prompt_length(tiny, "--raw", input=b"a\xffb") == 5


def test_a_terminal_on_stdin_is_not_waited_for(tiny):
    ours, theirs = pty.openpty()
    try:
        assert prompt_length(tiny, "--raw", "-p", "xx", stdin=theirs) == 2
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_closed_stdin_is_nothing(tiny):
    line = " ".join(["exec", *command(tiny, "--raw", "-p", "xx", "-n", 1), "<&-"])
    assert subprocess.run(["sh", "-c", line], capture_output=True, timeout=TIMEOUT_S).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no prompt: give one with -p, or pipe it in"),
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


def test_a_full_context_is_silent_unless_asked_about(tiny):
    _, err = run(tiny, "--raw", "-p", "x", "-c", 16, "--seed", 1)
    assert err == ""


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
    process = subprocess.Popen(
        command(tiny, "--raw", "-p", "x", "-n", 200, "--seed", 3),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )
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
    process = subprocess.Popen(
        command(real_model_path(), "--raw", "-p", "Once upon a time", "--temp", 0),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )
    assert process.stdout.read(1) == b","
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (130, b"")


def test_help_tells_the_exit_statuses_and_version_the_version(tiny):
    out, _ = run(tiny, "--help")
    assert b"141  whoever read stdout went away" in out
    assert re.fullmatch(rb"magic-llama \d+\.\d+\.\d+\n", run(tiny, "--version")[0])


class Terminal:
    """The command with a terminal as stdin; stdout and stderr are pipes."""

    def __init__(self, *arguments):
        self.screen, keyboard = pty.openpty()
        self.process = subprocess.Popen(
            command(real_model_path(), "-i", "--temp", 0, *arguments),
            stdin=keyboard, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, start_new_session=True,
        )
        os.close(keyboard)

    def type(self, text):
        os.write(self.screen, text.encode())

    def wait_for_prompt(self):
        """Read stderr up to the next prompt and return what came before it."""
        seen = b""
        deadline = time.monotonic() + TIMEOUT_S
        while not seen.endswith(b"> "):
            assert time.monotonic() < deadline
            byte = os.read(self.process.stderr.fileno(), 1)
            assert byte, f"ended without a prompt: {seen!r}"
            seen += byte
        return seen[:-2].decode()

    def end(self):
        """Close the terminal's input, return what was answered and the exit status."""
        self.type("\x04")
        out, _ = self.process.communicate(timeout=TIMEOUT_S)
        os.close(self.screen)
        return out.decode(), self.process.returncode


def test_a_chat_remembers_and_evaluates_only_what_is_new():
    terminal = Terminal("--timings")
    terminal.wait_for_prompt()
    terminal.type("My name is Bob. Say hello.\n")
    terminal.wait_for_prompt()
    terminal.type("What is my name?\n")
    evaluated = int(re.search(r"prompt +(\d+) tokens", terminal.wait_for_prompt())[1])
    out, status = terminal.end()
    assert status == 0
    assert "Bob" in out.splitlines()[-1]
    turn = "<|im_end|>\n<|im_start|>user\nWhat is my name?<|im_end|>\n<|im_start|>assistant\n"
    assert evaluated == n_tokens(turn)


def test_a_chat_that_outgrows_its_context_ends_with_its_counts():
    terminal = Terminal("--timings", "-c", 64)
    terminal.wait_for_prompt()
    terminal.type("Say hello.\n")
    first, answered = map(int, re.findall(r"(\d+) tokens", terminal.wait_for_prompt()))
    terminal.type("x" * 99 + "\n")
    _, err = terminal.process.communicate(timeout=TIMEOUT_S)
    os.close(terminal.screen)
    assert terminal.process.returncode == 2
    turn = f"<|im_end|>\n<|im_start|>user\n{'x' * 99}<|im_end|>\n<|im_start|>assistant\n"
    assert f"the prompt is {first + answered + n_tokens(turn)} tokens, the context holds 64:" in err.decode()


def test_a_raw_text_goes_on_with_what_is_typed():
    terminal = Terminal("--timings", "--raw", "-n", 8)
    terminal.wait_for_prompt()
    terminal.type("Once upon a time\n")
    terminal.wait_for_prompt()
    terminal.type(" The end.\n")
    evaluated = int(re.search(r"prompt +(\d+) tokens", terminal.wait_for_prompt())[1])
    terminal.end()
    assert evaluated == 1 + n_tokens(" The end."), "the eighth token of the answer was not evaluated yet"


def n_tokens(text):
    model = llama.load(real_model_path())
    try:
        return len(model.tokenizer.encode(text, special=True))
    finally:
        model.close()


def test_a_prefix_belongs_to_the_first_turn_only(tmp_path):
    (tmp_path / "prefix").write_text("My name is Bob. ")
    terminal = Terminal("--timings", "--prefix-file", tmp_path / "prefix", "-n", 4)
    assert "prefix " in terminal.wait_for_prompt()
    terminal.type("Say hello.\n")
    terminal.wait_for_prompt()
    terminal.type("Again.\n")
    evaluated = int(re.search(r"prompt +(\d+) tokens", terminal.wait_for_prompt())[1])
    terminal.end()
    turn = "<|im_end|>\n<|im_start|>user\nAgain.<|im_end|>\n<|im_start|>assistant\n"
    assert evaluated == 1 + n_tokens(turn), "the fourth token of the answer was not evaluated yet"


@pytest.mark.parametrize("way", ["without snapshot", "from a snapshot"])
def test_ctrl_c_ends_an_answer_but_not_the_chat(way, tmp_path):
    snapshot = ("--snapshot", tmp_path / "s") if way == "from a snapshot" else ()
    if snapshot:
        run(real_model_path(), "-p", "Hello", "-n", 1, *snapshot)
    terminal = Terminal(*snapshot)
    terminal.wait_for_prompt()
    terminal.type("Count from one to a thousand in words.\n")
    assert os.read(terminal.process.stdout.fileno(), 1)
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for_prompt()
    out, status = terminal.end()
    assert status == 0
