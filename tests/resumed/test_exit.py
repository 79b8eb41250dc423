"""A resumed process ends as any other, only sooner where nobody would notice."""

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
    "a thread": (
        ("import threading, time; threading.Thread(target=lambda: (time.sleep(.1), print('joined'))).start()"),
        0,
    ),
    "a daemon": ("import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()", 0),
    "weakref.finalize": ("import weakref; weakref.finalize(weakref, print, 'finalized')", 0),
    "a finalizer": ("class A:\n    def __del__(self): print('gone', len('abc'))\na = A()", 0),
    "a finalizer in a cycle": ("class A:\n    def __del__(self): print('gone')\na = A(); a.a = a", 0),
    "a finalizer that raises": ("class A:\n    def __del__(self): raise KeyError('in del')\na = A()", 0),
    "a generator": ("def f():\n    try: yield\n    finally: print('closed')\ng = f(); next(g)", 0),
    "logging": (
        (
            "import logging.handlers; h = logging.handlers.MemoryHandler(9, "
            "target=logging.StreamHandler(sys.stdout)); "
            "logging.getLogger().addHandler(h); logging.warning('flushed')"
        ),
        0,
    ),
    "a collector switched off": ("import gc; gc.disable(); print('last')", 0),
    "a collector frozen": ("import gc; gc.freeze(); print('last')", 0),
    "a collector thawed": ("import gc; gc.unfreeze(); print('last')", 0),
    "a child process": (
        ("import multiprocessing; multiprocessing.get_context('fork').Process(target=print, args=('child',)).start()"),
        0,
    ),
    "a file that tells of its end": (
        (
            "import io; sys.stdout = io.TextIOWrapper(open(1, 'wb', closefd=False))\n"
            "class A(io.StringIO):\n    def close(self): print('closed'); "
            "super().close()\na = A()"
        ),
        0,
    ),
    "another stdout": ("import io; sys.stdout = io.TextIOWrapper(open(1, 'wb', closefd=False)); print('flushed')", 0),
    "another stdout and a full disk": (
        ("import io; sys.stdout = io.TextIOWrapper(open('/dev/full', 'wb')); print('lost')"),
        120,
    ),
    "stdout that was closed": ("sys.stdout.close()", 0),
    "no stdout": ("sys.stdout = None", 0),
    "no stderr": ("os.close(2); sys.stderr.close()", 0),
    "a full disk for stderr": ("sys.stderr.write('lost'); os.dup2(os.open('/dev/full', os.O_WRONLY), 2)", 120),
    "a full disk and a code": ("print('lost'); os.dup2(os.open('/dev/full', os.O_WRONLY), 1); sys.exit(3)", 120),
    "a pipe that is full": (
        (
            "import fcntl; read, write = os.pipe(); os.set_blocking(write, False); os.dup2(write, 1)\n"
            "fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096); os.write(1, bytes(4096)); print('lost')"
        ),
        120,
    ),
    "a lock that a daemon holds": (
        (
            "import gzip, io, threading, time\ndef work():\n    held = gzip.GzipFile(fileobj=io.BytesIO(), "
            "mode='w')\n"
            "    while True: held.write(bytes(1 << 20))\n"
            "threading.Thread(target=work, daemon=True).start(); time.sleep(.1)"
        ),
        0,
    ),
    "a buffer that a daemon waits in": (
        (
            "import threading, time\ndef work():\n    held = os.fdopen(os.pipe()[1], 'wb'); "
            "keep.append(held.raw)\n"
            "    while True: held.write(bytes(1 << 20))\n"
            "keep = []; threading.Thread(target=work, daemon=True).start(); "
            "time.sleep(.1)"
        ),
        0,
    ),
    "a finalizer that a daemon keeps away": (
        (
            "import threading\nclass A:\n    def __del__(self): print('gone')\n"
            "threading.Thread(target=lambda held: threading.Event().wait(), "
            "args=(A(),), daemon=True).start()"
        ),
        0,
    ),
    "sys.exit in a thread": ("import threading; threading.Thread(target=sys.exit, args=(5,)).start()", 0),
    "sys.exit in a child": ("pid = os.fork()\nif not pid: sys.exit(5)\nprint(os.waitpid(pid, 0)[1])", 0),
    "a child of a pool": (
        (
            "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(1) as pool: "
            "print(pool.map(abs, [-1]))"
        ),
        0,
    ),
    "execv": ("sys.stdout.flush(); os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(6)'])", 6),
    "a signal at the end": ("atexit.register(os.kill, os.getpid(), signal.SIGINT)", 0),
    "a handler that disables collecting": (
        ("import gc; atexit.register(gc.disable)\nclass A:\n    def __del__(self): print('gone')\na = A()"),
        0,
    ),
    "a handler of os._exit": ("atexit.register(os._exit, 9)", 9),
    "C's atexit": (
        ("import ctypes; text = b'by C'; ctypes.CDLL(None).__cxa_atexit(ctypes.CDLL(None).puts, text, None)"),
        0,
    ),
    "C's buffer": ("import ctypes; ctypes.CDLL(None).printf(b'buffered by C\\n')", 0),
    "Py_AtExit": ("import ctypes; ctypes.pythonapi.Py_AtExit(ctypes.CDLL(None).abort)", -signal.SIGABRT),
    "a callback of the collector": ("import gc; gc.callbacks.append(lambda phase, info: print(phase))", 0),
    "statistics of the collector": ("import gc; gc.set_debug(gc.DEBUG_UNCOLLECTABLE)", 0),
    "a file that is told to be open": ("import warnings; warnings.simplefilter('always'); file = open(__file__)", 0),
    "a coroutine that nobody awaits": ("async def f(): pass\na = f()", 0),
    "a callback of a weak reference": (
        ("import weakref\nclass A: pass\na = A(); b = weakref.ref(a, lambda _, tell=print: tell('died'))"),
        0,
    ),
    "a callback in a cycle": ("import weakref\nclass A: pass\na = A(); b = weakref.ref(a, lambda _: print('died'))", 0),
    "a class without a collector": ("class A:\n    __slots__ = ()\n    def __del__(self): print('gone')\na = A()", 0),
    "an audit": ("sys.addaudithook(lambda event, _: None)", 0),
}


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_a_plain_process_does(program, end):
    code, status = ENDS[end]
    source = (
        f"{PRELUDE}\nimport atexit, logging\natexit.register(print, 'before')\n"
        f"if 'resumed' in sys.argv: commit()\n{code}"
    )
    ended = [
        program(source).run(*arguments, status=status, env={"PYTHONUNBUFFERED": None})
        for arguments in ([], ["resumed"])
    ]
    (plain_out, plain_err), (out, err) = ended
    assert (out, told(err)) == (plain_out, told(plain_err))


def told(err):
    """Return what was told, without addresses, and without source lines, which a plain process may not find any
    more."""
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
@pytest.mark.parametrize(
    "kind", ["open(path, 'w')", "open(path, 'w', buffering=1 << 20)", "io.TextIOWrapper(open(path, 'wb'))"]
)
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
    def __del__(self): print("taken apart", *self.rows)
{before}
commit()
{after}
loaded.rows.append("later")
"""


@pytest.mark.parametrize("collector", ["", "import gc; gc.disable()"])
@pytest.mark.parametrize("kind", ["Loaded()", "type('Small', (Loaded,), {'__slots__': ()})()"])
def test_what_was_loaded_is_finalized(run, kind, collector):
    load = f"Loaded.rows = []; loaded = {kind}"
    assert run(FINALIZED.format(before=load, after=collector)) == ("taken apart later\n", "")


def test_what_came_later_is_finalized_once(run):
    assert run(FINALIZED.format(before="Loaded.rows = []", after="loaded = Loaded()"))[0] == "taken apart later\n"


def test_a_cycle_that_is_dropped_later_is_finalized(run):
    load = "Loaded.rows = []; loaded = Loaded(); loaded.own = loaded"
    assert (
        run(FINALIZED.format(before=load, after="first, loaded = loaded, Loaded; first.rows.append(1); del first"))[0]
        == "taken apart 1 later\n"
    )


@pytest.mark.parametrize("n", [1, 2])
def test_the_second_of_two_commits_finalizes_what_either_loaded(run, n):
    load = ["Loaded.rows = []", "commit()"]
    load.insert(n % 2, "loaded = Loaded()")
    if n == 2:
        load = ["Loaded.rows = []", "loaded = Loaded()", "commit()"]
    assert run(FINALIZED.format(before="\n".join(load), after=""))[0] == "taken apart later\n"


def test_what_was_garbage_at_the_commit_is_in_no_image(run):
    load = "Loaded.rows = []; loaded = Loaded(); loaded.own = loaded; loaded = Loaded"
    assert run(FINALIZED.format(before=load, after="Loaded.rows.clear()"))[0] == "taken apart\n"


# ---- when CPython's own end is forgone ----

LEAVING = """
import gc, io, tempfile, threading, time, types, warnings, weakref
def quiet(): yield
def loud():
    try: yield
    finally: pass
class A: pass
class Heard:
    def __del__(self): pass
def thing():
    {thing}
    return locals()
{before}
commit()
{after}
from magicheap import _cpython
_cpython.leave = lambda: os.write(1, b"leaves")
"""

SILENT = {
    "nothing": "pass",
    "numbers": "a = [[n] for n in range(1000)]",
    "a closed file": "a = open(os.devnull, 'w'); a.close()",
    "a file that is read": "a = open(__file__); a.readline()",
    "a file that is written": "a = open(os.devnull, 'w'); a.write('all of it')",
    "a file that is written by parts": "a = open(os.devnull, 'r+b'); a.write(b'all of it')",
    "a file behind a filter of something else": (
        "warnings.filterwarnings('ignore', message='other'); a = open(os.devnull, 'w')"
    ),
    "a file in memory": "a = io.BytesIO(), io.StringIO()",
    "a generator that has ended": "a = loud(); list(a)",
    "a generator that has not begun": "a = loud()",
    "a weak reference": "a = A(); b = weakref.ref(a); c = weakref.WeakSet([a]); d = weakref.WeakKeyDictionary({a: 1})",
    "a reference to what is dead": "a = weakref.ref(A(), id)",
    "a lock": "a = threading.Lock(), threading.RLock(), threading.Condition()",
    "a directory that atexit removes": "a = tempfile.TemporaryDirectory(); a.cleanup()",
    "a process that was waited for": "import subprocess; a = subprocess.Popen(['true']); a.wait()",
    "a temporary file that is gone": "a = tempfile.NamedTemporaryFile(); a.close()",
    "an archive that is closed": "import zipfile; a = zipfile.ZipFile(io.BytesIO(), 'w'); a.close()",
    "a socket that is closed": "import socket; a = socket.socket(); a.close()",
    "a database in memory": "import sqlite3; a = sqlite3.connect(':memory:')",
    "a class with a finalizer": "class B(Heard): pass",
}

HEARD = {
    "a finalizer": "a = Heard()",
    "a child that still runs": "import subprocess; a = subprocess.Popen(['sleep', '.2'])",
    "a temporary file": "a = tempfile.NamedTemporaryFile()",
    "an archive": "import zipfile; a = zipfile.ZipFile(io.BytesIO(), 'w')",
    "a class named as another": (
        "B = type('Popen', (Heard,), {'__module__': 'subprocess', 'returncode': 0}); import subprocess; a = B()"
    ),
    "a file of the program's own kind": (
        "a = io.TextIOWrapper(type('B', (io.BufferedWriter,), {})(io.FileIO(os.devnull, 'w')))"
    ),
    "a file that is told to be open": "warnings.simplefilter('always'); a = open(os.devnull, 'w')",
    "a generator that may clean up": "a = loud(); next(a)",
    "a generator that another closes": "a = (lambda b: (yield from b))(loud()); next(a)",
    "a callback": "a = A(); b = weakref.ref(a, print)",
    "a callback of a proxy": "a = A(); b = weakref.proxy(a, print)",
    "an object that the collector does not know": "a = type('B', (Heard,), {'__slots__': ()})()",
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("thing", SILENT)
def test_a_silent_end_is_left(run, thing, when):
    parts = {"before": "", "after": "", when: "held = thing()"}
    assert run(LEAVING.format(thing=SILENT[thing], **parts))[0] == "leaves"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("thing", HEARD)
def test_an_end_that_would_be_heard_is_not_left(run, thing, when):
    parts = {"before": "", "after": "", when: "held = thing()"}
    assert run(LEAVING.format(thing=HEARD[thing], **parts))[0] == ""


def test_files_are_left_to_cpython_where_a_thread_may_hold_them(run):
    thing = "a = open(os.devnull, 'w'); threading.Thread(target=lambda: time.sleep(9), daemon=True).start()"
    assert run(LEAVING.format(thing=thing, before="", after="held = thing()"))[0] == ""


def test_a_quiet_generator_is_left_where_no_try_waits(run):
    expected = "leaves" if sys.version_info < (3, 12) else ""  # since then a generator has a handler of its own
    assert run(LEAVING.format(thing="a = quiet(); next(a)", before="held = thing()", after=""))[0] == expected


def test_leaving_goes_past_the_interpreter(run):
    """CPython's end would call a function that ends the process otherwise."""
    source = """
import ctypes, sys
commit()
class Ends:
    def __del__(self): os._exit(77)
from magicheap import _finalizers
_finalizers.is_heard = lambda each: False
ends = Ends()
sys.exit({code})
"""
    for code in (0, 3):
        run(source.format(code=code), status=code)


@pytest.mark.parametrize("is_found", [False, True])
def test_where_no_way_is_found_cpython_ends_as_ever(run, is_found):
    """At the commit; or at the end, where the function that is to lead away returns."""
    source = """
from magicheap import _cpython
_cpython.give_leave = lambda: {is_found}
commit()
print("last")
sys.exit(3)
"""
    assert run(source.format(is_found=is_found), status=3) == ("last\n", "")


@pytest.mark.parametrize(
    "opened", ["socket.socketpair()[0].detach()", "os.pipe()[1]", "os.open('written', os.O_CREAT | os.O_WRONLY)"]
)
def test_a_descriptor_that_may_be_written_is_left_to_whoever_opened_it(run, opened):
    source = """
import socket
commit()
class Ends:
    def __del__(self): os._exit(77)
from magicheap import _finalizers
_finalizers.is_heard = lambda each: False
ends = Ends()
opened = {opened}
"""
    run(source.format(opened=opened), status=77)


# ---- the committing process ----


def test_the_committing_process_collects_what_it_drops(run):
    out, _ = run("""
import gc, weakref
from magicheap import _exit
class Node: pass
node = Node(); node.me = node
_exit.go_on(_exit.prepare())
dead = weakref.ref(node)
del node
gc.collect()
print(dead())
""")
    assert out == "None\n"


def test_what_the_program_froze_stays_frozen(run):
    out, _ = run("""
import gc, weakref
from magicheap import _exit
class Node: pass
node = Node(); node.me = node
gc.freeze()
_exit.go_on(_exit.prepare())
alive = weakref.ref(node)
del node
gc.collect()
print(alive() is not None)
""")
    assert out == "True\n"
