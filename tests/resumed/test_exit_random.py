"""Programs made at random end resumed as they end plain: what is printed, in which order, what files hold, and the exit
status."""

import random
import re

import pytest
from resumed_harness import PRELUDE
from running import TIMEOUT_S

N_PROGRAMS = 30  # arbitrary: a minute on a busy machine

HEAD = """
import atexit, builtins, contextvars, gc, gzip, io, tempfile, threading, time, types, weakref
class Told:
    def __init__(self, name): self.name = name
    def __del__(self): print("end of", self.name)
class Small:
    __slots__ = ()
    def __del__(self): print("end of a small one")
class Text(str):
    __slots__ = ()
    def __del__(self): print("end of", str(self))
class Plain: pass
class Raises:
    def __del__(self): raise KeyError("in del")
"""

# What a program may have at its end; N is a number of its own.
TEXT = """
tN = Told("global N")
tN = [Told("in a list N")]
tN = {"key": Told("in a dict N")}
tN = Told("cycle N"); tN.own = tN
tN = Told("cycle that is dropped N"); tN.own = tN; del tN
class CN: held = Told("in a class N")
def fN(held=Told("default N")): pass
def mN():
    held = Told("closure N")
    return lambda: held
fN = mN()
mN = types.ModuleType("mN"); sys.modules["mN"] = mN; mN.held = Told("in a module N"); del mN
mN = types.ModuleType("mN"); sys.modules["mN"] = mN; mN.__dict__["held"] = Told("beside a function N"); exec(
    "def f(): return held", mN.__dict__)
builtins.heldN = Told("in builtins N")
sys.heldN = Told("in sys N")
lN = threading.local(); lN.held = Told("of a thread N")
vN = contextvars.ContextVar("vN"); vN.set(Told("in a context N"))
atexit.register(lambda held: print("atexit N"), Told("argument of atexit N"))
atexit.register(print, "atexit N")
def gN(held):
    try: yield held
    finally: print("closed N")
gN = gN(Told("in a generator N")); next(gN)
def gN(held): yield held
gN = gN(Told("in a quiet generator N")); next(gN)
gN = (Told("never made N") for _ in [1])
tN = Small()
tN = Text("text N")
tN = Raises()
tN = weakref.finalize(Told, print, "finalized N")
tN = Plain(); weakref.finalize(tN, print, "finalized N").atexit = False
tN = Plain(); wN = weakref.ref(tN, lambda _, name="died N": print(name))
wN = weakref.WeakValueDictionary(); tN = wN["key"] = Plain()
fN = open("fileN", "w"); fN.write("all of it N")
fN = io.TextIOWrapper(open("fileN", "wb")); fN.write("wrapped N")
fN = gzip.GzipFile("fileN.gz", "wb", mtime=0); fN.write(b"N")
fN = open("fileN", "wb", buffering=0); fN.write(b"raw N")
fN = open(__file__); fN.readline()
tN = tempfile.TemporaryDirectory(); tN.held = Told("of a directory N")
tN = tempfile.NamedTemporaryFile(); atexit.register(lambda name=tN.name: print(os.path.exists(name)))
dN = threading.Event(); threading.Thread(
    target=lambda held: dN.wait(), args=(Told("of a daemon N"),), daemon=True).start()
def bN():
    held = gzip.GzipFile(fileobj=io.BytesIO(), mode="w")
    while True: held.write(bytes(1 << 20))
threading.Thread(target=bN, daemon=True).start()
threading.Thread(
    target=lambda held: (time.sleep(0.02), print("joined N")), args=(Told("of a thread that is joined N"),)).start()
sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False)); print("by another stream N")
print("buffered N")
tN = Told("resurrected N"); Told.keptN = None
sys.excepthook = lambda *error, held=Told("of a hook N"): print("hook N")
"""
PIECES = re.split(r"\n(?! |gN = gN|fN = mN|threading.Thread\(target=bN)", TEXT.strip())
# what can't be carried, or belongs to the body: the commit collects
NOT_IN_A_BODY = ("threading.Thread", "Temporary", "dropped")

ENDINGS = [
    "",
    "",
    "sys.exit(3)",
    "sys.exit('text')",
    "raise KeyError('key')",
    ("def end(held): raise KeyError('key')\nend(Told('in a frame'))"),
    ("pid = os.fork()\nif not pid: sys.exit(5)\nprint(os.waitpid(pid, 0)[1])"),
    "sys.stdout.close()",
    "sys.stdout = None",
]


def make(rng):
    """Return the parts of a program: before the commit, behind it."""
    numbered = [piece.replace("N", str(i)) for i, piece in enumerate(rng.choices(PIECES, k=rng.randrange(1, 7)))]
    cut = rng.randrange(len(numbered) + 1)
    before = [piece for piece in numbered[:cut] if not any(word in piece for word in NOT_IN_A_BODY)]
    return "\n".join(before), "\n".join([*numbered[cut:], rng.choice(ENDINGS)])


def told(text):
    """Return what was told in order, and what finalizers told, whose order in one collection no CPython promises.

    Without what differs from run to run, and without source lines, which CPython may not find any more.
    """
    lines = [re.sub(r"0x[0-9a-f]+|line \d+", "-", line) for line in text.splitlines() if not line.startswith("    ")]
    return [line for line in lines if not line.startswith("end of")], sorted(
        line for line in lines if line.startswith("end of")
    )


@pytest.mark.parametrize("seed", range(N_PROGRAMS))
def test_a_program_made_at_random_ends_as_a_plain_one(program, tmp_path, seed):
    before, behind = make(random.Random(seed))
    ended = []
    for commit in ("sys.stdout.flush()", "sys.stdout.flush()\ncommit()"):
        directory = tmp_path / ("resumed" if "commit" in commit else "plain")
        directory.mkdir()
        source = f"{PRELUDE}\nos.chdir({str(directory)!r})\n{HEAD}\n{before}\n{commit}\n{behind}\n"
        with program(source).start(env={"PYTHONUNBUFFERED": None}) as process:
            out, err = process.communicate(timeout=TIMEOUT_S)
        ended.append(
            (process.returncode, told(out), told(err), {path.name: path.read_bytes() for path in directory.iterdir()})
        )
    assert ended[0] == ended[1], f"{before}\n# commit\n{behind}"
