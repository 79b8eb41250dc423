"""The environment of a resumed process is the new one with the program's own changes, and nothing is left of the old
one."""

import textwrap

import pytest
from resumed_harness import PRELUDE

LONG = "sesame-" + "0123456789abcdef" * 60  # its objects come from malloc, not from Python's own allocator
OLD = {
    "LONG": LONG,
    "OLD": "only the old",
    "BOTH": "old",
    "CHANGED": "old",
    "REMOVED": "old",
    "C_REMOVED": "old",
    "SECRET": "sesame, open now",
}
NEW = (
    '{b"NEW": b"only the new", b"BOTH": b"new", b"CHANGED": b"new", b"REMOVED": b"new", b"C_REMOVED": b"new", '
    'b"PATH": os.environb[b"PATH"]}'
)
CHANGES = """
os.environ.update(CHANGED="by the program", SET="by the program")
del os.environ["REMOVED"]
os.putenv("C_SET", "by the program")
os.unsetenv("C_REMOVED")
held, held_bytes = os.environ, os.environb
"""


@pytest.fixture
def run(program):
    return lambda source: program(f"{PRELUDE}\n{textwrap.dedent(source)}").run(env=OLD)[0].splitlines()


def test_the_programs_changes_lie_on_top_of_the_new_environment(run):
    lines = run(f"""{CHANGES}
commit(environ={NEW})
import json
print(json.dumps(sorted(item for item in os.environ.items() if item[0] != "PATH")))
print(os.environ is held and os.environb is held_bytes, held_bytes[b"SET"].decode())
""")
    assert lines == [
        (
            '[["BOTH", "new"], ["CHANGED", "by the program"], ["C_REMOVED", "new"], ["NEW", "only the new"], '
            '["SET", "by the program"]]'
        ),
        "True by the program",
    ]


# environ of C is the new one already when take_up begins: the launcher made it
AS_THE_LAUNCHER = f"""
new = {NEW}
array = (ctypes.c_char_p * (len(new) + 1))(*[name + b"=" + value for name, value in new.items()])
ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ").value = ctypes.addressof(array)
"""


def test_the_c_library_has_the_same_environment(run):
    lines = run(f"""{CHANGES}
import ctypes, subprocess
from magicheap import _environment
delta = _environment.changes(_environment.read_initial())
{AS_THE_LAUNCHER}
_environment.take_up([b"=".join(item) for item in new.items()], delta)
out = subprocess.run(["env"], capture_output=True, text=True).stdout
print(*sorted(line for line in out.splitlines() if not line.startswith("PATH=")), sep="\\n")
""")
    assert lines == [
        "BOTH=new",
        "CHANGED=by the program",
        "C_SET=by the program",
        "NEW=only the new",
        "SET=by the program",
    ]


SEARCH = """
import ctypes, mmap

def wipe(initial):
    for address, size in _environment.inherited(initial):
        ctypes.memset(address, 0, size)

def places(reversed_text):
    # where in this process's memory a text lies, given backwards, without the places that this search makes itself
    text, found = reversed_text[::-1], []
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    for line in list(open("/proc/self/maps")):
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if " rw" in line and "[v" not in line:
            with mmap.mmap(-1, end - start) as piece:  # a mapping of its own: in the heap it would copy itself
                os.preadv(memory, [piece], start)
                at = piece.find(text)
                while at >= 0:
                    found.append(start + at)
                    at = piece.find(text, at + 1)
    return set(found) - {id(text) + bytes.__basicsize__ - 1}
"""


@pytest.mark.parametrize("name", ["SECRET", "LONG"])
@pytest.mark.parametrize(
    "use", ["pass", "_environment.changes(_environment.read_initial())", "os.putenv('OTHER', '1')"]
)
def test_no_copy_of_a_value_is_left(run, name, use):
    backwards = OLD[name][::-1].encode()
    lines = run(f"""
from magicheap import _environment
{SEARCH}
import posix
{use}
initial = _environment.read_initial()
before = len(places({backwards!r}))
wipe(initial)
print(before > 0, len(places({backwards!r})))
""")
    assert lines == ["True 0"]


def test_what_the_program_holds_of_a_value_stays(run):
    lines = run(f"""
from magicheap import _environment
{SEARCH}
held = os.environb[b"SECRET"]
wipe(_environment.read_initial())
print(held.decode())
""")
    assert lines == [OLD["SECRET"]]
