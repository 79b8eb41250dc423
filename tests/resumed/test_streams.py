"""Standard streams of a resumed process are those of a plain one, whatever they were at the commit.

A fork stands for the resume: its child has other descriptors than the parent had when the objects were made.
"""

import json
import os
import subprocess
import sys

import pytest
from descriptors import Descriptors

TIMEOUT_S = 60  # arbitrary: far more than it takes

REPORT = r"""
import json, os, sys

def attempt(function):
    try:
        return function()
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"

def layer(stream, names):
    found = {name: getattr(stream, name, "missing") for name in names.split()}
    for name in "isatty seekable readable writable fileno tell".split():
        found[name] = attempt(getattr(stream, name))
    return {**found, "type": type(stream).__name__, "size": sys.getsizeof(stream)}

def describe(stream):
    if stream is None:
        return None
    text = layer(stream, "name mode encoding errors line_buffering write_through newlines closed")
    buffer = layer(stream.buffer, "name mode closed")
    raw = layer(getattr(stream.buffer, "raw", stream.buffer), "name mode closed closefd _blksize")
    return text, buffer, raw, repr(stream)

def report(path):
    found = [describe(getattr(sys, name)) for name in "stdin stdout stderr __stdin__ __stdout__ __stderr__".split()]
    with open(path, "w") as file:
        json.dump(found, file)
"""

# argv: path of the report, then the three descriptors to become 0, 1, 2; "-" for one that is to be closed
RESUME = r"""
def resume(kept, new):
    from magicheap import _streams
    for fd, other in enumerate(new):
        os.closerange(fd, fd + 1) if other == "-" else os.dup2(int(other), fd)
    for other in new:
        if other != "-":
            os.close(int(other))
    _streams.take_up(kept)

def commit():
    from magicheap import _streams
    kept = _streams.prepare()
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(status)
    resume(kept, sys.argv[2:5])
"""


def run(source, arguments, descriptors, more=(), flags=(), env=()):
    """Run `source` with exactly these descriptors; `more` are inherited besides."""
    command = [sys.executable, "-P", *flags, "-c", source, *map(str, arguments)]
    environ = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "PYTHONIOENCODING")
    }
    status = subprocess.call(
        command, pass_fds=more, env={**environ, **dict(env)}, timeout=TIMEOUT_S, **descriptors.options(),
    )  # fmt: skip
    assert status == 0


def plain_and_resumed(tmp_path, committed, resumed, body="", **options):
    """Return what a plain interpreter reports with descriptors `resumed`, and what one does that was committed with
    others."""
    reports = tmp_path / "plain", tmp_path / "resumed"
    with Descriptors(tmp_path, resumed) as new:
        run(f"{REPORT}{body}\nreport(sys.argv[1])", [reports[0]], new, **options)
    with Descriptors(tmp_path, resumed) as new, Descriptors(tmp_path, committed) as old:
        numbers = ["-" if fd is None else fd for fd in new.given]
        more = [fd for fd in new.given if fd is not None]
        run(f"{REPORT}{RESUME}{body}\ncommit()\nreport(sys.argv[1])", [reports[1], *numbers], old, more, **options)
    return [json.loads(report.read_text()) for report in reports]


KINDS = ["terminal", "pipe", "file", "append", "null", "read only", "closed"]
COMMITTED = [("terminal",) * 3, ("pipe",) * 3, ("pipe", "closed", "closed"), ("closed", "file", "null")]
RESUMED = [(kind,) * 3 for kind in KINDS] + [
    ("terminal", "pipe", "terminal"),
    ("null", "terminal", "file"),
    ("closed", "pipe", "pipe"),
]


@pytest.mark.parametrize("resumed", RESUMED, ids=" ".join)
@pytest.mark.parametrize("committed", COMMITTED, ids=" ".join)
def test_every_attribute_is_that_of_a_plain_interpreter(tmp_path, committed, resumed):
    plain, found = plain_and_resumed(tmp_path, committed, resumed)
    assert found == plain


@pytest.mark.parametrize("resumed", ["terminal", "pipe", "closed"])
@pytest.mark.parametrize(
    ("flags", "env"), [(["-u"], {}), ([], {"PYTHONIOENCODING": "latin-1:replace"}), (["-X", "utf8"], {})]
)
def test_options_and_variables_of_the_interpreter_count(tmp_path, resumed, flags, env):
    plain, found = plain_and_resumed(tmp_path, ("pipe", "pipe", "closed"), (resumed,) * 3, flags=flags, env=env)
    assert found == plain


@pytest.mark.parametrize("committed", ["terminal", "pipe"])
@pytest.mark.parametrize("resumed", ["terminal", "pipe"])
def test_what_the_program_reconfigured_stays(tmp_path, committed, resumed):
    body = """
sys.stdout.reconfigure(encoding="ascii", errors="replace", line_buffering=not sys.stdout.line_buffering)
sys.stderr.reconfigure(line_buffering=False)
"""
    plain, found = plain_and_resumed(tmp_path, (committed,) * 3, (committed,) * 3, body)
    assert found == plain
    _, found = plain_and_resumed(tmp_path, (committed,) * 3, (resumed,) * 3, body)
    assert (found[1][0]["encoding"], found[1][0]["errors"], found[1][0]["line_buffering"]) == (
        "ascii",
        "replace",
        committed == "pipe",
    )
    assert not found[2][0]["line_buffering"]


SCRIPT = f"import os, sys\n{RESUME}"


def written(tmp_path, body, stdin=b"", committed=("pipe", "pipe", "pipe")):
    """Run `body` in a process whose resumed child has a file as stdout and stderr; return what the child wrote
    there."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(stdin)
    with Descriptors(tmp_path, committed) as old, source.open("rb") as new_in, target.open("wb") as new_out:
        new = [new_in.fileno(), new_out.fileno(), os.dup(new_out.fileno())]
        if committed[0] == "pipe":
            os.write(old.own[0], b"old first\nold second\n")
        run(f"{SCRIPT}\n{body}", ["report", *new], old, new)
        os.close(new[2])
    return target.read_text()


def test_output_from_before_the_commit_is_not_written_again(tmp_path):
    body = "sys.stdout.write('before '); sys.stderr.write('before '); commit(); print('after')"
    assert written(tmp_path, body) == "after\n"


def test_output_that_could_not_be_flushed_is_not_written_again(tmp_path):
    body = """
sys.stdout.write('before')
os.set_blocking(1, False)
try:
    while os.write(1, bytes(4096)): pass
except BlockingIOError: pass
commit(); print('after')"""
    assert written(tmp_path, body) == "after\n"


def test_output_that_could_not_be_flushed_is_not_written_to_another_pipe(tmp_path):
    body = """
read, write = os.pipe()
os.dup2(write, 1)
os.set_blocking(1, False)
try:
    while os.write(1, bytes(4096)): pass
except BlockingIOError: pass
sys.stdout.write('before ')
from magicheap import _streams
kept = _streams.prepare()
while len(os.read(read, 1 << 20)) == 1 << 20: pass
_streams.take_up(kept)
print('after', flush=True)
sys.stderr.write(os.read(read, 99).decode())"""
    with Descriptors(tmp_path, ("pipe",) * 3) as pipes:
        run(f"{SCRIPT}\n{body}", [], pipes)
        assert os.read(pipes.own[2], 99) == b"after\n"


def test_output_of_the_c_library_is_not_written_again(tmp_path):
    body = """
import ctypes
libc = ctypes.CDLL(None)
libc.printf(b'before '); commit(); libc.printf(b'after')"""
    assert written(tmp_path, body) == "after"


def test_input_that_the_c_library_had_read_is_dropped(tmp_path):
    body = """
import ctypes
libc = ctypes.CDLL(None)
libc.getchar(); commit(); libc.printf(b'%c', libc.getchar()); libc.fflush(None)"""
    assert written(tmp_path, body, b"new") == "n"


@pytest.mark.parametrize("committed", ["terminal", "pipe"])
def test_the_c_library_buffers_output_to_a_file(tmp_path, committed):
    body = """
import ctypes
libc = ctypes.CDLL(None)
libc.printf(b'before\\n'); commit(); libc.printf(b'line\\n'); os.write(1, b'first ')"""
    assert written(tmp_path, body, committed=(committed,) * 3) == "first line\n"


def test_input_from_before_the_commit_is_dropped(tmp_path):
    body = "first = input(); commit(); print([first, *sys.stdin])"
    assert written(tmp_path, body, b"new\n") == "['old first', 'new\\n']\n"


def test_those_who_hold_a_stream_hold_the_renewed_one(tmp_path):
    body = """
import logging
from sys import stdout
handler, before = logging.StreamHandler(), id(sys.stdout)
logging.getLogger().addHandler(handler)
commit()
stdout.write('same' if id(sys.stdout) == before else 'other')
stdout.flush()
logging.warning(' logged')"""
    assert written(tmp_path, body) == "same logged\n"


def test_a_stream_that_the_program_replaced_stays_replaced(tmp_path):
    body = """
import io
sys.stdout = own = io.StringIO()
commit()
print('caught')
sys.__stdout__.write(f'{sys.stdout is own} {own.getvalue()}')"""
    assert written(tmp_path, body) == "True caught\n"


@pytest.mark.parametrize("take", ["buffer", "detach()"])
def test_a_wrapper_of_the_programs_own_writes_to_the_new_descriptor(tmp_path, take):
    body = (
        f"import io\nsys.stdout = io.TextIOWrapper(sys.stdout.{take}, 'ascii', 'replace'); print('before'); "
        "commit(); print('\\u00e9')"
    )
    assert written(tmp_path, body) == "?\n"


def test_whoever_holds_a_stream_whose_descriptor_is_closed_finds_it_closed(tmp_path):
    body = """
out = sys.stdout
sys.argv[3] = '-'
commit()
sys.stderr.write(f'{sys.stdout} {sys.__stdout__} {out.closed}')"""
    assert written(tmp_path, body) == "None None True"


def test_a_commit_whose_input_and_output_have_no_text_streams_is_refused(tmp_path):
    body = """
from magicheap import UnsupportedError
sys.stdin.detach(); sys.stdout.detach()
sys.stdin = sys.stdout = sys.__stdin__ = sys.__stdout__ = None
try: commit()
except UnsupportedError as error: assert 'have no text streams' in str(error)
else: os._exit(1)"""
    with Descriptors(tmp_path, ("pipe",) * 3) as pipes:
        run(f"{SCRIPT}\n{body}", [], pipes)
