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
from magicheap._native import ffi
delta = _environment.changes(_environment.read_initial())
{AS_THE_LAUNCHER}
envp = ffi.cast("char **", ctypes.addressof(array))
_environment.take_up(ffi.new("mh_resumed *", {{"envp": envp, "envc": len(new)}}), -1, delta)
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


# What the launcher and the commit do around it: values are wiped, and others handed over.
RENEWED = """
import ctypes, posix
from magicheap import _environment
from magicheap._native import ffi, lib

def renew(entries):
    initial = _environment.read_initial()
    delta = _environment.changes(initial)
    areas = _environment.inherited(initial)
    _environment.keep_places(initial, delta)
    for address, size in areas:
        ctypes.memset(address, 0, size)
    held = [ffi.new("char[]", entry) for entry in entries]
    envp = ffi.new("char *[]", held)
    for name in posix.environ:
        os.unsetenv(name)
    for entry in entries:
        os.putenv(*entry.split(b"=", 1))
    resumed = ffi.new("mh_resumed *", {"envp": envp, "envc": len(held)})
    n_left = lib.mh_renew_variables(resumed, _environment.left)
    _environment.take_up(resumed, n_left, delta)
    is_renewed = n_left >= 0
    return is_renewed

start, data = _environment.read_initial(), posix.environ
places = {name: id(value) for name, value in data.items()}
def changed(**values):
    return [entry if (name := entry.split(b"=")[0].decode()) not in values else f"{name}={values[name]}".encode()
            for entry in start]
"""


def test_values_of_the_same_length_are_put_into_the_same_objects(run):
    lines = run(f"""{RENEWED}
hash(os.environb[b"BOTH"])  # which is kept in the object
print(renew(changed(BOTH="new", SECRET="another as long.")), posix.environ is data)
print(os.environ["BOTH"], os.environ["SECRET"], os.environ["OLD"], os.environ["LONG"] == {LONG!r})
print([name.decode() for name in places if id(data[name]) != places[name] and len(data[name]) > 1])
print({{os.environb[b"BOTH"]: 1}}[b"new"], os.getenv("BOTH"))
""")
    assert lines == ["True True", "new another as long. only the old True", "[]", "1 new"]


def test_a_value_of_another_length_is_another_object_in_the_same_place(run):
    lines = run(f"""{RENEWED}
names = list(os.environ)
print(renew(changed(OLD="x", LONG="")), os.environ["OLD"], repr(os.environ["LONG"]), os.environ["BOTH"])
print(list(os.environ) == names)
""")
    assert lines == ["True x '' old", "True"]


def test_what_the_program_holds_of_a_value_is_never_written_to(run):
    lines = run(f"""{RENEWED}
held = os.environb[b"BOTH"]
print(renew(changed(BOTH="new")), held, os.environb[b"BOTH"])
""")
    assert lines == ["True b'old' b'new'"]


def test_what_the_program_had_changed_stays_changed_in_place(run):
    lines = run(f"""{CHANGES}{RENEWED}
print(renew(changed(BOTH="new", CHANGED="ano", REMOVED="ano", SECRET="another as long.")))
print(os.environ["CHANGED"], os.environ["SET"], "REMOVED" in os.environ, os.environ["BOTH"], os.environ["SECRET"])
""")
    assert lines == ["True", "by the program by the program False new another as long."]


@pytest.mark.parametrize("entries", ["start[::-1]", "start[1:]", "[*start, b'ONE=more']", "[*start, start[0]]"])
def test_other_variables_are_made_anew_in_their_own_order(run, entries):
    lines = run(f"""{RENEWED}
entries = {entries}
print(renew(entries), list(posix.environ) == list(dict.fromkeys(entry.split(b"=")[0] for entry in entries)))
print(os.environ["SECRET"] if "SECRET" in os.environ else "none")
""")
    assert lines == ["False True", OLD["SECRET"]]


def test_what_the_program_removed_is_removed_from_the_c_library_in_place_too(run):
    lines = run(f"""
os.environ.pop("REMOVED"); del os.environ["BOTH"]
{RENEWED}
import subprocess
print(renew(changed(REMOVED="ano", BOTH="new", OLD="only the ol!")), "REMOVED" in os.environ)
out = subprocess.run(["env"], capture_output=True, text=True).stdout
print([line for line in out.splitlines() if line.split("=")[0] in ("REMOVED", "BOTH", "OLD")])
""")
    assert lines == ["True False", "['OLD=only the ol!']"]


def test_what_only_the_dict_lost_keeps_its_value_in_the_c_library(run):
    lines = run(f"""
import posix
posix.environ.pop(b"BOTH")
{RENEWED}
import subprocess
print(renew(changed(BOTH="new")), "BOTH" in os.environ)
print(subprocess.run(["printenv", "BOTH"], capture_output=True).stdout)
""")
    assert lines == ["True False", "b'new\\n'"]
