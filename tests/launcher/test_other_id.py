"""No resumed process has the process id of one whose memory it is: a small parent has it instead, and nothing else is
different."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from process_fixtures import LAUNCHER, PYTHON
from running import TIMEOUT_S

PROGRAM = """
import os, signal, sys, time
from magicheap import magic_transaction

with magic_transaction():
    print("body")
    import ctypes, random, sqlite3, ssl, uuid
    import numpy
    ssl.RAND_bytes(8)
    uuid.uuid1()
    made, rng = random.Random(), numpy.random.default_rng()
    db = sqlite3.connect(":memory:")
    db.execute("select random()").fetchone()
exec(sys.argv[1])
"""
SHOW = "print(os.getpid(), os.getppid(), flush=True)"
DRAW = (
    "print(ssl.RAND_bytes(8).hex(), uuid.uuid1().clock_seq, uuid.uuid4(), random.random(), made.random(), "
    "rng.random(), numpy.random.random(), "
    "*db.execute('select random()').fetchone())"
)
N_PROCESSES = 50


def can_unshare():
    return (
        shutil.which("unshare") is not None
        and subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True).returncode == 0
    )


pytestmark = pytest.mark.skipif(not can_unshare(), reason="this user may make no process namespaces")


@pytest.fixture
def container(life):
    """Run the program as process 1 of a namespace; the snapshot is that of one, too."""
    life.write(PROGRAM)
    command = ["unshare", "-pf", "--kill-child", "--mount-proc", str(LAUNCHER), "program.py"]
    assert life.run(*command, SHOW).out == "body\n1 0\n"
    life.in_container = command
    return life


def test_program_of_a_container_goes_on_as_process_two(container):
    assert container.warm(*container.in_container, SHOW) == "2 1\n"


def test_python_in_a_container_does_too(container):
    command = [*container.in_container[:4], str(PYTHON), "program.py", SHOW]
    container.run(*command)
    assert container.warm(*command) == "2 1\n"


def test_process_whose_id_is_unknown_to_the_snapshot_keeps_it(container):
    with container.start("magic", "program.py", SHOW) as process:
        assert process.communicate(timeout=TIMEOUT_S)[0] == f"{process.pid} {os.getpid()}\n"


def test_layer_knows_the_ids_of_those_below(life):
    life.write("""
import os, sys
from magicheap import magic_transaction

with magic_transaction():
    print("body")
if sys.argv[1] == "layer":
    with magic_transaction("layer.magic"):
        print("body")
print(os.getpid())
""")
    command = ["unshare", "-pf", "--mount-proc", str(LAUNCHER), "program.py"]
    assert life.run(*command, "base").out == "body\n1\n"
    assert life.run(*command, "layer").out == "body\n2\n"  # resumed the base, and committed what lies on it
    assert life.run(*command, "layer").out == "3\n"


def test_no_child_of_a_resumed_process_has_a_known_id_either(life):
    life.write(PROGRAM)
    start = (
        "import subprocess, sys; [subprocess.run(['true']) for _ in range(int(sys.argv[1]))]; "
        "sys.exit(subprocess.run(sys.argv[2:]).returncode)"
    )
    command = ["unshare", "-pf", "--mount-proc", str(PYTHON), "-c", start]
    assert life.run(*command, 5, LAUNCHER, "program.py", "print(os.getpid())").out == "body\n7\n"
    code = """
import threading
print(os.getpid(), flush=True)
for status in range(8):
    child = os.fork()
    if child == 0:
        assert threading.get_native_id() == os.getpid() == ctypes.CDLL(None).gettid()
        print(os.getpid(), flush=True)
        os._exit(status)
    assert os.waitpid(child, 0) == (child, status << 8)
"""
    assert life.warm(*command, 0, LAUNCHER, "program.py", code).split() == [
        "2",
        "3",
        "4",
        "5",
        "6",
        "8",
        "9",
        "10",
        "11",
    ]


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_exit_status_is_that_of_the_program(container, status):
    container.run(*container.in_container, f"os._exit({status})", status=status)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV"])
def test_process_one_that_cannot_end_by_a_signal_ends_with_its_number(container, name):
    number = getattr(signal, name)
    container.run(
        *container.in_container,
        f"signal.signal({number}, 0) if {number} != 9 else 0; os.kill(os.getpid(), {number})",
        status=128 + number,
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV"])
def test_parent_that_is_not_process_one_ends_by_the_signal_of_the_program(life, name):
    number = getattr(signal, name)
    life.write(PROGRAM)
    # process 1; the program is process 2
    start = "import subprocess, sys; print(subprocess.run(sys.argv[1:]).returncode)"
    command = ["unshare", "-pf", "--mount-proc", str(PYTHON), "-c", start, str(LAUNCHER), "program.py"]
    assert life.run(*command, SHOW).out == "body\n2 1\n0\n"
    code = f"{SHOW}; signal.signal({number}, 0) if {number} != 9 else 0; os.kill(os.getpid(), {number})"
    assert life.run(*command, code).out == f"3 2\n{-number}\n"


TERMINAL = """
import os, pty, signal, subprocess, sys, time

pid, terminal = pty.fork()
if pid == 0:  # what a shell does
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = subprocess.Popen(sys.argv[1:], process_group=0)
    os.tcsetpgrp(0, job.pid)
    how = os.waitpid(job.pid, os.WUNTRACED)[1]
    if os.WIFSTOPPED(how):
        print("stopped by", os.WSTOPSIG(how))
        os.killpg(job.pid, signal.SIGCONT)
        how = os.waitpid(job.pid, 0)[1]
    print("ended with", os.waitstatus_to_exitcode(how), flush=True)
    os._exit(0)
seen = b""
while True:
    try:
        seen += os.read(terminal, 1000)
    except OSError:
        break
    for word, key in ((b"press z", b"\x1a"), (b"press c", b"\x03")):
        if word in seen:
            seen = seen.replace(word, b"pressed")
            os.write(terminal, key)
print(seen.decode())
"""


def test_keys_of_a_terminal_stop_continue_and_interrupt_as_for_one_process(life):
    life.write(PROGRAM)
    life.write(TERMINAL, "terminal.py")
    life.env["MAGICHEAP_LOG"] = "none"
    command = ["unshare", "-pf", "--mount-proc", str(PYTHON), "terminal.py", str(LAUNCHER), "program.py"]
    assert "body\n3 2\nended with 0" in life.run(*command, SHOW).out
    code = f"""
{SHOW}
n = []
signal.signal(signal.SIGINT, lambda *_: n.append(1))
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"continued; press c"))
print("press z", flush=True)
while not n:
    time.sleep(0.01)
time.sleep(0.2)
print("interrupts", len(n))
sys.exit(5)
"""
    seen = life.run(*command, code).out
    assert "4 3\n" in seen and "stopped by 19" in seen and "interrupts 1\n" in seen and "ended with 5" in seen, seen


def test_signals_reach_the_program(container):
    code = (
        "signal.signal(signal.SIGUSR1, lambda *_: (os.write(1, b'got it'), os._exit(3))); print('ready', flush=True)\n"
    )
    code += "while True: time.sleep(0.01)"  # a signal just before a long one is handled behind it
    with container.start(*container.in_container, code) as process:
        assert process.stdout.readline() == "ready\n"
        process.stderr.readline()
        (inner,) = children(process.pid)
        os.kill(inner, signal.SIGUSR1)
        assert (*process.communicate(timeout=TIMEOUT_S), process.returncode) == ("got it", "", 3)


def children(pid):
    return [int(number) for number in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def test_program_ends_with_its_parent(container):
    with container.start(*container.in_container, "print('ready', flush=True); time.sleep(60)") as process:
        assert process.stdout.readline() == "ready\n"
        (inner,) = children(process.pid)
        (program,) = children(inner)
        os.kill(inner, signal.SIGKILL)
        process.wait(TIMEOUT_S)
        wait_until(lambda: not os.path.exists(f"/proc/{program}"))


def wait_until(is_true):
    end = time.monotonic() + TIMEOUT_S
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_parent_holds_nothing_open(container):
    with container.start(
        *container.in_container, "print('ready', flush=True); os.close(0); os.close(1); os.close(2); time.sleep(60)"
    ) as process:
        assert process.stdout.readline() == "ready\n"
        (inner,) = children(process.pid)
        wait_until(lambda: os.listdir(f"/proc/{inner}/fd") == [])
        process.kill()


def test_orphans_are_waited_for(container):
    code = """
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(0.05)
        os._exit(0)
    os._exit(0)
os.wait()
end = time.monotonic() + 30
while len([name for name in os.listdir("/proc") if name.isdigit()]) > 2 and time.monotonic() < end:
    time.sleep(0.01)
print(sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
"""
    assert container.warm(*container.in_container, code) == "[1, 2]\n"


def test_ignored_and_blocked_signals_are_those_of_the_start(container):
    show = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn'))])"
    exotic = (
        "import os, signal, sys; signal.signal(17, signal.SIG_IGN); signal.pthread_sigmask(0, [10]); "
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    start = [str(PYTHON), "-c", exotic]
    plain = container.run(*start, *container.in_container, show, env={"MAGICHEAP_DISABLE": "1"}.items()).out.replace(
        "body\n", ""
    )
    assert container.cold(*start, *container.in_container, show) == plain  # a variant of its own
    assert container.warm(*start, *container.in_container, show) == plain


def test_processes_that_are_each_process_one_draw_different_numbers(container):
    found = [container.warm(*container.in_container, DRAW).split() for _ in range(N_PROCESSES)]
    for i, column in enumerate(zip(*found, strict=True)):
        # clock sequences have 14 bits
        assert len(set(column)) == N_PROCESSES or (i == 1 and len(set(column)) > N_PROCESSES - 5)
