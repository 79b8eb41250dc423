"""A resumed process ends as any other, only without taking apart what was loaded."""

import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from resumed_harness import PRELUDE


@pytest.fixture
def run(program):
    return lambda source, **options: program(f"{PRELUDE}\n{textwrap.dedent(source)}").run(**options)


# What stands behind commit() ends a plain process and a resumed one in the same way: (its code, exit status).
ENDS = {
    "by itself": ("print('last')", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "a text": ("sys.exit('text')", 1),
    "an exception": ("raise KeyError('key')", 1),
    "Ctrl-C": ("raise KeyboardInterrupt", -signal.SIGINT),
    "a signal": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "os._exit": ("os._exit(4)", 4),
    "a full disk": ("print('lost'); os.dup2(os.open('/dev/full', os.O_WRONLY), 1)", 120),
    "an exception in atexit": ("atexit.register(lambda: 1 / 0)", 0),
    "sys.exit in atexit": ("atexit.register(sys.exit, 5)", 0),
    "handlers in order": ("[atexit.register(print, i) for i in range(3)]", 0),
    "handlers from before": ("atexit.register(print, 'after')", 0),
    "a thread": ("import threading, time; threading.Thread(target=lambda: (time.sleep(.1), print('joined'))).start()", 0),
    "a daemon": ("import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()", 0),
    "weakref.finalize": ("import weakref; weakref.finalize(weakref, print, 'finalized')", 0),
    "a finalizer": ("class A:\n    def __del__(self): print('gone', len('abc'))\na = A()", 0),
    "a finalizer in a cycle": ("class A:\n    def __del__(self): print('gone')\na = A(); a.a = a", 0),
    "a finalizer that raises": ("class A:\n    def __del__(self): raise KeyError('in del')\na = A()", 0),
    "a generator": ("def f():\n    try: yield\n    finally: print('closed')\ng = f(); next(g)", 0),
    "logging": ("import logging.handlers; h = logging.handlers.MemoryHandler(9, target=logging.StreamHandler(sys.stdout)); "
                "logging.getLogger().addHandler(h); logging.warning('flushed')", 0),
    "a collector switched off": ("import gc; gc.disable(); print('last')", 0),
    "a collector frozen": ("import gc; gc.freeze(); print('last')", 0),
    "a collector thawed": ("import gc; gc.unfreeze(); print('last')", 0),
    "a child process": ("import multiprocessing; multiprocessing.get_context('fork').Process(target=print, args=('child',)).start()", 0),
    "a file that tells of its end": ("import io; sys.stdout = io.TextIOWrapper(open(1, 'wb', closefd=False))\n"
                                     "class A(io.StringIO):\n    def close(self): print('closed'); super().close()\na = A()", 0),
    "another stdout": ("import io; sys.stdout = io.TextIOWrapper(open(1, 'wb', closefd=False)); print('flushed')", 0),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_a_plain_process_does(program, end):
    code, status = ENDS[end]
    source = f"{PRELUDE}\nimport atexit, logging\natexit.register(print, 'before')\nif 'resumed' in sys.argv: commit()\n{code}"
    ended = [program(source).run(*arguments, status=status, env={"PYTHONUNBUFFERED": None}) for arguments in ([], ["resumed"])]
    (plain_out, plain_err), (out, err) = ended
    assert (out, told(err)) == (plain_out, told(plain_err))


def told(err):
    """Return what was told, without addresses, and without source lines, which a plain process may not find any more."""
    return [re.sub("0x[0-9a-f]+", "0x", line) for line in err.splitlines() if not line.startswith("    ")]


def test_a_broken_pipe_at_exit_has_status_120(program):
    read, write = os.pipe()
    os.close(read)
    path = program(f"{PRELUDE}\ncommit()\nprint('lost')").path
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen([sys.executable, path], stdout=write, stderr=subprocess.PIPE, env=environ) as process:
        os.close(write)
        assert b"BrokenPipeError" in process.communicate()[1]
    assert process.returncode == 120


@pytest.mark.parametrize("opened", ["before", "after"])
@pytest.mark.parametrize("kind", ["open(path, 'w')", "open(path, 'w', buffering=1 << 20)", "io.TextIOWrapper(open(path, 'wb'))"])
def test_files_that_were_not_closed_are_flushed(run, tmp_path, opened, kind):
    path = tmp_path / "written"
    before, after = ("file = " + kind, "") if opened == "before" else ("", "file = " + kind)
    run(f"import io\npath = {str(path)!r}\n{before}\ncommit()\n{after}\nfile.write('all of it')\nfile.own = file\n")
    assert path.read_text() == "all of it"


def test_temporary_files_are_removed(run):
    out, _ = run("""
import tempfile
commit()
file, directory = tempfile.NamedTemporaryFile(), tempfile.TemporaryDirectory()
print(file.name, directory.name, sep="\\n")
""")
    assert [path for path in out.splitlines() if os.path.exists(path)] == []


FINALIZED = """
class Loaded:
    def __del__(self): print("taken apart")
{before}
commit()
{after}
"""


@pytest.mark.parametrize("collector", ["", "import gc; gc.disable()"])
def test_what_was_loaded_is_not_taken_apart(run, collector):
    assert run(FINALIZED.format(before="loaded = {1: Loaded()}", after=collector)) == ("", "")


def test_what_came_later_is_taken_apart_once(run):
    assert run(FINALIZED.format(before="", after="loaded = {1: Loaded()}"))[0] == "taken apart\n"


def test_the_second_of_two_commits_ends_quickly_too(run):
    source = FINALIZED.format(before="commit()\nloaded = {1: Loaded()}", after="")
    assert run(source) == ("", "")


def test_the_committing_process_collects_as_before(run):
    out, _ = run("""
import gc
from magicheap import _exit
_exit.go_on(_exit.prepare())
print(gc.get_freeze_count())
""")
    assert out == "0\n"


def test_what_the_program_froze_stays_frozen(run):
    out, _ = run("""
import gc
from magicheap import _exit
gc.freeze()
_exit.go_on(_exit.prepare())
print(gc.get_freeze_count() > 0)
""")
    assert out == "True\n"
