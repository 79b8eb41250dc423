"""What a resumed process finds around it is what it was started with, never what the commit had."""

import os
import resource
import signal

import pytest
from process_fixtures import LAUNCHER, PYTHON

START = """
import ctypes, json, os, resource, signal, subprocess, sys, threading
from magicheap import magic_transaction
{before}
with magic_transaction("x.magic"):
    print("body")
    {body}
{after}
"""


def program(after, before="", body=""):
    """A program that commits, then runs `after`."""
    return START.format(after=after, before=before, body=body)


def test_python_c_and_children_see_the_new_environment(life):
    life.write(
        program("""
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
name = "MINE"
print(os.environ.get(name), libc.getenv(name.encode()), os.getenv("GONE"), libc.getenv(b"GONE"), flush=True)
subprocess.run(["/bin/sh", "-c", "echo $MINE $GONE"])
os.environ[name] = "changed"
print(libc.getenv(name.encode()), flush=True)
os.system("echo $MINE")
""")
    )
    expected = "{0} b'{0}' None None\n{0}\nb'changed'\nchanged\n"
    life.cold("python", "program.py", env={"MINE": "first", "GONE": "here"})
    for how in ("magic", "python"):
        assert life.warm(how, "program.py", env={"MINE": "second"}) == expected.format("second")
    assert life.warm("magic", "program.py", env={"MINE": "x" * 100_000}) == expected.format("x" * 100_000)
    assert life.warm("magic", "program.py") == "None None None None\n\nb'changed'\nchanged\n"


def test_no_secret_of_the_committing_environment_is_in_the_file(life):
    life.write(
        program(
            "",
        )
    )
    life.cold("python", "program.py", env={"MY_TOKEN": "secret-0123456789abcdef"})
    assert b"secret-0123456789abcdef" not in (life.directory / "x.magic").read_bytes()


def test_a_run_that_asks_is_told_that_it_is_warm(life):
    life.write(program(""))
    assert "body" in life.run("magic", "program.py", env={"MAGICHEAP_LOG": None}).out
    assert life.run("magic", "program.py", env={"MAGICHEAP_LOG": None}).log == []
    for how in ("magic", "python"):
        assert life.run(how, "program.py", env={"MAGICHEAP_LOG": "info"}).log[-1].startswith("warm: ")


def test_a_run_that_asks_by_another_value_is_told_too(life):
    life.write(program(""))
    assert "body" in life.run("magic", "program.py", env={"MAGICHEAP_LOG": "none"}).out
    assert life.run("magic", "program.py", env={"MAGICHEAP_LOG": "info"}).log[-1].startswith("warm: ")


def test_the_working_directory_is_the_new_one(life):
    path = life.write(program("print(os.getcwd(), os.path.abspath('x'))"))
    path.write_text(path.read_text().replace('"x.magic"', repr(str(life.directory / "x.magic"))))
    life.cold("python", path)
    (life.directory / "other").mkdir()
    assert (
        life.warm("magic", path, cwd=life.directory / "other") == f"{life.directory}/other {life.directory}/other/x\n"
    )


def test_a_working_directory_that_is_gone_is_no_hindrance(life):
    path = life.write(program("print(os.path.exists('.'))").replace('"x.magic"', repr(str(life.directory / "x.magic"))))
    life.cold("python", path)
    (life.directory / "gone").mkdir()
    assert life.warm("/bin/sh", "-c", f"cd gone && rmdir ../gone && exec {LAUNCHER} {path}") == "True\n"


def test_umask_limits_and_nice_value_are_the_new_ones(life):
    shown = "oct(os.umask(0)), resource.getrlimit(resource.RLIMIT_NOFILE)[0], os.getpriority(os.PRIO_PROCESS, 0)"
    life.write(program(f"print({shown})"))

    def settle():
        os.umask(0o027)
        resource.setrlimit(resource.RLIMIT_NOFILE, (77, 99))
        os.nice(3)

    plain = life.cold("python", "program.py")
    assert life.warm("magic", "program.py", preexec_fn=settle) == f"0o27 77 {os.nice(0) + 3}\n" != plain


def test_process_and_thread_ids_are_its_own(life):
    life.write(
        program("""
thread = threading.Thread(target=lambda: print(threading.get_native_id() != os.getpid()))
thread.start(); thread.join()
libc = ctypes.CDLL(None)
print(os.getpid(), threading.get_native_id(), threading.main_thread().native_id, libc.gettid(),
    os.path.basename(os.readlink("/proc/self")))
print(os.getppid(), os.getsid(0) == os.getsid(os.getppid()))
""")
    )
    life.cold("python", "program.py")
    with life.start("magic", "program.py") as process:
        out = process.communicate(timeout=60)[0]
    pid = process.pid
    assert out == f"True\n{pid} {pid} {pid} {pid} {pid}\n{os.getpid()} True\n"


SIGNALS = """
names = "HUP INT USR1 USR2 PIPE CHLD XFSZ".split()
print([repr(signal.getsignal(getattr(signal, "SIG" + name))).split(" at ")[0] for name in names])
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
os.kill(os.getpid(), signal.SIGUSR1)
print(open("/proc/self/status").read().split("SigBlk:")[1].split("\\nCapInh")[0].split(), flush=True)
subprocess.run(["/bin/sh", "-c", "kill -HUP $$; echo survived"])
os.kill(os.getpid(), signal.SIGHUP)
print("survived")
"""


def ignore():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def ignore_and_block():
    ignore()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])


@pytest.mark.parametrize("at_commit", [None, ignore, ignore_and_block], ids=["plain", "ignored", "blocked"])
def test_signals_that_whoever_starts_a_run_ignores_or_blocks_stay_so(life, at_commit):
    handler = "def print_it(number, frame): print('handled', number, flush=True)"
    life.write(program(SIGNALS, before=handler, body="signal.signal(signal.SIGUSR1, print_it)"))
    life.cold("python", "program.py", preexec_fn=at_commit, status=0 if at_commit else -signal.SIGHUP)
    for now, status in ((ignore_and_block, 0), (None, -signal.SIGHUP)):
        plain = life.run("python", "program.py", preexec_fn=now, status=status, env={"MAGICHEAP_DISABLE": "1"})
        if now is not at_commit:  # a variant of its own
            assert life.cold("magic", "program.py", preexec_fn=now, status=status) == plain.out.replace("body\n", "")
        warm = life.warm("magic", "program.py", preexec_fn=now, status=status)
        assert warm == plain.out.replace("body\n", "")


STACK = """
import sys, threading
from magicheap import magic_transaction
sys.setrecursionlimit(10**6)
def python(n):
    return n and 1 + python(n - 1)
class Key:
    def __init__(self, n): self.n = n
    def __repr__(self): return self.n and repr(Key(self.n - 1)) or "bottom"  # through C
with magic_transaction("x.magic"):
    print("body")
n = int(sys.argv[1])
print(python(n), repr(Key(n)))
"""


@pytest.mark.parametrize(("limit_mb", "depth"), [(8, 9000), (64, 80_000)])
def test_the_stack_grows_to_its_limit(life, limit_mb, depth):
    life.write(STACK)

    def limit():
        resource.setrlimit(resource.RLIMIT_STACK, (limit_mb << 20, resource.RLIM_INFINITY))

    life.cold("python", "program.py", 10)
    plain = life.run("python", "program.py", depth, env={"MAGICHEAP_DISABLE": "1"}, preexec_fn=limit).out.replace(
        "body\n", ""
    )
    assert life.warm("magic", "program.py", depth, preexec_fn=limit) == plain == f"{depth} bottom\n"


def test_a_stack_beyond_its_limit_ends_as_in_plain_python(life):
    life.write(STACK)
    life.cold("python", "program.py", 10)
    for env in ({"MAGICHEAP_DISABLE": "1"}, {}):
        with life.start("magic", "program.py", 500_000, env=env) as process:
            process.communicate(timeout=60)
        assert process.returncode == -signal.SIGSEGV


def test_malloc_goes_on_far_beyond_the_old_heap(life):
    life.write(
        program("""
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
blocks = [libc.malloc(100_000) for _ in range(5000)]
assert all(blocks) and len(set(blocks)) == 5000
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks:
    libc.free(block)
print(len(bytearray(300 << 20)), sum(len([0] * 1000) for _ in range(10_000)))
""")
    )
    assert life.cold("python", "program.py") == life.warm("magic", "program.py") == f"{300 << 20} 10000000\n"


def test_streams_threads_and_stacks_are_noticed_when_they_alone_differ(life):
    """What says that all of them are as they were must notice each."""
    life.write(
        program(
            """
controller = threadpoolctl.ThreadpoolController().lib_controllers[0]
libc, attributes, size = ctypes.CDLL(None), ctypes.create_string_buffer(56), ctypes.c_size_t()
libc.pthread_getattr_default_np(attributes)
libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
print(sys.stdout.seekable(), controller.num_threads, size.value >> 20)
""",
            body="import numpy, threadpoolctl",
        )
    )
    cpus = sorted(os.sched_getaffinity(0))
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]

    def start(n_cpus, n_mib):
        os.sched_setaffinity(0, cpus[:n_cpus])
        resource.setrlimit(resource.RLIMIT_STACK, (n_mib << 20, hard))

    def warm(n_cpus=2, n_mib=8, **options):
        return life.warm("magic", "program.py", preexec_fn=lambda: start(n_cpus, n_mib), **options)

    life.cold("magic", "program.py", preexec_fn=lambda: start(2, 8))
    n_cpus = min(2, len(cpus))
    assert warm() == f"False {n_cpus} 8\n"
    assert warm(n_cpus=1) == "False 1 8\n"
    assert warm(n_mib=16) == f"False {n_cpus} 16\n"
    with open(life.directory / "out", "w+") as out:
        warm(stdout=out)
        assert out.seek(0) == 0 and out.read() == f"True {n_cpus} 8\n"


# Each as long as the first one, and the other way round.
ZONES = ["UTC", "CET", "EET", "EST5EDT", "PST8PDT", None, "UTC"]


@pytest.mark.parametrize("loads", ["json", "time"])
def test_the_time_zone_is_the_runs_own_whatever_its_length(life, loads):
    life.write(f"""
    from magicheap import magic_transaction
    with magic_transaction("x.magic"):
        print("body", flush=True)
        import {loads}
    import time
    print(time.tzname, time.localtime(0).tm_hour)
    """)
    life.cold("magic", "program.py", env={"TZ": "UTC"})
    for zone in ZONES:
        plain = life.run("python", "program.py", env={"TZ": zone, "MAGICHEAP_DISABLE": "1"}).out
        ran = life.run("magic", "program.py", env={"TZ": zone})
        assert ran.out.removeprefix("body\n") == plain.removeprefix("body\n"), zone


RAW = """
import ctypes, os, sys
names = sys.argv[1].encode().split(b",")
words = [word.encode() for word in sys.argv[2:]]
entries = [*names, *(name + b"=" + value for name, value in os.environb.items())]
array = lambda items: (ctypes.c_char_p * (len(items) + 1))(*items)
ctypes.CDLL(None).execve(words[0], array(words), array(entries))
"""


@pytest.mark.parametrize("entries", ["=w,ONE=1", "=C:=x,ONE=1", "AA=1,AA=2", "NOTHING,ONE=1"])
def test_an_environment_that_no_shell_would_make_is_as_in_a_plain_run(life, entries):
    life.write(RAW, "raw.py")
    life.write("""
    from magicheap import magic_transaction
    with magic_transaction("x.magic"):
        print("body", flush=True)
    import ctypes, os
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    print([os.environb.get(name) for name in (b"", b"ONE", b"AA")], getenv(b"AA"), getenv(b"ONE"))
    """)
    plain = life.run("python", "raw.py", entries, PYTHON, "program.py", env={"MAGICHEAP_DISABLE": "1"}).out
    for command in ([LAUNCHER], [LAUNCHER], [PYTHON]):
        out = life.run("python", "raw.py", entries, *command, "program.py").out
        assert out.removeprefix("body\n") == plain.removeprefix("body\n")
