"""Signals that come while a process is being resumed: none is lost, and none is heard before the program can act on
it."""

import os
import random
import signal
import subprocess
import time

import pytest
from process_fixtures import LAUNCHER, PYTHON

# What the body does about SIGTERM or SIGINT, and how a program ends that gets it while it sleeps.
PROGRAM = """
import os, signal, sys, time
from magicheap import magic_transaction
try:
    with magic_transaction("x.magic"):
        print("body")
        {body}
    time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print("slept")
except KeyboardInterrupt:
    print("interrupted")
except ValueError as error:
    print(error)
"""
RAISES = "def stop(*arguments): raise ValueError('told to stop')\n        signal.signal(signal.SIGTERM, stop)"
LEAVES = "signal.signal(signal.SIGTERM, lambda *arguments: sys.exit(7))"

# Which signal, what the body does, how it ends: (exit status, output).
ENDS = {
    "interrupt": (signal.SIGINT, "pass", (0, "interrupted\n")),
    "terminate": (signal.SIGTERM, "pass", (-signal.SIGTERM, "")),
    "handler-that-raises": (signal.SIGTERM, RAISES, (0, "told to stop\n")),
    "handler-that-leaves": (signal.SIGTERM, LEAVES, (7, "")),
    "hangup": (signal.SIGHUP, "pass", (-signal.SIGHUP, "")),
    "user-default": (signal.SIGUSR1, "pass", (-signal.SIGUSR1, "")),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_signal_that_comes_at_any_moment_of_a_resume_is_heard(life, name):
    number, body, (status, out) = ENDS[name]
    life.write(PROGRAM.format(body=body))
    assert life.cold("python", "program.py") == "slept\n"
    rng = random.Random(4)
    heard = 0
    for _ in range(60):
        with life.start("magic", "program.py", 20) as process:
            time.sleep(rng.random() * 0.004)
            process.send_signal(number)
            printed = process.communicate(timeout=60)[0]
        if process.returncode == -number and printed == "":
            continue  # before the launcher had begun, or by default
        assert (process.returncode, printed) == (status, out)
        heard += 1
    assert heard > 0 or status == -number


@pytest.mark.parametrize("name", ENDS)
def test_a_signal_that_comes_in_a_fork_handler_waits_for_the_program(life, name):
    number, body, (status, out) = ENDS[name]
    send = f"os.register_at_fork(after_in_child=lambda: os.path.exists('send') and os.kill(os.getpid(), {int(number)}))"
    life.write(PROGRAM.format(body=f"{body}\n        {send}"))
    assert life.cold("python", "program.py") == "slept\n"
    (life.directory / "send").touch()
    for how in ("magic", "python"):
        ran = life.run(how, "program.py", status=status)
        assert "body" not in ran.out and ran.out == out
        assert "ignored" not in ran.err, "nothing was raised where nobody can catch it"
    (life.directory / "send").unlink()
    assert life.warm("magic", "program.py") == "slept\n"


def test_a_run_that_goes_cold_gets_the_signal_too(life):
    life.write(PROGRAM.format(body=LEAVES))
    life.cold("python", "program.py")
    (life.directory / "x.magic").write_bytes(b"\x89MH\r\n\x1a\n\0")
    rng = random.Random(5)
    for _ in range(20):
        with life.start("magic", "program.py", 20) as process:
            time.sleep(rng.random() * 0.003)
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGTERM, 7)


def test_what_whoever_starts_a_run_has_blocked_stays_blocked_and_all_else_does_not(life):
    life.write("""
        import signal, sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        print(sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))))
    """)
    assert life.cold("python", "program.py") == f"[{int(signal.SIGUSR2)}]\n"
    blocked = sorted(map(int, (signal.SIGUSR2, signal.SIGWINCH)))
    for how, other in (("magic", life.cold), ("python", life.warm), ("magic", life.warm)):
        assert life.warm(how, "program.py") == f"[{int(signal.SIGUSR2)}]\n"
        old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
        try:
            assert other(how, "program.py") == f"{blocked}\n"
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)


def test_a_stopped_run_goes_on(life):
    life.write(PROGRAM.format(body="pass"))
    life.cold("python", "program.py")
    rng = random.Random(6)
    for how in (LAUNCHER, PYTHON):
        for _ in range(15):
            process = subprocess.Popen(
                [how, "program.py", "0.01"],
                cwd=life.directory,
                env=life.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
            time.sleep(rng.random() * 0.004)
            process.send_signal(signal.SIGTSTP)
            time.sleep(0.005)
            os.kill(process.pid, signal.SIGCONT)
            assert process.communicate(timeout=60)[0] == b"slept\n"
            assert process.returncode == 0
