"""Signals that a process was started to ignore or to block are an answer: a run with others has its own variant."""

import signal
import subprocess

import pytest

PROGRAM = """
    import signal, subprocess
    from magicheap import magic_transaction
    with magic_transaction("x.magic"):
        print("body")
        found = signal.getsignal(signal.SIGHUP)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    print(found == signal.SIG_IGN, signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL, signal.SIGUSR1 in blocked)
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("SigIgn:"))[-4:])
"""


def plain(life, **options):
    return life.run("python", "program.py", env={"MAGICHEAP_DISABLE": "1"}, **options).out.replace("body\n", "")


def ignoring():
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def blocking():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])


def test_who_was_started_to_ignore_or_block_signals_has_a_variant(life):
    life.write(PROGRAM)
    for start in (None, ignoring, blocking):
        expected = plain(life, preexec_fn=start)
        assert life.cold("magic", "program.py", preexec_fn=start) == expected
    for how in ("magic", "python"):
        for start in (blocking, None, ignoring):
            assert life.warm(how, "program.py", preexec_fn=start) == plain(life, preexec_fn=start)


WHAT_PROGRAMS_DO = {
    "nothing": "pass",
    "handle": "signal.signal(signal.SIGHUP, print)",
    "ignore": "signal.signal(signal.SIGHUP, signal.SIG_IGN)",
    "ignore Ctrl-C": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "default": "signal.signal(signal.SIGHUP, signal.SIG_DFL); signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
    "block": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])",
    "unblock": "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])",
}
SHOWN = """
    import signal
    from magicheap import magic_transaction
    {before}
    with magic_transaction("x.magic"):
        print("body")
        {inside}
    for name in "HUP INT PIPE USR1 USR2".split():
        found = signal.getsignal(getattr(signal, "SIG" + name))
        print(name, getattr(found, "__name__", found))
    print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    print([line for line in open("/proc/self/status") if line.startswith(("SigBlk:", "SigIgn:"))])
"""


@pytest.mark.parametrize("where", ["before", "inside"])
@pytest.mark.parametrize("what", WHAT_PROGRAMS_DO)
def test_signals_are_as_in_a_plain_run_whatever_the_program_did_with_them(life, what, where):
    life.write(SHOWN.format(**{"before": "pass", "inside": "pass", where: WHAT_PROGRAMS_DO[what]}))
    for start in (None, ignoring, blocking):
        expected = plain(life, preexec_fn=start)
        assert life.cold("magic", "program.py", preexec_fn=start) == expected
        for how in ("magic", "python"):
            assert life.warm(how, "program.py", preexec_fn=start) == expected


def test_the_reason_names_the_signal(life):
    life.write(PROGRAM)
    life.cold("magic", "program.py")
    ran = life.run("magic", "program.py", preexec_fn=ignoring)
    assert "signal 1 was not ignored when the snapshot's run began, unlike now" in ran.reason


def test_a_log_that_nobody_can_read_ends_no_program(life):
    life.write('from magicheap import magic_transaction\nwith magic_transaction("x.magic"): pass\nprint("hello")')
    for _ in range(3):
        with open("/dev/full", "wb") as full:
            started = life.start("magic", "program.py", stderr=full, stdout=subprocess.PIPE)
            assert started.communicate(timeout=60)[0].strip() in ("hello", b"hello") and started.returncode == 0
