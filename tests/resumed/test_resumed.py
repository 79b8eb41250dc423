"""What else a resumed process finds as if it had been started itself. Streams, environment, randomness, pools: see
their own tests."""

import textwrap

import pytest
from resumed_harness import PRELUDE


@pytest.fixture
def run(program):
    return lambda source: program(f"{PRELUDE}\n{textwrap.dedent(source)}").run()[0].splitlines()


def test_the_arguments_are_the_new_ones_in_the_same_lists(run):
    lines = run("""
from sys import argv, orig_argv
commit(argv=["script.py", "-x", "\\udcff"])
print(argv is sys.argv, ascii(argv), orig_argv is sys.orig_argv, ascii(orig_argv))
""")
    assert lines == [r"True ['script.py', '-x', '\udcff'] True ['python', 'script.py', '-x', '\udcff']"]


SIGNALS = {
    "ignored now": ("pass", {"SIGHUP", "SIGINT"}, "SIGINT", "SIG_IGN"),
    "ignored now, default before": ("pass", {"SIGHUP"}, "SIGHUP", "SIG_IGN"),
    "handled by the program": ("signal.signal(signal.SIGHUP, print)", {"SIGHUP"}, "SIGHUP", "print"),
    "ignored before": (
        "ignored.add(signal.SIGHUP); signal.signal(signal.SIGHUP, signal.SIG_IGN)",
        set(),
        "SIGHUP",
        "SIG_DFL",
    ),
    "Ctrl-C, ignored before": (
        "ignored.add(signal.SIGINT); signal.signal(signal.SIGINT, signal.SIG_IGN)",
        set(),
        "SIGINT",
        "default_int_handler",
    ),
    "ignored by the program": ("signal.signal(signal.SIGHUP, signal.SIG_IGN)", set(), "SIGHUP", "SIG_IGN"),
    "a pipe": ("pass", {"SIGPIPE"}, "SIGPIPE", "SIG_IGN"),
    "a pipe, default by the program": (
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
        {"SIGPIPE"},
        "SIGPIPE",
        "SIG_DFL",
    ),
    "nothing": ("pass", set(), "SIGINT", "default_int_handler"),
}


@pytest.mark.parametrize("case", SIGNALS)
def test_signals_are_ignored_as_by_a_plain_start(run, case):
    before, now, number, expected = SIGNALS[case]
    lines = run(f"""
from magicheap import _resumed
ignored = set()
_resumed.ignored_signals = lambda: sum(1 << (number - 1) for number in ignored)
{before}
commit(ignored=frozenset(getattr(signal, name) for name in {now!r}))
found = signal.getsignal(signal.{number})
print(found.__name__ if hasattr(found, "__name__") else found.name)
""")
    assert lines == [expected]


def test_ignored_signals_are_those_of_whoever_started_us(run):
    lines = run("""
import subprocess
signal.signal(signal.SIGHUP, signal.SIG_IGN)
ask = "from magicheap import _resumed; import signal; print(_resumed.ignored_signals() & 1 << (signal.SIGHUP - 1))"
print(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout.strip())
""")
    assert lines == ["1"]


def test_the_time_zone_is_the_new_one(run):
    lines = run("""
import time
os.environ.pop("TZ", None)
commit(environ={b"TZ": b"XYZ-3"})
print(time.tzname[0], time.timezone, time.localtime(0).tm_hour)
""")
    assert lines == ["XYZ -10800 3"]


def test_the_directory_for_temporary_files_is_the_new_one(run, tmp_path):
    (tmp_path / "other").mkdir()
    lines = run(f"""
import tempfile
tempfile.gettempdir()
commit(environ={{b"TMPDIR": {bytes(tmp_path / "other")!r}}})
print(tempfile.gettempdir())
""")
    assert lines == [str(tmp_path / "other")]


def test_the_directory_that_the_program_chose_stays(run, tmp_path):
    lines = run(f"""
import tempfile
tempfile.tempdir = {str(tmp_path)!r}
commit(environ={{b"TMPDIR": b"/tmp"}})
print(tempfile.gettempdir())
""")
    assert lines == [str(tmp_path)]


def test_ids_are_its_own(run):
    lines = run("""
import threading, logging
commit()
record = logging.LogRecord("", 0, "", 0, "", None, None)
print(threading.main_thread().native_id == threading.get_native_id() == os.getpid() == record.process)
""")
    assert lines == ["True"]


def test_fork_handlers_have_run_before(run):
    lines = run("""
order = []
os.register_at_fork(after_in_child=lambda: order.append(len(sys.argv)))
commit(argv=["a", "b", "c"])
print(order, len(sys.argv))
""")
    assert lines == ["[1] 3"]


def test_nothing_is_imported_after_the_resume(run):
    lines = run("""
from magicheap import _resumed
plan = _resumed.plan
def watched(kept):
    take_up = plan(kept)
    def watch(resumed):
        before = set(sys.modules)
        take_up(resumed)
        print(set(sys.modules) - before)
    return watch
_resumed.plan = watched
commit()
""")
    assert lines == ["set()"]


def test_what_fails_is_raised(run):
    lines = run("""
import numpy.random
from magicheap import _reseed, _streams
_streams.take_up = lambda kept: print("went on")
real = os.urandom
def refuse(n): raise OSError("no entropy")
os.register_at_fork(after_in_child=lambda: setattr(os, "urandom", refuse))
try: commit()
except _reseed.ReseedError as error: print(error)
""")
    assert lines == ["numpy.random.mtrand could not be reseeded: OSError: no entropy"]
