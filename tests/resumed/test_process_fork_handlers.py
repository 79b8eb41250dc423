"""Fork handlers that would do nothing in a resumed process do not run there, and nobody can tell."""

import pytest

THREADS = """
import os, random, sys, threading
from magicheap import magic_transaction
with magic_transaction("x.magic"):
    print("body", flush=True)
    lock = threading.RLock()
    made = threading.Thread(target=lambda: print("ran", threading.current_thread().is_alive()))
    {body}
{program}
"""


def check(life, body, program, *lines):
    life.write(THREADS.format(body=body, program=program))
    expected = "".join(f"{line}\n" for line in lines)
    disabled = {"MAGICHEAP_DISABLE": "1"}
    assert life.run("python", "program.py", env=disabled).out == "body\n" + expected
    assert life.cold("magic", "program.py") == expected
    for command in (["magic"], ["python"]):
        assert life.warm(*command, "program.py") == expected


def test_a_thread_that_the_body_made_can_be_started(life):
    program = "print(made.is_alive()); made.start(); made.join(); print(made.is_alive(), len(threading.enumerate()))"
    check(life, "pass", program, "False", "ran True", "False 1")


def test_a_fork_of_the_resumed_process_forgets_its_threads(life):
    program = """
event = threading.Event()
threading.Thread(target=event.wait).start()
print(len(threading.enumerate()), flush=True)
if os.fork() == 0:
    print(len(threading.enumerate()), flush=True)
    os._exit(0)
os.wait()
event.set()
"""
    check(life, "pass", program, "2", "1")


def test_a_lock_that_is_held_stays_held(life):
    program = "print(lock._is_owned()); lock.release(); print(lock._is_owned())"
    check(life, "lock.acquire()", program, "True", "False")


@pytest.mark.parametrize("body", ["pass", "random.gauss(0, 1)", "random.seed()"])
def test_random_differs_in_each_run_and_in_each_fork(life, body):
    program = "print(random.gauss(0, 1), flush=True); os.fork() or (print(random.random()), sys.stdout.flush()); "
    program += "print(random.random())"
    life.write(THREADS.format(body=body, program=program))
    life.cold("magic", "program.py")
    lines = [line for _ in range(3) for line in life.warm("magic", "program.py").splitlines()]
    assert len(lines) == 12 and len(set(lines)) == 12


def test_random_that_was_seeded_repeats(life):
    check(life, "random.seed(7)", "print(random.random())", "0.32383276483316237")


OWN_LIST = """
import gc, os
from magicheap import _cpython
def own(): os.write(1, b"own ")
{trouble}
os.register_at_fork(after_in_child=own)
found = _cpython.child_handlers()
print(own in found, _cpython._marker in found, _cpython.child_handlers() is found, flush=True)
if found:
    found[found.index(own)] = lambda: os.write(1, b"other ")
os.fork() or os._exit(0)
os.wait()
"""


@pytest.mark.parametrize(
    ("trouble", "out"),
    [
        ("", "True False True\nother "),
        (
            "referrers = gc.get_referrers; gc.get_referrers = lambda of: [*referrers(of), [of]]",
            "False False True\nown ",
        ),
        ("gc.get_referrers = lambda of: []", "False False True\nown "),
    ],
)
def test_the_list_of_handlers_is_the_interpreters_own_or_none(life, trouble, out):
    life.write(OWN_LIST.format(trouble=trouble))
    assert life.run("python", "program.py").out == out
