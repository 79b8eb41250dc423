"""Code nobody here wrote fares in a resumed interpreter as in a plain one: a choice of CPython's and numpy's own tests.

tests/conformance runs all of them. Chosen are those that touch what a resume must bring back; of the slow files, the
tests that wait least. Most of the time is spent waiting, so that more files run at a time than there are processors.
"""

import subprocess
import sys
from pathlib import Path

import cpython
import numpy_suite
import pytest
import resumes
from conftest import ROOT
from suites import NOT_RESUMED, NOTHING_TO_RUN, Comparison, Result, compare_all, prepare

JOBS = 6
N_RESUMES = 500  # of either kind: 1,000 values of each source

# A resumed process forks and spawns as another would; waiting for barriers is no part of that.
PROCESSES = [
    "-m",
    "WithProcesses*",
    "-m",
    "TestStartMethod",
    "-m",
    "TestStdinBadfiledescriptor",
    "-m",
    "TestCloseFds",
    "-i",
    "*Barrier",
    "-i",
    "*Condition",
    "-i",
    "*Finalize",
    "-i",
    "*Poll*",
    "-i",
    "*ListenerClient",
]
# 3.11 has no test_recursion: exceptions, isinstance and call hold its tests of deep recursion.
CPYTHON = {
    "test_asyncio": [
        "-m",
        "test_base_events",
        "-m",
        "test_events",
        "-m",
        "test_streams",
        "-m",
        "test_subprocess",
        "-m",
        "test_unix_events",
    ],
    "test_call": [],
    "test_exceptions": [],
    "test_faulthandler": [],
    "test_gc": [],
    "test_io": ["-i", "PySignalsTest", "-i", "CMiscIOTest"],
    "test_isinstance": [],
    "test_multiprocessing_fork": PROCESSES,
    "test_multiprocessing_forkserver": PROCESSES,
    "test_multiprocessing_spawn": PROCESSES,
    "test_os": [],
    "test_random": [],
    "test_signal": ["-i", "test_siginterrupt_off"],  # waits for half a minute
    "test_socket": ["-i", "NetworkConnectionBehaviourTest"],
    "test_ssl": [
        "-i",
        "test_session",
        "-i",
        "test_echo",
        "-i",
        "test_alpn_protocols",
        "-i",
        "test_PROTOCOL_TLS",
        "-i",
        "test_sni_callback",
    ],
    "test_subprocess": ["-i", "ProcessTestCaseNoPoll"],
    "test_threading": [],
    "test_time": [],
}
NUMPY = [
    "_core/tests/test_dtype.py",
    "_core/tests/test_errstate.py",
    "_core/tests/test_multithreading.py",
    "_core/tests/test_umath.py",
    "linalg/tests/test_deprecations.py",
    "linalg/tests/test_linalg.py",
    "linalg/tests/test_regression.py",
    "random/tests/test_direct.py",
    "random/tests/test_random.py",
    "random/tests/test_randomstate.py",
    "random/tests/test_seed_sequence.py",
    "random/tests/test_smoke.py",
]


@pytest.fixture(scope="session")
def of_cpython():
    """The comparisons of all files of CPYTHON, by name."""
    command = [f"{ROOT}/tools/cpython_suite.sh", sys.executable, f"{ROOT}/build/cpython"]
    python = Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    return {done.file: done for done in compare_all(cpython.suite(python, CPYTHON), CPYTHON, JOBS)}


@pytest.fixture(scope="session")
def of_numpy():
    """The comparisons of all files of NUMPY, by name."""
    return {done.file: done for done in compare_all(numpy_suite.suite(Path(sys.executable)), NUMPY, JOBS)}


def judge(comparison):
    assert not comparison.is_worse(), comparison.describe()
    if not comparison.plain.is_sound():
        pytest.xfail("fails in a plain interpreter on this machine, and nothing else fails resumed")
    assert comparison.plain.tests, "there was nothing to run"


@pytest.mark.parametrize("file", CPYTHON)
def test_cpython_fares_no_worse_resumed(of_cpython, file):
    judge(of_cpython[file])


@pytest.mark.parametrize("file", NUMPY)
def test_numpy_fares_no_worse_resumed(of_numpy, file):
    judge(of_numpy[file])


def test_resumed_processes_fail_never_and_repeat_no_random_value():
    one = resumes.suite(Path(sys.executable))
    prepare(one)
    assert resumes.resume_many(one, N_RESUMES) == []


PASSES = Result(0, {"a": "passed", "b": "passed", "c": "skipped"}, "")


@pytest.mark.parametrize(
    "resumed",
    [
        PASSES._replace(status=2),
        PASSES._replace(status=None),
        PASSES._replace(status=NOT_RESUMED, tests={}),
        PASSES._replace(status=NOTHING_TO_RUN, tests={}),
        PASSES._replace(tests={}),
        PASSES._replace(tests={"a": "passed", "b": "skipped"}),
        PASSES._replace(tests={"a": "passed"}),
    ],
    ids=["fails", "hangs", "is not resumed", "selects nothing", "reports nothing", "skips a test", "loses a test"],
)
def test_a_file_that_passes_plain_is_worse_when_it_resumed(resumed):
    assert Comparison("file", PASSES, resumed, is_flaky=False).is_worse()


def test_a_file_that_fails_alike_is_not_worse():
    fails = Result(2, {"a": "passed", "b": "failed"}, "")
    assert not Comparison("file", fails, fails, is_flaky=False).is_worse()
    assert Comparison("file", fails, fails._replace(tests={"a": "failed", "b": "failed"}), is_flaky=False).is_worse()
