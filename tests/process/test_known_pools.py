"""Pools that are ended before the commit, and whose a thread is."""

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


def test_a_pool_of_processes_at_work_is_refused_and_goes_on(life):
    write(
        life, "from multiprocessing import Pool\npool = Pool(2)", "pool.map(abs, [-3]), pool.terminate(), pool.join()"
    )
    ran = life.run("python", "program.py")
    assert not ran.has_committed and "child process" in ran.err and "wait for it in the body" in ran.err, ran.err
    assert ran.out == "body\n[3] None None\n"


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
