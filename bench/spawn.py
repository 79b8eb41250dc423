"""Start processes as cheaply as that can be done, time them to their first line and to their end, and read what memory
they hold.

The parent stays small and never forks: posix_spawn costs the same however much a caller has loaded.
"""

import contextlib
import os
import select
import signal
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

MAGIC = Path(sys.executable).with_name("magic")
PAGE_BYTES = 4096
KERNELS_OWN = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")
# Without what would change how the interpreter or magicheap starts.
QUIET = {name: value for name, value in os.environ.items() if not name.startswith(("MAGICHEAP_", "PYTHON"))}


class Run(NamedTuple):
    first_s: float  # from before the spawn until the first bytes came
    whole_s: float  # until the process had been waited for
    output: bytes


def spawn(command, env=QUIET, stdin=None, stdout=None, stderr=None):
    """Start `command` with its streams at these descriptors, None being ours; return its process id."""
    actions = [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((stdin, stdout, stderr)) if fd is not None]
    return os.posix_spawn(command[0], [os.fsencode(word) for word in command], env, file_actions=actions)


def timed(command, env=QUIET, stdin=None, stderr=None) -> Run:
    """Run `command` to its end, which must be a good one."""
    ours, theirs = os.pipe()
    started = time.perf_counter()
    pid = spawn(command, env, stdin, theirs, stderr)
    os.close(theirs)
    output = os.read(ours, 1 << 16)
    first = time.perf_counter()
    while more := os.read(ours, 1 << 16):
        output += more
    _, status = os.waitpid(pid, 0)
    ended = time.perf_counter()
    os.close(ours)
    if status:
        raise RuntimeError(f"{command} ended with status {os.waitstatus_to_exitcode(status)}")
    return Run(first - started, ended - started, output)


@contextlib.contextmanager
def held(command, n_processes=1, env=QUIET):
    """Run `command` so often at once, each up to its first write, which waits for room in a pipe; yields their ids.

    So any program can be looked at while it has all its memory, without a line in it for that purpose.
    """
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, bytes(4096))
    os.set_blocking(theirs, True)
    pids = [spawn(command, env, stdout=theirs) for _ in range(n_processes)]
    os.close(theirs)
    try:
        for pid in pids:
            _await_write(pid)
        yield pids
    finally:
        while os.read(ours, 1 << 16):
            pass
        os.close(ours)
        for pid in pids:
            os.waitpid(pid, 0)


@contextlib.contextmanager
def stopped(command, n_processes=1, env=QUIET, stdin=None, stderr=None):
    """Run `command` so often at once, stop each at the first bytes it has written, whichever thread wrote them; yields
    their ids.

    For programs that go on afterwards: they are killed.
    """
    pids = {}  # by their pipes
    try:
        for _ in range(n_processes):
            ours, theirs = os.pipe()
            pids[ours] = spawn(command, env, stdin, theirs, stderr)
            os.close(theirs)
        running = set(pids)
        while running:
            for pipe in select.select(running, [], [])[0]:
                os.kill(pids[pipe], signal.SIGSTOP)
                os.waitid(os.P_PID, pids[pipe], os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                if not os.read(pipe, 1):
                    raise RuntimeError(f"{command} ended and had written nothing")
                running.remove(pipe)
        yield list(pids.values())
    finally:
        for pipe, pid in pids.items():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pipe)


def _await_write(pid, timeout_s=300):
    deadline = time.monotonic() + timeout_s
    while (
        not Path(f"/proc/{pid}/wchan").read_text().endswith("pipe_write")
    ):  # the kernel's function, or anon_pipe_write
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} wrote nothing for {timeout_s} s")
        time.sleep(0.001)


def memory(pid) -> Counter:
    """Return what the kernel counts for the whole process, bytes by the names of /proc/PID/smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return Counter({line.split(":")[0]: int(line.split()[1]) << 10 for line in lines})


def mappings(pid):
    """Return (first address, end, name) of each mapping; "" is the name of anonymous memory."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    words = [line.split(maxsplit=5) for line in lines]
    return [(*(int(address, 16) for address in word[0].split("-")), "".join(word[5:])) for word in words]


def written_pages(pid, areas):
    """Yield the addresses of the pages in `areas` that the process has to itself: those that aren't a file's any
    more."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for first, end, name in areas:
            if name not in KERNELS_OWN:
                pagemap.seek(first // PAGE_BYTES * 8)
                for i, (entry,) in enumerate(struct.iter_unpack("<Q", pagemap.read((end - first) // PAGE_BYTES * 8))):
                    if entry >> 63 and not entry >> 61 & 1:  # present; PM_FILE
                        yield first + i * PAGE_BYTES
