"""Threads and pools that a fork would lose: ended where they have no work, else named, with whose they are and what can
be done."""

import sys

import pytest

from magicheap._threads import library_of

FRAME = """
import os, threading, time
from magicheap import magic_transaction
with magic_transaction("x.magic"):
    print("body")
    {body}
print({behind})
"""

ENDED = {
    "with-ThreadPool": (
        "from multiprocessing.pool import ThreadPool\nwith ThreadPool(2) as pool: found = pool.map(abs, [-1, -2])",
        "found",
    ),
    "with-Pool": ("from multiprocessing import Pool\nwith Pool(2) as pool: found = pool.map(abs, [-1, -2])", "found"),
    "closed-and-joined": (
        "from multiprocessing import Pool\npool = Pool(2)\nfound = pool.map(abs, [-1])\npool.close()\npool.join()",
        "found, pool.terminate()",
    ),
    "closed-at-work": (
        (
            "from multiprocessing.pool import ThreadPool\npool = ThreadPool(2)\n"
            "late = pool.apply_async(time.sleep, (.2,))\npool.close()"
        ),
        "late.get(0)",
    ),
    "terminated-twice": (
        "from multiprocessing import Pool\npool = Pool(2)\npool.terminate()",
        "pool.terminate(), pool.join()",
    ),
    "futures": (
        (
            "from concurrent.futures import ThreadPoolExecutor as E\n"
            "with E(2) as pool: found = list(pool.map(abs, [-1, -2]))"
        ),
        "found",
    ),
}


def write(life, body, behind):
    life.write(FRAME.format(body=body.replace("\n", "\n    "), behind=behind))


@pytest.mark.parametrize("name", ENDED)
def test_a_pool_without_work_is_ended(life, name):
    body, behind = ENDED[name]
    write(life, body, behind)
    expected = life.cold("python", "program.py")
    assert life.warm("magic", "program.py") == expected != ""
    assert life.warm("python", "program.py") == expected


WORKING = {
    "ThreadPool": ("from multiprocessing.pool import ThreadPool\npool = ThreadPool(2)", "pool.map(abs, [-3])"),
    "Pool": ("from multiprocessing import Pool\npool = Pool(2)", "pool.map(abs, [-3]), pool.terminate(), pool.join()"),
    "closed": (
        (
            "from multiprocessing.pool import ThreadPool\npool = ThreadPool(2)\n"
            "late = pool.apply_async(time.sleep, (4,))\npool.close()"
        ),
        "late.get()",
    ),
}


@pytest.mark.parametrize("name", WORKING)
def test_a_pool_that_may_work_again_is_refused_and_goes_on(life, name):
    body, behind = WORKING[name]
    write(life, body, behind)
    ran = life.run("python", "program.py")
    assert not ran.has_committed and " of multiprocessing: leave the `with` of the pool" in ran.err, ran.err
    assert ran.out != "body\n"


THREADS = {
    "of-the-program": (
        "held = threading.Event()\nthreading.Thread(target=held.wait, name='mine').start()",
        "held.set()",
        "the thread mine (Event.wait): join them",
    ),
    "of-a-package": (
        "import somebody\nheld = somebody.start()",
        "held.set()",
        "the thread theirs (run) of somebody: join them",
    ),
    "of-no-object": (
        "import _thread, somebody\nheld = threading.Event()\n_thread.start_new_thread(somebody.run, (held,))",
        "held.set()",
        " of somebody) is running",
    ),
    "several": (
        "held = threading.Event()\nfor i in range(5): threading.Thread(target=held.wait, name=f't{i}').start()",
        "held.set()",
        "the threads t0 (Event.wait), t1 (Event.wait), t2 (Event.wait) and 2 more: join",
    ),
}
SOMEBODY = """
import threading
def run(held):
    held.wait()
def start():
    held = threading.Event()
    threading.Thread(target=run, args=(held,), name="theirs").start()
    return held
"""


@pytest.mark.parametrize("name", THREADS)
def test_the_refusal_names_thread_and_library(life, name):
    body, behind, expected = THREADS[name]
    (life.directory / "somebody").mkdir()
    life.write(SOMEBODY, "somebody/__init__.py")
    write(life, body, behind)
    ran = life.run("python", "program.py")
    assert expected in ran.err and not ran.has_committed, ran.err


def test_a_native_thread_is_attributed_to_its_library(life):
    # gomp is of sentencepiece; its pool begun by another thread than the main one is not ended
    body = """
import ctypes, glob, sentencepiece
gomp = ctypes.CDLL(glob.glob(sentencepiece.__path__[0] + ".libs/libgomp*")[0])
held, begun = threading.Event(), threading.Event()
def begin():
    gomp.GOMP_parallel(ctypes.CDLL(None).free, None, 2, 0)
    begun.set()
    held.wait()
from magicheap import _threads
thread = threading.Thread(target=begin); thread.start(); begun.wait()
found = set()
for _ in range(500):  # it spins before it waits
    found = {thread.library for thread in _threads.others()}
    if len(found) > 1: break
    time.sleep(0.01)
print(sorted(found))
held.set(); thread.join()
"""
    life.write(f"import threading, time\n{body}")
    assert life.run("python", "program.py").out == "['', 'sentencepiece']\n"


@pytest.mark.parametrize(
    ("path", "library"),
    [
        ("site-packages/numpy.libs/libopenblas.so", "numpy"),
        ("site-packages/sklearn/utils/murmurhash.so", "sklearn"),
        ("site-packages/_duckdb.cpython-311-x86_64-linux-gnu.so", "_duckdb"),
        ("lib/libarrow.so.2600", "libarrow.so.2600"),
    ],
)
def test_a_file_belongs_to_the_package_it_lies_in(tmp_path, monkeypatch, path, library):
    (tmp_path / "real" / "site-packages").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "link" / "site-packages")])
    assert library_of(str(tmp_path / "real" / path)) == library


def test_what_a_thread_does_is_told(life):
    life.write("""
        import threading, time
        from magicheap import _threads
        held = threading.Event()
        def spin():
            while not held.is_set(): pass
        waiting, busy = threading.Thread(target=held.wait), threading.Thread(target=spin)
        waiting.start(); busy.start()
        time.sleep(0.1)
        def look():
            found = {thread.python: thread for thread in _threads.others()}
            return found[waiting], found[busy]
        first, second = look(), look()
        for _ in range(1000):
            if second[1].n_switches > first[1].n_switches: break
            time.sleep(0.01)
            second = look()
        print(first[0].is_idle(), first[0].n_switches == second[0].n_switches,
            second[1].n_switches > first[1].n_switches)
        held.set()
    """)
    assert life.run("python", "program.py").out == "True True True\n"
