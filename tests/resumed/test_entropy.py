"""What was seeded from entropy differs in each resumed process; what was seeded explicitly is as in a plain run; and
who can't be told is named."""

import os
import shutil
import subprocess

import pytest

N_RUNS = 4

USE_SQLITE = "import sqlite3; db = sqlite3.connect(':memory:'); db.execute('select random()').fetchone()"

# What is made in the body, and what is drawn from it behind the with.
DRAWN = {
    "random.Random": ("import random; r = random.Random()", "r.random()"),
    "a Random that was reseeded from entropy": ("import random; r = random.Random(7); r.seed()", "r.random()"),
    "a Random with a gaussian left over": ("import random; r = random.Random(); r.gauss(0, 1)", "r.gauss(0, 1)"),
    "a Random seeded by bytes of the kernel's": ("import os, random; r = random.Random(os.urandom(16))", "r.random()"),
    "a Random seeded by a number of the kernel's": (
        "import os, random; r = random.Random(int.from_bytes(os.urandom(8), 'little'))",
        "r.random()",
    ),
    "a Random that was put back": (
        "import random; r = random.Random(); s = r.getstate(); r.seed(7); r.setstate(s)",
        "r.random()",
    ),
    "a subclass of Random": ("import random\n    class Mine(random.Random): pass\n    r = Mine()", "r.random()"),
    "random itself, put back": (
        "import random; s = random.getstate(); random.seed(7); random.setstate(s)",
        "random.random()",
    ),
    "default_rng": ("import numpy; r = numpy.random.default_rng()", "r.random()"),
    "a generator of a drawn seed": (
        "import numpy, secrets; r = numpy.random.default_rng(secrets.randbits(128))",
        "r.random()",
    ),
    "MT19937": ("import numpy; r = numpy.random.Generator(numpy.random.MT19937())", "r.random()"),
    "SFC64": ("import numpy; r = numpy.random.Generator(numpy.random.SFC64())", "r.random()"),
    "Philox": ("import numpy; r = numpy.random.Generator(numpy.random.Philox())", "r.random()"),
    "a spawned generator": ("import numpy; r = numpy.random.default_rng().spawn(2)[1]", "r.random()"),
    "a SeedSequence": ("import numpy; r = numpy.random.SeedSequence()", "r.spawn(1)[0].generate_state(2)"),
    "RandomState": ("import numpy; r = numpy.random.RandomState()", "r.random()"),
    "a RandomState with a gaussian left over": (
        "import numpy; r = numpy.random.RandomState(); r.normal()",
        "r.normal()",
    ),
    "numpy.random": ("import numpy", "numpy.random.random()"),
    "numpy.random with another generator": ("import numpy.random as r; r.set_bit_generator(r.PCG64())", "r.random()"),
    "SQLite": (USE_SQLITE, "db.execute('select random(), hex(randomblob(8))').fetchone()"),
}

SEEDED = {
    "random.Random": ("import random; r = random.Random(7)", "r.random()"),
    "a Random that was reseeded": ("import random; r = random.Random(); r.seed('seven')", "r.random()"),
    "a Random with a negative seed": ("import random; r = random.Random(-7)", "r.random()"),
    "a Random with a huge seed": ("import random; r = random.Random(7**999)", "r.random()"),
    "a state put into a Random": (
        "import random; r = random.Random(); r.setstate(random.Random(7).getstate())",
        "r.random()",
    ),
    "random itself": ("import random; random.seed(7); random.gauss(0, 1)", "random.gauss(0, 1), random.random()"),
    "default_rng": ("import numpy; r = numpy.random.default_rng(7)", "r.random()"),
    "a long list": ("import numpy; r = numpy.random.default_rng([2**31] * 8)", "r.random()"),
    "a SeedSequence": ("import numpy; r = numpy.random.SeedSequence(7)", "r.spawn(1)[0].generate_state(2)"),
    "RandomState": ("import numpy; r = numpy.random.RandomState(7); r.normal()", "r.normal()"),
    "numpy.random": ("import numpy; numpy.random.seed(7)", "numpy.random.random()"),
    "numpy.random with another generator": ("import numpy.random as r; r.set_bit_generator(r.PCG64(7))", "r.random()"),
}


def program(body, draw, options=""):
    return f"""
from magicheap import magic_transaction

with magic_transaction({options}):
    print("body")
    {body}
print({draw})
"""


@pytest.mark.parametrize("name", DRAWN)
def test_what_was_seeded_from_entropy_differs_in_each_resumed_process(life, name):
    life.write(program(*DRAWN[name]))
    found = [life.cold("magic", "program.py"), *(life.warm("magic", "program.py") for _ in range(N_RUNS))]
    assert len(set(found)) == N_RUNS + 1


@pytest.mark.parametrize("name", SEEDED)
def test_what_was_seeded_explicitly_is_as_in_a_plain_run(life, name):
    life.write(program(*SEEDED[name]))
    plain = life.run("python", "program.py", env={"MAGICHEAP_DISABLE": "1"}.items()).out.replace("body\n", "")
    found = {life.cold("magic", "program.py"), life.warm("magic", "program.py"), life.warm("python", "program.py")}
    assert found == {plain}


def test_copies_of_a_generator_stay_copies(life):
    life.write(
        program(
            "import copy, random; r = random.Random(); s = copy.deepcopy(r)", "r.random() == s.random(), r.random()"
        )
    )
    life.cold("magic", "program.py")
    found = {life.warm("magic", "program.py") for _ in range(N_RUNS)}
    assert len(found) == N_RUNS and all(line.startswith("True ") for line in found)


def test_layers_have_other_numbers_than_what_they_lie_on(life):
    life.write("""
from magicheap import magic_transaction

with magic_transaction():
    print("body")
    import random, numpy
    r, g, s = random.Random(), numpy.random.default_rng(), numpy.random.default_rng(7)
with magic_transaction("layer.magic"):
    print("body")
    random.random()
print(r.random(), g.random(), numpy.random.random(), random.random(), s.random())
""")
    life.cold("python", "program.py")
    life.run("python", "program.py")
    found = [life.run("python", "program.py") for _ in range(N_RUNS)]
    assert not any("body" in each.out for each in found)
    for column in list(zip(*(each.out.split() for each in found), strict=True))[:4]:
        assert len(set(column)) == N_RUNS
    assert len({each.out.split()[4] for each in found}) == 1


# ---- who can't be told ----

LIBRARY = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>
static char b[32];
int draw_getrandom(void) { return getrandom(b, sizeof b, 0); }
int draw_getentropy(void) { return getentropy(b, sizeof b); }
int draw_syscall(void) { return syscall(SYS_getrandom, b, sizeof b, 0); }
int draw_device(void) { int fd = open("/dev/urandom", O_RDONLY); return read(fd, b, sizeof b) + close(fd); }
int draw_auxv(void) { return ((char *)getauxval(AT_RANDOM))[0]; }
int draw_insecure(void) { return getrandom(b, 16, GRND_INSECURE); }
int draw_nothing(void) { return syscall(SYS_getppid) + getauxval(AT_PAGESZ); }
"""


@pytest.fixture
def library(life):
    if shutil.which("gcc") is None:
        pytest.skip("there is no compiler")
    (life.directory / "drawing.c").write_text(LIBRARY)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "drawing.so", "drawing.c"], cwd=life.directory, check=True)
    return f"import ctypes; own = ctypes.CDLL('{life.directory}/drawing.so'); own.draw_"


@pytest.mark.parametrize("way", ["getrandom", "getentropy", "syscall", "device", "auxv"])
def test_library_that_draws_and_is_unknown_is_named_once(life, library, way):
    life.write(program(f"{library}{way}(); own.draw_{way}()", 0))
    ran = life.run("python", "program.py")
    assert ran.has_committed and ran.err.count("MagicHeapWarning") == 1 and ran.err.count("drawing.so") == 1
    assert life.run("python", "program.py").err == ""


@pytest.mark.parametrize("way", ["insecure", "nothing"])
def test_library_that_seeds_nothing_is_not_named(life, library, way):
    life.write(program(f"{library}{way}()", 0))
    life.cold("python", "program.py")
    life.warm("python", "program.py")


def test_strict_transaction_is_not_committed_where_a_library_is_unknown(life, library):
    life.write(program(f"{library}getrandom()", 0, "strict=True"))
    ran = life.run("python", "program.py")
    assert not ran.has_committed and "was not made" in ran.err and "drawing.so" in ran.err and ran.out == "body\n0\n"


def test_strict_transaction_is_committed_where_all_are_known(life):
    life.write(
        program(
            "import hashlib, random, ssl, sqlite3, uuid; ssl.RAND_bytes(8); random.random(); uuid.uuid1()",
            0,
            "strict=True",
        )
    )
    life.cold("python", "program.py")
    life.warm("python", "program.py")


def test_generator_made_before_anybody_watched_is_named_and_makes_each_run_cold(life):
    life.write("import random\nearly = random.Random()\n" + program("pass", "early.random()"))
    ran = life.run("python", "program.py")
    assert ran.err.count("MagicHeapWarning") == 1 and "random.Random made before magicheap watched" in ran.err
    found = [life.run("python", "program.py") for _ in range(3)]  # each brings one in another state
    assert len({each.out for each in found}) == 3 and all("early=" in each.reason for each in found)


def test_generator_of_numpy_made_before_the_transaction_is_named(life):
    life.write(
        "from magicheap import magic_transaction\nwith magic_transaction('first.magic'): pass\n"  # watched up to here
        "import numpy\nearly, given = numpy.random.default_rng(), numpy.random.default_rng(7)\n"
        + program("pass", "early.random()")
    )
    assert "a generator of numpy's that was made before the transaction" in life.run("python", "program.py").err


def test_sqlite_that_exports_nothing_is_reset_by_opening_a_file(life):
    life.write(program(USE_SQLITE, "db.execute('select random()').fetchone()"))
    hide = """
import runpy
from magicheap import _drawers

_drawers._sqlite_of = lambda path: _drawers._reset_by_opening if "_sqlite3." in path else None
runpy.run_path("program.py")
"""
    life.write(hide, "hiding.py")
    life.run("python", "hiding.py")
    found = [life.run("python", "hiding.py").out for _ in range(N_RUNS)]
    assert len(set(found)) == N_RUNS and not any("body" in out for out in found)


def test_resumed_process_has_random_bytes_of_its_own_in_the_auxiliary_vector(life):
    life.write(
        program(
            "import ctypes; c = ctypes.CDLL(None); c.getauxval.restype = ctypes.c_void_p",
            "ctypes.string_at(c.getauxval(25), 16)",
        )
    )
    life.cold("magic", "program.py")
    assert len({life.warm("magic", "program.py") for _ in range(N_RUNS)}) == N_RUNS


def test_auxiliary_vector_is_that_of_the_program(life):
    read = (
        "dict((k, v) for k, v in zip(*[iter(__import__('array').array('L', open('/proc/self/auxv', "
        "'rb').read()))] * 2))"
    )
    checked = "[v[k] == c.getauxval(k) for k in (3, 4, 5, 7, 9, 25, 33) if k in v]"
    life.write(
        program(
            "import ctypes; c = ctypes.CDLL(None); c.getauxval.restype = ctypes.c_ulong",
            f"[{checked} for v in [{read}]]",
        )
    )
    life.cold("magic", "program.py")
    assert set(eval(life.warm("magic", "program.py"))[0]) == {True}


@pytest.mark.skipif(shutil.which("gdb") is None, reason="there is no gdb")
def test_debugger_sees_libraries_and_functions_of_a_resumed_process(life):
    life.write(program("import time", "flush=True, end='running\\n') or time.sleep(60"))
    with life.start("magic", "program.py") as first:
        assert first.stdout.readline() == "body\n" and first.stdout.readline() == "running\n"
        first.kill()
    with life.start("magic", "program.py") as process:
        assert process.stdout.readline() == "running\n"
        command = [
            "gdb",
            "-q",
            "-batch",
            "-nx",
            "-p",
            str(process.pid),
            "-ex",
            "info sharedlibrary",
            "-ex",
            "backtrace",
        ]
        seen = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "DEBUGINFOD_URLS": ""}
        )
        process.kill()
    if "ptrace" in seen.stderr:
        pytest.skip("this process may trace no other")
    assert "libc.so" in seen.stdout and "sleep" in seen.stdout, seen
