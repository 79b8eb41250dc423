"""What can't be carried, and machines that can't do it: the program goes on without a snapshot, and one warning says
why."""

import pytest
from process_fixtures import LAUNCHER

FRAME = """
import ctypes, mmap, multiprocessing, os, select, socket, subprocess, sys, tempfile, threading, time
from magicheap import magic_transaction
with magic_transaction("x.magic") as magic:
    print("body")
    {body}
print("goes on", magic.committed)
{after}
"""

REFUSED = {
    "socket": ("kept = socket.create_server(('127.0.0.1', 0))", "socket"),
    "socket-pair-of-one-end": ("kept = socket.socketpair()[0]", "socket"),
    "pipe-of-one-end": ("kept = os.pipe(); os.close(kept[1])", "pipe"),
    "pipe-opened-twice": ("kept = os.pipe(); again = os.open(f'/proc/self/fd/{kept[0]}', os.O_RDONLY)", "pipe"),
    "messages": (
        "kept = socket.socketpair(type=socket.SOCK_DGRAM); kept[0].send(b'x')",
        "messages in it that were not read",
    ),
    "descriptor-on-its-way": (
        "kept = socket.socketpair(); socket.send_fds(kept[0], [b'x'], [1])",
        "whose content can't be copied",
    ),
    "watch-of-another-file": (
        (
            "kept = select.epoll(); ends = os.pipe(); copy = os.dup(ends[0]); kept.register(ends[0]); "
            "os.close(ends[0]); os.dup2(os.open('/dev/null', 0), ends[0])"
        ),
        "no longer at its descriptor",
    ),
    "file-written-in-place": (
        "open('m', 'wb').write(b'x'); os.rename('m', 'n'); kept = open('n', 'r+b', 0); kept.write(b'y')",
        "/n",
    ),
    "shared-mapping": (
        "open('m', 'wb').write(b'x' * 4096); file = open('m', 'r+b'); kept = mmap.mmap(file.fileno(), 0)",
        "shared",
    ),
    "memfd": ("kept = os.memfd_create('mine')", "memfd"),
    "child": ("kept = subprocess.Popen(['/bin/sleep', '1000'])", "child process"),
}
AFTER = {"child": "kept.kill(); kept.wait()"}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_carried_is_named_in_one_warning(life, what):
    body, name = REFUSED[what]
    life.write(FRAME.format(body=body, after=AFTER.get(what, "")))
    for how in ("python", "magic"):
        ran = life.run(how, "program.py")
        assert ran.out == "body\ngoes on False\n"
        assert ran.err.count("MagicHeapWarning") == 1 and name in ran.err and "program.py:4" in ran.err, ran.err
    assert not (life.directory / "x.magic").exists()


def test_what_was_closed_in_the_body_is_no_obstacle(life):
    life.write(
        FRAME.format(
            body="[os.close(fd) for fd in os.pipe()]; subprocess.run(['/bin/true']); socket.socket().close()", after=""
        )
    )
    assert life.cold("python", "program.py") == "goes on True\n"
    assert life.warm("magic", "program.py") == "goes on False\n"


def test_a_replaced_file_that_was_open_makes_the_run_cold(life):
    life.write(FRAME.format(body="log = open('log.txt', 'a+')", after="log.write('x'); log.close()"))
    life.cold("python", "program.py")
    (life.directory / "new.txt").write_text("")  # beside the old one, so that it can't get its inode
    (life.directory / "new.txt").replace(life.directory / "log.txt")
    ran = life.run("magic", "program.py")
    assert (
        ran.out == "body\ngoes on True\n" and "log.txt, which was open at the commit, has been replaced" in ran.reason
    )
    assert ran.err == ""


def test_in_a_thread_or_under_a_debugger_it_runs_cold(life):
    life.write("""
        import sys, threading
        from magicheap import magic_transaction
        def load():
            with magic_transaction("x.magic"):
                print("body")
        if sys.argv[1] == "thread":
            thread = threading.Thread(target=load)
            thread.start()
            thread.join()
        else:
            sys.settrace(lambda *arguments: None)
            load()
    """)
    for how, reason in (("thread", "main thread"), ("trace", "tracing")):
        ran = life.run("python", "program.py", how)
        assert (ran.out, ran.err) == ("body\n", "") and reason in ran.reason and not ran.has_committed


# ---- machines that can't ----

SANDBOX = """
import ctypes, os, struct, sys
# struct sock_filter of linux/filter.h: the number of the system call, and for each that is denied its answer
def instruction(code, jump_true, jump_false, value):
    return struct.pack("<HBBI", code, jump_true, jump_false, value)
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM = 1
filters = instruction(LOAD, 0, 0, 0)
for number in map(int, sys.argv[1].split(",")):
    filters += instruction(EQUALS, 0, 1, number) + instruction(RETURN, 0, 0, ERRNO | EPERM)
filters += instruction(RETURN, 0, 0, ALLOW)
buffer = ctypes.create_string_buffer(filters)
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(filters) // 8, ctypes.addressof(buffer)))
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[2], sys.argv[2:])
"""
# Of arch/x86/entry/syscalls/syscall_64.tbl. What a program itself can't do without is not here.
DENIED = {
    "mremap": [25],
    "prctl": [157],
    "sigaltstack": [131],
    "set_tid_address": [218],
    "set_robust_list": [273],
    "rseq": [334],
    "all-of-these": [25, 157, 131, 218, 273, 334],
    "munmap": [11],
    "ptrace": [101],
    "getrandom": [318],
    "madvise": [28],
    "flock": [73],
    "fchmod": [91],
    "pwrite": [18],
    "fsync": [74],
    "ftruncate": [77],
    "renameat": [264, 316],
    "symlinkat": [266],
}
PROGRAM = FRAME.format(body="loaded = list(range(10_000))", after="print(sum(loaded), len([0] * 10_000_000))")


@pytest.mark.parametrize("name", DENIED)
def test_a_sandbox_that_denies_a_system_call_leaves_the_program_running(life, name):
    life.write(PROGRAM)
    life.write(SANDBOX, "sandbox.py")
    expected = "49995000 10000000\n"
    assert life.cold("python", "program.py") == f"goes on True\n{expected}"
    inside = ["python", "sandbox.py", ",".join(map(str, DENIED[name])), LAUNCHER, "program.py"]
    ran = life.run(*inside)
    assert ran.out.endswith(expected) and (ran.is_warm or ran.reason), ran
    (life.directory / "x.magic").unlink()
    for _ in range(2):
        ran = life.run(*inside)
        assert ran.out.endswith(expected) and (
            ran.is_warm or ran.has_committed or ran.err.count("MagicHeapWarning") == 1
        ), ran
