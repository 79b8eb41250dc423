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
