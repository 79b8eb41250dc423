"""No two resumed processes draw the same random numbers, and one whose library can't be reseeded does not go on."""

import textwrap

import pytest
from resumed_harness import PRELUDE

GENERATORS = {
    "random": "import random; draw = random.random",
    "numpy": "import numpy.random; draw = numpy.random.random",
    "numpy with a gaussian left over": "import numpy.random; numpy.random.normal(); draw = numpy.random.normal",
    "numpy's names": "from numpy.random import random as draw",
    "uuid1": "import uuid; uuid.uuid1(); draw = lambda: uuid.uuid1()",
    "uuid4": "from uuid import uuid4 as draw",
    "ssl": "import ssl; ssl.RAND_bytes(8); draw = lambda: ssl.RAND_bytes(8)",
    "secrets": "import secrets; draw = secrets.token_hex",
    "tempfile": "import tempfile; tempfile.mktemp(); os.getpid = lambda: 7; draw = lambda: tempfile.mktemp()",
    "multiprocessing": "import multiprocessing; draw = lambda: bytes(multiprocessing.current_process().authkey)",
}


@pytest.fixture
def run(program):
    return lambda source: program(f"{PRELUDE}\n{textwrap.dedent(source)}").run()[0].splitlines()


@pytest.mark.parametrize("name", GENERATORS)
def test_resumed_processes_draw_different_numbers(run, name):
    lines = run(f"{GENERATORS[name]}\ndraw()\ncommit(n=20)\nprint(draw())")
    assert len(lines) == len(set(lines)) == 20


@pytest.mark.parametrize("name", ["numpy", "uuid1"])
def test_without_us_they_would_draw_the_same(run, name):
    draw = "print(draw().clock_seq if name == 'uuid1' else draw())"
    lines = run(f"""
from magicheap import _reseed
_reseed.take_up = lambda kept: None
name = {name!r}
{GENERATORS[name]}
draw()
commit(n=5)
{draw}
""")
    assert len(lines) == 5 and len(set(lines)) == 1


def test_a_module_that_has_drawn_nothing_is_left_alone(run):
    lines = run("""
import tempfile
from magicheap import _reseed
for _ in range(2):
    print("tempfile" in dict(_reseed.prepare(False).steps))
    tempfile.mktemp()
""")
    assert lines == ["False", "True"]


def test_every_loaded_openssl_is_given_entropy(run):
    lines = run("""
import ctypes, ssl
from magicheap import _reseed
kept = _reseed.prepare(False)
(step,) = [step for name, step in kept.steps if "libcrypto" in name]
given = []
step._add = lambda *arguments: given.append(arguments)
_reseed.take_up(kept)
_reseed.take_up(kept)
print(len(given), given[0][0] != given[1][0], given[0][1:])
""")
    assert lines == ["2 True (32, 32)"]


def test_uuid1_has_a_clock_sequence_of_each_process(run):
    lines = run("import uuid; uuid.uuid1(); commit(n=10); print(uuid.uuid1().clock_seq)")
    assert len(set(lines)) > 5  # 14 bits may meet, but not this often


def test_uuid1_has_a_clock_sequence_of_each_child_of_a_resumed_process(run):
    lines = run("""
import uuid; commit()
for _ in range(5):
    if os.fork() == 0:
        print(uuid.uuid1().clock_seq, flush=True)
        os._exit(0)
    os.wait()
print(uuid.uuid1().clock_seq)
""")
    assert len(set(lines)) > 3  # of 6: two of 16384 may be equal


def test_uuid1_keeps_time_and_node(run):
    lines = run("""
import uuid
node = uuid.uuid1().node
commit(n=3)
first, second = uuid.uuid1(), uuid.uuid1()
print(first.node == node, first.variant == uuid.RFC_4122, first.version, first.time < second.time,
    first.clock_seq == second.clock_seq)
""")
    assert lines == ["True True 1 True True"] * 3


def test_a_key_that_the_program_chose_stays(run):
    lines = run("""
import multiprocessing
multiprocessing.current_process().authkey = b"chosen"
commit()
print(bytes(multiprocessing.current_process().authkey))
""")
    assert lines == ["b'chosen'"]


def test_what_is_not_loaded_is_not_imported(run):
    assert run("commit()\nprint({'numpy', 'ssl', 'uuid', 'multiprocessing'} & set(sys.modules))") == ["set()"]


def test_a_library_that_cannot_be_reseeded_is_named(run):
    lines = run("""
import numpy.random
from magicheap import _reseed
kept = _reseed.prepare(False)
numpy.random.mtrand._rand = None
try: _reseed.take_up(kept)
except _reseed.ReseedError as error: print(error)
""")
    assert lines == [
        "numpy.random.mtrand could not be reseeded: AttributeError: 'NoneType' object has no attribute '_bit_generator'"
    ]
