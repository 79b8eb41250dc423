"""What this package knows of the inside of CPython stands in one place, and where it is not so a run is cold and says
it."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from magicheap import _cpython

PACKAGE = Path(__file__).parents[2] / "magicheap"
ROOM = {"_cpython.py", "_cpython_environment.py", "_cpython_library.py"}

# Names with an underscore that others may use: what CPython documents, and what other packages than it keep. `_pickle`
# is where the classes of pickle are, which it re-exports.
DOCUMENTED = {"_exit", "_asdict", "_fields", "_replace", "_thread", "_pickle", "_missing_", "_generate_next_value_"}
OF_OTHERS = {
    "_cffi_backend": "cffi",
    "_pytest": "pytest",
    "_pydevd_bundle": "pydevd",
    "_distutils_hack": "setuptools",
    "_virtualenv": "virtualenv",
    "_monitor": "tqdm",
    **dict.fromkeys(("_rand", "_bit_generator", "_seed_seq"), "numpy"),
    **dict.fromkeys(("_inc", "_pid"), "bson"),  # the latter opentelemetry, too
    **dict.fromkeys(("_thread", "_for_pid"), "sentry_sdk"),
    **dict.fromkeys(("_executor", "_flags", "_pending_work_items"), "loky"),
    **dict.fromkeys(("_temp_folder_manager", "_cached_temp_folders"), "joblib"),
}
IS_PRIVATE = re.compile(r"_[A-Za-z]\w*")
IS_DOTTED = re.compile(r"\w+(?:\.\w+)*")
PRIVATE_MODULES = {"ctypes", "opcode"}  # by which one gets at what CPython keeps for itself


def modules():
    return sorted(path for path in PACKAGE.glob("*.py") if path.name not in ROOM)


def is_self(node):
    return isinstance(node, ast.Name) and node.id == "self"


def own_names():
    """What the package itself defines: functions, classes, variables, attributes, arguments, modules."""
    found = {path.stem for path in PACKAGE.glob("*.py")} | {"_native"}
    for path in PACKAGE.glob("*.py"):
        if path.name in ROOM:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
                found.add(node.attr)
    return found


def named(tree):
    """Yield each name with an underscore that is reached for, and each module by which one reaches."""
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Attribute) and not is_self(node.value):
            names = [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            names = node.value.split(".") if IS_DOTTED.fullmatch(node.value) else []
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        for name in names:
            if IS_PRIVATE.fullmatch(name) or (name in PRIVATE_MODULES and not isinstance(node, ast.Attribute)):
                yield name


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_what_cpython_keeps_for_itself_is_named_in_one_place(path):
    known = (own_names() - PRIVATE_MODULES) | DOCUMENTED | OF_OTHERS.keys()
    found = {name for name in named(ast.parse(path.read_text())) if name not in known and not name.startswith("_ZN")}
    assert found == set()


def test_a_private_name_is_seen():
    source = (
        "import os, opcode, _random; os.environ._data; getattr(x, '_inst'); self._own; loaded['ctypes']; 'sys._cache'"
    )
    assert set(named(ast.parse(source))) == {"opcode", "_random", "_data", "_inst", "ctypes", "_cache"}


# How each assumption is broken, in a program of its own: a line, and words of the assumption that then does not hold.
BREAKS = {
    "_cpython.frame = lambda n=0: sys._getframe(0)": "finds the frame",
    "_cpython._opcode = lambda caller: 7": "f_lasti",
    "os.environb._data = dict(os.environ._data)": "in _data",
    "type(os.environ).__iter__ = lambda self: iter(list(self._data))": "decodekey",
    "sys.orig_argv = tuple(sys.orig_argv)": "orig_argv",
    "_cpython._HEADER_BYTES -= 1": "ends with its text",
    "_cpython._n_holders = lambda container, name: 3": "counted",
    "_cpython.lib = Without(_cpython.lib, mh_try_wiping=lambda *_: 0)": "obmalloc",
    "_cpython._ASCII = 0x60": "length and flags",
    "_cpython.IMPORT_SYSTEM = 'importlib/_bootstrap_external.py'": "import system",
    "_cpython._was_initializing = False": "import system",
    "_cpython.obstacle_of_place = lambda: 'not this number'": "signal.signal",
    "_cpython.current_frames = lambda: {}": "frames of all threads",
    "_cpython.change_type = lambda value, kind: None": "can become one of a subclass",
    "threading.main_thread()._native_id = 1": "_native_id",
    "threading.Thread.run = lambda self: None": "_target",
    "library.renew_text = lambda *_: None": "initialised again",
    "library._HAS_COLLECTOR = 1": "collector",
    "random._inst = random.Random()": "random.Random",
    "del tempfile._name_sequence": "tempfile",
    "del uuid._last_timestamp": "uuid",
    "multiprocessing.process.current_process()._config = None": "_config",
    "multiprocessing.util._finalizer_registry = []": "finalizers",
    "multiprocessing.pool.Pool._setup_queues = lambda self: None": "pool",
    "del multiprocessing.resource_tracker._resource_tracker._fd": "tracker",
    "ctypes._SimpleCData = int": "ctypes",
}

LIBRARY = "ctypes, multiprocessing.pool, multiprocessing.resource_tracker, os, random, sys, tempfile, threading, uuid"
PROGRAM = """
import {loaded}
from magicheap import _cpython, _cpython_library as library, magic_transaction
class Without:
    def __init__(self, whole, **others): self._whole, self._others = whole, others
    def __getattr__(self, name): return self._others[name] if name in self._others else getattr(self._whole, name)
{broken}
with magic_transaction("x.magic", **{options}) as magic:
    {body}
print(magic.committed, magic.reason)
"""


@pytest.fixture
def run(tmp_path):
    """Run the program with something broken; return what it printed, and its warnings."""

    def run(broken="", body="pass", options=(), flags=(), env=(), loaded=LIBRARY):
        source = PROGRAM.format(broken=broken, body=body, options=dict(options), loaded=loaded)
        (tmp_path / "program.py").write_text(source)
        done = subprocess.run(
            [sys.executable, *flags, "program.py"],
            cwd=tmp_path,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "MAGICHEAP_LOG": "", **dict(env)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


def test_all_of_it_holds_here(run):
    assert run()[0].startswith("True there is no snapshot")
    assert _cpython.obstacle() == "" and all(why == "" for _, why in _cpython.assumptions())


@pytest.mark.parametrize("broken", BREAKS)
def test_where_one_does_not_hold_the_run_is_cold_and_names_it(run, broken, tmp_path):
    out, _ = run(broken)
    assert out.startswith("False magicheap does not know this interpreter: it does not hold that "), out
    assert BREAKS[broken] in out and not (tmp_path / "x.magic").exists()


def test_each_assumption_is_broken_once():
    source = "from magicheap import _cpython; print(*(name for name, _ in _cpython.assumptions()), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import {LIBRARY}; {source}"], capture_output=True, text=True, check=True
    )
    names = done.stdout.splitlines()
    assert len(names) > 20 and [name for name in names if not any(words in name for words in BREAKS.values())] == []


def test_what_the_body_loads_is_tried_before_the_commit(run, tmp_path):
    out, err = run(body="import uuid; del uuid._last_timestamp", loaded="os, sys")
    assert out.startswith("False there is no snapshot") and not (tmp_path / "x.magic").exists()
    assert "was not made: magicheap does not know this interpreter" in err and "uuid.uuid1" in err


def test_a_heap_needs_what_tells_the_questions_and_no_more(run):
    heap = {"process": False}
    out, _ = run("type(os.environ).__iter__ = lambda self: iter(list(self._data))", options=heap)
    assert "decodekey" in out
    out, _ = run("os.environb._data = dict(os.environ._data)", options=heap)
    assert "there is no snapshot" in out


@pytest.mark.parametrize(
    ("flags", "env"), [((), {"PYTHONMALLOC": "malloc"}), ((), {"PYTHONMALLOC": "debug"}), (("-X", "dev"), {})]
)
def test_nothing_is_committed_where_secrets_could_not_be_wiped(run, tmp_path, flags, env):
    out, _ = run(flags=flags, env=env)
    assert out.startswith("False magicheap does not know this interpreter") and "obmalloc" in out
    assert not (tmp_path / "x.magic").exists()


def test_doctor_names_what_does_not_hold(tmp_path):
    broken = (
        "import os, sys; os.environb._data = dict(os.environ._data); from magicheap._cli import main; "
        "sys.exit(main(['doctor', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", broken, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "it does not hold" in line]
    assert "in _data" in line and "commit and resume" not in done.stdout
