"""No pool of threads is alive at the commit, and each has its full size afterwards."""

import os
import textwrap

import pytest
from resumed_harness import PRELUDE

# numpy brings OpenBLAS, sentencepiece an OpenMP; a parallel region of the latter is begun by the function that
# compilers call
LOAD = """
import ctypes, glob, threading
import numpy, sentencepiece
from magicheap import _pools

gomp_path, = glob.glob(sentencepiece.__path__[0] + ".libs/libgomp*")
gomp = ctypes.CDLL(gomp_path)

def work():
    numpy.ones((600, 600)) @ numpy.ones((600, 600))
    gomp.GOMP_parallel(ctypes.CDLL(None).free, None, 2, 0)

def n_threads():
    return len(os.listdir("/proc/self/task"))

def sizes():
    import threadpoolctl
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
"""


@pytest.fixture
def run(program):
    return lambda source, **options: (
        program(f"{PRELUDE}\n{LOAD}\n{textwrap.dedent(source)}").run(**options)[0].splitlines()
    )


def test_openmp_ends_at_the_commit_and_starts_again(run):
    lines = run("""
gomp.omp_set_num_threads(2)
gomp.GOMP_parallel(ctypes.CDLL(None).free, None, 2, 0)
with_pool = n_threads()
_pools.prepare()
without = n_threads()
gomp.GOMP_parallel(ctypes.CDLL(None).free, None, 2, 0)
print(with_pool - without, n_threads() - without)
""")
    assert lines == ["2 1"]  # also that of OpenBLAS


def test_libraries_compute_in_parallel_after_the_resume(run):
    lines = run("""
if len(os.sched_getaffinity(0)) > 1:
    work()
commit()
print(n_threads())
work()
print(n_threads() > 1, gomp.omp_get_max_threads() == len(os.sched_getaffinity(0)))
""")
    assert lines == ["1", "True True"]


def test_pools_are_sized_for_the_cpus_there_are(run):
    lines = run("""
work()
before = sizes()
kept = _pools.prepare()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
_pools.take_up(kept)
print(len(before) > 1, set(sizes()))
""")
    assert lines == ["True {1}"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_a_pool_of_another_size_starts_when_it_is_used(run, numbers):
    few, many = (set(sorted(os.sched_getaffinity(0))[:n]) for n in numbers)
    lines = run(
        f"""
a = numpy.ones((600, 600))
a @ a
kept = _pools.prepare()
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.sched_setaffinity(0, {many})
_pools.take_up(kept)
print(n_threads(), (a @ a == 600).all(), n_threads(), set(sizes()))
""",
        preexec_fn=lambda: os.sched_setaffinity(0, few),
    )
    assert lines == [f"1 True {numbers[1]} {{{numbers[1]}}}"]


def test_sizes_that_were_chosen_stay(run):
    lines = run(
        """
before = sizes()
kept = _pools.prepare()
kept = kept._replace(controllers=tuple(pool for pool in kept.controllers if pool.user_api == "openmp"))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
_pools.take_up(kept)
print(sizes() == before, 7 in before)
""",
        env={"OMP_NUM_THREADS": "7"},  # OpenBLAS takes no more than there are CPUs
    )
    assert lines == ["True True"]


def test_new_threads_have_stacks_of_the_new_limit(run):
    lines = run("""
import resource

def stack():
    "Return the size of a new thread's stack."
    libc, attributes, size = ctypes.CDLL(None), ctypes.create_string_buffer(56), ctypes.c_size_t()
    def measure():
        libc.pthread_self.restype = ctypes.c_void_p
        libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes)
        libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    thread = threading.Thread(target=measure); thread.start(); thread.join()
    return size.value

kept = _pools.prepare()
for limit in (20 << 20, 30 << 20):  # more than the stacks that ended threads have left for others
    resource.setrlimit(resource.RLIMIT_STACK, (limit, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    _pools.take_up(kept)
    print(stack() == limit)
    kept = _pools.prepare()
""")
    assert lines == ["True", "True"]


def test_tokenizers_start_no_threads_in_the_body(run):
    lines = run(
        """
from tokenizers import Tokenizer, models, trainers, pre_tokenizers
def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(["a text of some words"] * 1000, trainers.BpeTrainer(show_progress=False))
before = n_threads()
with _pools.limited_pools():
    train()
    print(n_threads() - before, "TOKENIZERS_PARALLELISM" in os.environ)
train()
print(n_threads() > before)
""",
        env={"TOKENIZERS_PARALLELISM": None},
    )
    assert lines == ["0 False", "True"]


def test_processes_that_the_body_starts_are_told_nothing(run):
    lines = run(
        """
import multiprocessing, subprocess
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
def told():
    return [libc.getenv(name.encode()) is not None for name in _pools._TOLD]
def print_told():
    print(told(), flush=True)
with _pools.limited_pools():
    for start in (
        lambda: subprocess.run(["printenv", *_pools._TOLD]),
        lambda: os.system("printenv " + " ".join(_pools._TOLD)),
        lambda: os.waitpid(os.posix_spawn("/usr/bin/env", ["printenv", *_pools._TOLD], os.environ), 0),
    ):
        start()
        open(os.devnull).close()
        print(told(), flush=True)
    process = multiprocessing.get_context("fork").Process(target=print_told)
    process.start()
    process.join()
print_told()
""",
        env={"TOKENIZERS_PARALLELISM": None, "ORT_DISABLE_TELEMETRY": None},
    )
    assert lines == ["[True, True]"] * 3 + ["[False, False]"] * 2


@pytest.mark.parametrize("chosen", ["true", "false"])
def test_what_was_chosen_for_tokenizers_stays(run, chosen):
    lines = run(
        """
import subprocess
with _pools.limited_pools():
    subprocess.run(["printenv", "TOKENIZERS_PARALLELISM"])
subprocess.run(["printenv", "TOKENIZERS_PARALLELISM"])
""",
        env={"TOKENIZERS_PARALLELISM": chosen},
    )
    assert lines == [chosen, chosen]


def test_the_thread_of_progress_bars_is_ended(run):
    lines = run("""
import tqdm
for _ in tqdm.tqdm([1], file=open(os.devnull, "w")): pass
print(threading.active_count())
_pools.end_tqdm()
print(threading.active_count())
for _ in tqdm.tqdm([1], file=open(os.devnull, "w")): pass
print(threading.active_count())
_pools.prepare()
print(threading.active_count())
""")
    assert lines == ["2", "1", "2", "1"]


def test_the_environment_is_left_alone(run):
    lines = run("before = dict(os.environ)\n_pools.prepare()\nprint(dict(os.environ) == before)")
    assert lines == ["True"]
