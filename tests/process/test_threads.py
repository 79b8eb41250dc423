"""Threads of Python are carried: each later run has them, where they stood."""

import platform
import signal
import textwrap
import time

import pytest

FRAME = """
import os, sys, threading, time
from magicheap import magic_transaction
with magic_transaction("x.magic"):
    print("body", flush=True)
    {body}
{behind}
"""

CARRIED = {
    "a worker on a queue": (
        """
        import queue
        jobs, done = queue.Queue(), queue.Queue()
        def work():
            while True: done.put((jobs.get() ** 2, threading.current_thread().name))
        threading.Thread(target=work, name="worker", daemon=True).start()
        """,
        "jobs.put(7); print(done.get())",
        "(49, 'worker')\n",
    ),
    "an idle executor": (
        """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(3)
        list(pool.map(time.sleep, [0.01] * 6))
        """,
        "print(list(pool.map(abs, [-1, -2])), threading.active_count())",
        "[1, 2] 4\n",
    ),
    "a busy thread": (
        """
        counts = [0]
        def count():
            while counts[0] >= 0: counts[0] += 1
        busy = threading.Thread(target=count); busy.start()
        """,
        """
        n = counts[0]; time.sleep(0.05); print(counts[0] > n)
        counts[0] = -10**9; busy.join(); print(busy.is_alive())
        """,
        "True\nFalse\n",
    ),
    "a lock that a thread holds": (
        """
        held, taken, may_end = threading.Lock(), threading.Event(), threading.Event()
        def hold():
            with held: taken.set(); may_end.wait()
        holder = threading.Thread(target=hold); holder.start(); taken.wait()
        """,
        "print(held.acquire(timeout=0.01)); may_end.set(); print(held.acquire(timeout=5))",
        "False\nTrue\n",
    ),
    "a lock that knows its thread": (
        """
        held, taken, may_end = threading.RLock(), threading.Event(), threading.Event()
        def hold():
            with held, held: taken.set(); may_end.wait()
        holder = threading.Thread(target=hold); holder.start(); taken.wait()
        """,
        "print(held.acquire(timeout=0.01)); may_end.set(); print(held.acquire(timeout=5))",
        "False\nTrue\n",
    ),
    "a thread that is joined at the end": (
        "go = threading.Event(); late = threading.Thread(target=lambda: (go.wait(), print('late'))); late.start()",
        "print('main'); go.set()",
        "main\nlate\n",
    ),
    "a listener of logging": (
        """
        import logging, logging.handlers, queue
        class Print(logging.Handler):
            def emit(self, record): print(record.getMessage())
        messages = queue.SimpleQueue()
        listener = logging.handlers.QueueListener(messages, Print()); listener.start()
        logging.getLogger().addHandler(logging.handlers.QueueHandler(messages))
        """,
        "logging.warning('heard'); listener.stop()",
        "heard\n",
    ),
    "an event loop with threads": (
        """
        import asyncio
        loop = asyncio.new_event_loop()
        loop.run_until_complete(loop.run_in_executor(None, time.sleep, 0.01))
        """,
        """
        async def main():
            await asyncio.sleep(0.01)
            return await loop.run_in_executor(None, abs, -3)
        print(loop.run_until_complete(main()))
        loop.run_until_complete(loop.shutdown_default_executor()); loop.close()
        """,
        "3\n",
    ),
    "a loop in a thread of its own": (
        """
        import asyncio
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        """,
        """
        async def answer():
            await asyncio.sleep(0.01)
            return threading.current_thread() is not threading.main_thread()
        print(asyncio.run_coroutine_threadsafe(answer(), loop).result(5))
        """,
        "True\n",
    ),
    "a thread of no object": (
        """
        import _thread
        gate, out = threading.Lock(), []
        gate.acquire()
        _thread.start_new_thread(lambda: (gate.acquire(), out.append(1)), ())
        """,
        "gate.release(); time.sleep(0.2); print(out)",
        "[1]\n",
    ),
    "a signal handler beside threads": (
        """
        import signal
        got = []
        signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        """,
        "os.kill(os.getpid(), signal.SIGUSR1); time.sleep(0.05); print(len(got))",
        "1\n",
    ),
}


def write(life, body, behind):
    body, behind = (textwrap.dedent(text).strip() for text in (body, behind))
    life.write(FRAME.format(body=body.replace("\n", "\n    "), behind=behind))


@pytest.mark.parametrize("name", CARRIED)
def test_each_run_goes_on_with(life, name):
    body, behind, expected = CARRIED[name]
    write(life, body, behind)
    assert life.cold("python", "program.py") == expected
    assert life.warm("magic", "program.py") == expected
    assert life.warm("python", "program.py") == expected


def test_ids_of_threads_are_those_of_the_run(life):
    write(
        life,
        """
        go, said = threading.Event(), []
        def tell():
            go.wait()
            said.append(threading.get_native_id())
        other = threading.Thread(target=tell); other.start()
        """,
        """
        tasks = set(map(int, os.listdir("/proc/self/task")))
        ids = {threading.main_thread().native_id, other.native_id}
        go.set(); other.join()
        print(ids == tasks, said == [other.native_id], threading.main_thread().native_id == os.getpid())
        """,
    )
    assert life.cold("python", "program.py") == "True True True\n"
    assert life.warm("magic", "program.py") == "True True True\n"


def test_a_timer_has_the_rest_of_its_time(life):
    write(
        life,
        "began = time.monotonic(); fired = threading.Event(); threading.Timer(0.5, fired.set).start()",
        "print(fired.is_set(), fired.wait(0.1), fired.wait(5))",
    )
    assert life.cold("python", "program.py") == "False False True\n"
    assert life.warm("magic", "program.py") == "False False True\n"


def test_a_carried_thread_sees_arguments_and_environment_of_the_run(life):
    write(
        life,
        """
        go = threading.Event()
        def tell():
            go.wait()
            print(sys.argv[1:], os.environ.get("WHO"), flush=True)
        other = threading.Thread(target=tell); other.start()
        """,
        "go.set(); other.join()",
    )
    life.env["WHO"] = "first"
    assert life.cold("magic", "program.py", "a") == "['a'] first\n"
    life.env["WHO"] = "second"
    assert life.warm("magic", "program.py", "b", "c") == "['b', 'c'] second\n"


def test_a_thread_inside_a_pool_of_a_library_goes_on(life):
    write(
        life,
        """
        import numpy
        may_end, n = [], [0]
        def multiply():
            a = numpy.eye(400) * 2
            while not may_end:
                a @ a
                n[0] += 1
        other = threading.Thread(target=multiply); other.start()
        while n[0] < 3: time.sleep(0.01)
        """,
        """
        before = n[0]
        for _ in range(500):
            if n[0] > before + 1: break
            time.sleep(0.01)
        may_end.append(1); other.join(20); print(n[0] > before, other.is_alive(), flush=True)
        """,
    )
    for how in (life.cold, life.warm, life.warm, life.warm):
        assert how("magic", "program.py") == "True False\n"


def test_copies_of_a_pipe_stay_copies(life):
    write(
        life,
        "import socket; r, w = os.pipe(); copy = os.dup(w); one, other = socket.socketpair(); again = one.dup()",
        "os.close(w); os.write(copy, b'hello'); os.close(copy); print(os.read(r, 9), os.read(r, 9)); "
        "again.send(b'x'); print(other.recv(5))",
    )
    assert life.cold("python", "program.py") == "b'hello' b''\nb'x'\n"
    assert life.warm("magic", "program.py") == "b'hello' b''\nb'x'\n"


def test_an_interrupt_at_any_moment_of_a_resume_with_threads_is_heard(life):
    write(
        life,
        "gate = threading.Event(); [threading.Thread(target=gate.wait, daemon=True).start() for _ in range(3)]",
        "time.sleep(0.5); print('slept')",
    )
    life.cold("magic", "program.py")
    for step in range(60):
        process = life.start("magic", "program.py")
        time.sleep(step * 0.0001)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert "slept" not in out and process.returncode in (-signal.SIGINT, 1, 130), (out, process.returncode)


def test_random_numbers_differ_beside_threads(life):
    write(
        life,
        "import random; random.random(); threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
        "print(random.random(), flush=True)",
    )
    life.cold("magic", "program.py")
    assert len({life.warm("magic", "program.py") for _ in range(5)}) == 5


def test_a_process_that_was_resumed_with_threads_commits_again(life):
    life.write("""
        import queue, threading
        from magicheap import magic_transaction
        jobs, done = queue.Queue(), queue.Queue()
        def work():
            while True: done.put(jobs.get() + 1)
        with magic_transaction("one.magic"):
            worker = threading.Thread(target=work, daemon=True); worker.start()
        jobs.put(1); first = done.get()
        with magic_transaction("two.magic"):
            threading.Thread(target=work, daemon=True).start()
            jobs.put(first); second = done.get()
        jobs.put(second); print(first, second, done.get(), threading.active_count())
    """)
    for command in ("python", "magic", "magic", "magic", "python"):
        ran = life.run(command, "program.py")
        assert ran.out == "2 3 4 3\n"
    assert ran.is_warm and not ran.has_committed, ran


def test_a_lock_that_the_resume_needs_prevents_the_commit(life):
    write(
        life,
        """
        import numpy
        numpy.random.random()
        held, may_end = threading.Event(), threading.Event()
        def hold():
            with numpy.random.mtrand._rand._bit_generator.lock:
                held.set()
                may_end.wait()
        other = threading.Thread(target=hold); other.start(); held.wait()
        """,
        "may_end.set(); other.join(); print(numpy.random.random() < 1)",
    )
    ran = life.run("python", "program.py")
    assert ran.out == "body\nTrue\n" and not ran.has_committed
    assert "it needs a lock that another thread holds" in ran.err and ran.err.count("MagicHeapWarning") == 1


def test_a_thread_that_cannot_be_stopped_is_named_with_its_library(life):
    (life.directory / "somebody").mkdir()
    life.write(
        """
        import ctypes, threading, time
        def listen_to_nobody(begun):
            all_signals = (ctypes.c_uint64 * 1)(2**64 - 1)
            ctypes.CDLL(None).syscall(RT_SIGPROCMASK, 2, all_signals, None, 8)
            begun.set()
            time.sleep(3)
        def start():
            begun = threading.Event()
            threading.Thread(target=listen_to_nobody, args=(begun,), name="deaf", daemon=True).start()
            begun.wait()
        """.replace("RT_SIGPROCMASK", "14" if platform.machine() == "x86_64" else "135"),
        "somebody/__init__.py",
    )
    write(life, "import somebody; somebody.start()", "print('goes on')")
    ran = life.run("python", "program.py")
    assert ran.out == "body\ngoes on\n" and not ran.has_committed
    assert "the thread deaf (listen_to_nobody) of somebody can't be stopped, since it blocks all signals" in ran.err


def test_a_thread_may_watch_the_progress_of_the_commit(life):
    life.write("""
        import threading, time
        from magicheap import magic_transaction
        magic, seen = magic_transaction("x.magic"), []
        def watch():
            while True:
                seen.append(magic.commit_progress())
                time.sleep(0.01)
        threading.Thread(target=watch, daemon=True).start()
        with magic:
            print("body")
            block = bytes(50 << 20)
        print(len(block), flush=True)
    """)
    assert life.cold("python", "program.py") == f"{50 << 20}\n"
    assert life.warm("magic", "program.py") == f"{50 << 20}\n"
