"""What the prompt is: the words of -p, and standard input where there are none or a - asks for it; and who is told of
waiting."""

import os
import pty
import re
import socket
import subprocess
import threading
import time

import pytest
from llama_command import ENVIRONMENT, command, found_in, own_cache, run  # noqa: F401
from llama_fixtures import write_gguf
from running import TIMEOUT_S

WAITING = b"magic-llama: waiting for the prompt on standard input"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of random weights, whose tokens are mostly single bytes."""
    return write_gguf(tmp_path_factory.mktemp("model") / "m.gguf")


def prompt_length(model, *arguments, **options):
    """Return the length of the prompt in tokens: with --raw and this model, in bytes."""
    _, err = run(model, "--raw", "-n", 1, "--timings", *arguments, **options)
    return int(found_in(err, r"prompt +(\d+) tokens"))


def start(model, *arguments, stdin, **options):
    words = command(model, "--raw", "-n", 1, *arguments)
    streams = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    return subprocess.Popen(words, **{**streams, **options})


def given(kind, text, tmp_path):
    """Return a descriptor from which this text is read."""
    if kind == "file":
        (tmp_path / "in").write_bytes(text)
        return os.open(tmp_path / "in", os.O_RDONLY)
    if kind == "socket":
        ours, theirs = socket.socketpair()
        ours.sendall(text)
        ours.close()
        return theirs.detach()
    reader, writer = os.pipe()
    os.write(writer, text)
    os.close(writer)
    return reader


KINDS = ("pipe", "file", "socket")


@pytest.mark.parametrize("kind", KINDS)
def test_standard_input_is_the_prompt_where_there_is_no_other(tiny, tmp_path, kind):
    for arguments in ((), ("-",), ("-p", "-")):
        stdin = given(kind, b"yyyy\n", tmp_path)
        assert prompt_length(tiny, *arguments, stdin=stdin) == 4
        os.close(stdin)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dash_joins_standard_input_to_the_prompt_by_a_blank_line(tiny, tmp_path, kind):
    assert prompt_length(tiny, "-p", "xx\n\nyyyy") == 8
    stdin = given(kind, b"yyyy\n", tmp_path)
    assert prompt_length(tiny, "-p", "xx", "-", stdin=stdin) == 8
    os.close(stdin)
    assert prompt_length(tiny, "-", "-p", "xx", stdin=subprocess.DEVNULL) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_prompt_standard_input_stays_whole_for_others(tiny, tmp_path, kind):
    stdin = given(kind, b"yyyy\n", tmp_path)
    assert prompt_length(tiny, "-p", "xx", stdin=stdin) == 2
    assert os.read(stdin, 100) == b"yyyy\n"
    os.close(stdin)


@pytest.mark.parametrize("source", ["done < lines", "cat lines | LOOP done"])
def test_a_shell_loop_loses_no_line(tiny, tmp_path, source):
    (tmp_path / "lines").write_text("a\nb\nc\n")
    loop = f'while read -r line; do echo "$line"; {" ".join(command(tiny))} --raw -p "$line" -n 0 || exit 9; '
    script = source.replace("LOOP", loop) if "LOOP" in source else loop + source
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\nb\nc\n", b"")


def test_an_empty_prompt_is_none_and_reads_nothing(tiny, tmp_path):
    stdin = given("pipe", b"yyyy\n", tmp_path)
    assert "no prompt" in run(tiny, "-p", "", stdin=stdin, status=2)[1]
    assert os.read(stdin, 100) == b"yyyy\n"
    os.close(stdin)


def test_a_pipe_that_nobody_closes_is_not_waited_for_where_there_is_a_prompt(tiny):
    reader, writer = os.pipe()
    assert prompt_length(tiny, "-p", "xx", stdin=reader) == 2
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_whoever_waits_for_standard_input_says_so(tiny, kind):
    ours, theirs = (
        pty.openpty()
        if kind == "terminal"
        else [end.detach() for end in socket.socketpair()]
        if kind == "socket"
        else os.pipe()[::-1]
    )
    process = start(tiny, "-", stdin=theirs)
    os.close(theirs)
    assert process.stderr.readline().startswith(WAITING)
    os.write(ours, b"yyyy\n" + (b"\x04" if kind == "terminal" else b""))
    if kind == "terminal":
        assert process.wait(TIMEOUT_S) == 0
    os.close(ours)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, b"")
    assert out


def test_a_writer_that_begins_at_once_is_not_told_of(tiny):
    process = start(tiny, stdin=subprocess.PIPE)
    _, err = process.communicate(b"yyyy", timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, b"")


def test_a_pipe_that_does_not_block_is_read_to_its_end(tiny):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    process = start(tiny, "--timings", stdin=reader)
    os.write(writer, b"yy")
    time.sleep(0.2)
    os.write(writer, b"yy")
    os.close(writer)
    _, err = process.communicate(timeout=TIMEOUT_S)
    os.close(reader)
    assert process.returncode == 0, err
    assert re.search(rb"prompt +4 tokens", err)


def test_input_without_end_is_refused_as_soon_as_it_cannot_fit(tiny):
    process = start(tiny, stdin=subprocess.PIPE)

    def write():
        try:
            while True:
                process.stdin.write(b"y" * 4096)
        except OSError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    assert process.wait(TIMEOUT_S) == 2
    err = process.stderr.read()
    writer.join()
    assert re.search(rb"standard input holds more than \d+ bytes, which no context of this size can hold", err)
    for stream in (process.stdout, process.stderr):
        stream.close()


@pytest.mark.parametrize("text", [b"a" * 2_000_000, b"ab " * 700_000, " \u00e9".encode() * 500_000])
def test_a_prompt_that_cannot_fit_is_refused_before_it_becomes_tokens(tiny, tmp_path, text):
    (tmp_path / "prefix").write_bytes(text)
    _, err = run(tiny, "--raw", "-p", "x", "--prefix-file", tmp_path / "prefix", status=2)
    assert "longer than" in err
    stdin = given("file", text, tmp_path)
    assert "more than" in run(tiny, stdin=stdin, status=2)[1]
    os.close(stdin)


def test_a_pipe_that_is_ignored_is_named_at_a_terminal(tiny, tmp_path):
    ours, theirs = pty.openpty()
    stdin = given("pipe", b"yyyy\n", tmp_path)
    process = start(tiny, "-p", "xx", stdin=stdin, stderr=theirs)
    assert process.wait(TIMEOUT_S) == 0
    process.stdout.close()
    assert b"standard input is not read where there is a -p: end with a -" in os.read(ours, 1000)
    for descriptor in (ours, theirs, stdin):
        os.close(descriptor)


def test_a_closed_stdin_is_nothing(tiny):
    words = command(tiny, "--raw", "-n", 1)
    for more, status in ("-p xx", 0), ("", 2), ("-", 2), ("-p xx -", 2):
        line = " ".join(["exec", *words, more, "<&-"])
        done = subprocess.run(["sh", "-c", line], capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT_S)
        assert done.returncode == status
        assert b"Traceback" not in done.stderr


def test_a_terminal_on_stdin_is_not_waited_for(tiny):
    ours, theirs = pty.openpty()
    try:
        assert prompt_length(tiny, "-p", "xx", stdin=theirs) == 2
        assert "no prompt" in run(tiny, stdin=theirs, status=2)[1]
        assert "leave out the -" in run(tiny, "-i", "-", stdin=theirs, status=2)[1]
    finally:
        os.close(ours)
        os.close(theirs)
