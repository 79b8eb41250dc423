"""What the standard streams are is an answer: who asks gets that of a plain run, whatever they were at the commit."""

import json
import os
from typing import NamedTuple

import pytest
from descriptors import Descriptors

PROGRAM = """
    import ctypes, fcntl, io, json, os, sys
    from magicheap import magic_transaction
    def tried(ask):
        try:
            return repr(ask())
        except Exception as error:
            return type(error).__name__
    c = ctypes.CDLL(None)
    {before}
    with magic_transaction() as magic:
        answer = tried(lambda: {ask})
    {behind}
    with open(os.environ["REPORT"], "w") as report:
        json.dump([answer, magic.was_committed, magic.committed, magic.reason], report)
"""


class Told(NamedTuple):
    answer: str
    is_warm: bool
    has_committed: bool
    reason: str


class Teller:
    """A program that tells what it was answered, in any streams."""

    def __init__(self, life, ask="None", before="pass", behind="pass", how="magic"):
        life.write(PROGRAM.format(ask=ask, before=before, behind=behind))
        self.life, self.how = life, how

    def run(self, *kinds, how="", **env):
        """kinds: of the three; fewer: pipes follow."""
        report = self.life.directory / "report"
        env |= {"REPORT": str(report), "MAGICHEAP_LOG": None}
        with Descriptors(self.life.directory, (*kinds, *("pipe",) * (3 - len(kinds)))) as streams:
            process = self.life.start(how or self.how, "program.py", env=env, **streams.options())
            assert process.wait(timeout=60) == 0
        return Told(*json.loads(report.read_text()))

    def plain(self, *kinds):
        return self.run(*kinds, how="python", MAGICHEAP_DISABLE="1").answer


KINDS = ["pipe", "file", "null", "socket", "terminal", "read only", "closed"]
ASKS = {
    "is None": "sys.stdin is None",
    "seekable": "sys.stdin.seekable()",
    "seekable of the buffer": "sys.stdin.buffer.seekable()",
    "seekable of the file": "sys.stdin.buffer.raw.seekable()",
    "tell": "sys.stdin.tell()",
    "a stream of one's own": "io.TextIOWrapper(sys.stdin.buffer).seekable()",
    "open": "open(0, closefd=False).seekable()",
    "fstat": "os.fstat(0).st_mode >> 12",
    "stat of a number": "os.stat(0).st_mode >> 12",
    "size": "os.fstat(0).st_size",
    "lseek": "os.lseek(0, 0, os.SEEK_CUR)",
    "its flags": "fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE",
    "get_blocking": "os.get_blocking(0)",
    "ttyname": "os.ttyname(0)[:4]",
    "/dev/stdin exists": "os.path.exists('/dev/stdin')",
    "/dev/stdin": "os.stat('/dev/stdin').st_mode >> 12",
    "size of /dev/stdin": "os.path.getsize('/dev/stdin')",
    "/proc/self/fd/0": "os.stat('/proc/self/fd/0').st_mode >> 12",
    "/dev/fd/0": "os.stat('/dev/fd/0').st_mode >> 12",
    "/proc/PID/fd/0": "os.stat(f'/proc/{os.getpid()}/fd/0').st_mode >> 12",
    "a relative name": "os.chdir('/dev') or os.stat('stdin').st_mode >> 12",
    "where it leads": "os.readlink('/proc/self/fd/0').startswith('/')",
    "C fstat": "(s := (ctypes.c_uint * 64)(), c.fstat(0, s), s[6] >> 12)[1:]",
    "C fstatat": "(s := (ctypes.c_uint * 64)(), c.fstatat(0, b'', s, 0x1000), s[6] >> 12)[1:]",
    "C statx": "(s := (ctypes.c_ushort * 128)(), c.statx(0, b'', 0x1000, 1, s), s[14] >> 12)[1:]",
    "C lseek": "c.lseek(0, 0, 1)",
    "C lseek64": "c.lseek64(0, 0, 1)",
    "C fcntl": "c.fcntl(0, 3) & 3",
    "C access": "c.access(b'/dev/stdin', 0)",
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_whoever_asks_what_standard_input_is_gets_the_answer_of_a_plain_run(life, ask):
    teller = Teller(life, ask)
    plain = {kind: teller.plain(kind) for kind in KINDS}
    assert len(set(plain.values())) > 1, "the question is not one"
    for kind in KINDS:
        assert teller.run(kind).answer == plain[kind], kind
    for how, kind in zip(["magic", "python"] * len(KINDS), KINDS):
        told = teller.run(kind, how=how)
        assert told.answer == plain[kind], kind
        assert told.is_warm or ask == ASKS["where it leads"]  # each pipe has a name of its own


OF_OUTPUTS = {
    "appended to": ("fcntl.fcntl(1, fcntl.F_GETFL) & os.O_APPEND", "append"),
    "C, appended to": ("c.fcntl64(1, 3) & 0x400", "append"),
    "seekable": ("sys.stdout.seekable()", "file"),
    "position": ("sys.stdout.buffer.raw.tell()", "file"),
    "of a number": ("os.fstat(1).st_mode >> 12", "socket"),
    "of a name": ("os.stat('/dev/stdout').st_mode >> 12", "null"),
    "closed": ("sys.stdout is None", "closed"),
}


@pytest.mark.parametrize(("ask", "other"), OF_OUTPUTS.values(), ids=OF_OUTPUTS)
def test_so_do_those_who_ask_about_an_output(life, ask, other):
    teller = Teller(life, ask)
    plain = {kind: teller.plain("null", kind) for kind in ("pipe", other)}
    assert plain["pipe"] != plain[other]
    for kind in ("pipe", other, "pipe", other):
        told = teller.run("null", kind)
        assert told.answer == plain[kind]
    assert told.is_warm


REASONS = [
    ("os.fstat(0)", ("pipe",), ("read only",), "standard input was a pipe, now it is a file"),
    ("os.fstat(0)", ("null",), ("terminal",), "standard input was a device, now it is a terminal"),
    ("os.fstat(1)", ("null", "file"), ("null", "append"), "was a file, now it is a file that is appended to"),
    ("os.fstat(0)", ("file",), ("read only",), "standard input is a file as before, but another one, or opened in"),
    ("os.lseek(0, 0, 1)", ("file",), ("read only",), "standard input stands at another place"),
    ("os.lseek(1, 0, 1)", ("null", "append"), ("null", "file"), "standard output stands at another place"),
    ("os.stat('/dev/stdin').st_size", ("null",), ("closed",), "standard input was open, now it is closed"),
    ("None", ("closed",), ("null",), "standard input was closed, now it is open"),
    ("None", ("null", "pipe", "closed"), ("null",), "standard error was closed, now it is open"),
]


@pytest.mark.parametrize(("ask", "first", "other", "why"), REASONS)
def test_the_reason_says_what_the_stream_was_and_what_it_is(life, ask, first, other, why):
    teller = Teller(life, ask)
    assert teller.run(*first).has_committed
    assert why in teller.run(*other).reason


def test_the_length_of_standard_input_is_an_answer_too(life):
    teller = Teller(life, "os.fstat(0).st_size")
    assert teller.run("read only").answer == "110"
    (life.directory / "short").write_text("x")
    with open(life.directory / "short") as short:
        env = {"REPORT": str(life.directory / "report")}
        assert life.start("magic", "program.py", env=env, stdin=short).wait(timeout=60) == 0
    answer, *_, reason = json.loads((life.directory / "report").read_text())
    assert answer == "1" and "standard input has another length" in reason


@pytest.mark.parametrize("how", ["magic", "python"])
def test_where_nobody_asks_the_streams_may_be_anything_that_is_open(life, how):
    teller = Teller(life, how=how)
    assert teller.run("pipe", "file").has_committed
    for kind in ("file", "null", "socket", "terminal", "append"):
        assert teller.run(kind, kind, kind).is_warm


def test_an_output_that_grows_leaves_a_run_warm_that_makes_a_stream_of_its_own_for_it(life):
    Teller(life, "setattr(sys, 'stdout', open(1, 'w', closefd=False, buffering=1))", behind="print('more')")
    env = {"REPORT": str(life.directory / "report")}
    for is_warm in (False, True, True):
        log = os.open(life.directory / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)  # as a shell does
        assert life.start("magic", "program.py", env=env, stdout=log).wait(timeout=60) == 0
        os.close(log)
        assert json.loads((life.directory / "report").read_text())[1] == is_warm
    assert (life.directory / "log").read_text() == "more\n" * 3


@pytest.mark.parametrize("how", ["magic", "python"])
@pytest.mark.parametrize("when", ["before", "body"])
def test_a_stream_that_the_program_closes_was_open_at_its_start(life, when, how):
    closes = {"before": {"before": "os.closerange(0, 1)"}, "body": {"ask": "os.closerange(0, 1)"}}[when]
    teller = Teller(life, behind="assert tried(lambda: os.fstat(0)) == 'OSError'", how=how, **closes)
    assert teller.run("null").has_committed
    assert teller.run("pipe").is_warm
    assert "standard input was open" in teller.run("closed").reason


def test_what_a_closed_stream_leaves_free_is_free_in_each_run(life):
    teller = Teller(life, behind="answer = os.open('/dev/null', os.O_RDONLY)")
    assert teller.plain("closed") == 0
    assert [teller.run("closed").answer for _ in range(2)] == [0, 0]
    assert teller.run("closed").is_warm


def test_who_moves_in_standard_input_decides_what_later_code_reads(life):
    teller = Teller(life, "os.lseek(0, 0, os.SEEK_SET)", behind="answer = os.read(0, 3).decode()")
    assert teller.plain("file") == "012"
    for _ in range(2):
        told = teller.run("file")
        assert told.answer == "012" and not told.has_committed
