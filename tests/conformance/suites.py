"""Run a test file nobody here wrote in a plain interpreter and in a resumed one, and tell what differs.

C1  A run counts as resumed only where the process never executed the body of the transaction: each program that is
    resumed says so itself, and ends with NOT_RESUMED if it had to load. That run has committed, so a second try must be
    resumed.
C2  A file passes with exit status 0, or has nothing to run. Each test that passed plain must be in the resumed report,
    as passed, whether its file passes or not: a test that is skipped or gone has not passed.
C3  Where the two differ, what failed is tried once more. What passes then is flaky: shown, and not held against either
    side.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from resuming import NOT_RESUMED, ONLY_SAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TIMEOUT_S = 300  # for one file; the slowest here takes a third of that
NOTHING_TO_RUN = 5  # exit status of pytest where it selected no test of a file
OUTPUT_LINES = 40  # of a failing file: enough for a traceback
LOST_SHOWN = 10  # where a file ends early all of its tests are lost


class NotResumedError(RuntimeError):
    """There is nothing to compare: the program runs cold every time."""


class Suite(NamedTuple):
    """How one project's tests are run."""

    python: Path  # its launcher `magic` stands beside it
    module: str  # plain: python -m module arguments
    program: Path  # resumed: magic program arguments
    arguments: Callable[[str, Path], list[str]]  # of a test file and where its report goes (JUnit's XML)
    # all runs begin in one directory, which what is loaded asks for; the tests go elsewhere by themselves
    is_in_cache: bool = False

    @property
    def cache(self) -> Path:
        """The cache directory of all runs: it holds the snapshot, and the link by which the launcher finds it."""
        return self.python.parent.parent / "conformance" / self.program.stem


class Result(NamedTuple):
    status: int | None  # exit status; None: stopped after TIMEOUT_S
    tests: dict[str, str]  # "passed", "failed", "skipped"; empty without a report
    output: str

    def is_sound(self) -> bool:
        """True for a pass, and for a file that finds nothing to run on this machine: then nothing is lost either."""
        return self.status in (0, NOTHING_TO_RUN)

    def failed(self) -> set[str]:
        return {test for test, found in self.tests.items() if found == "failed"}

    def count(self, outcome: str) -> int:
        return sum(found == outcome for found in self.tests.values())


class Comparison(NamedTuple):
    file: str
    plain: Result
    resumed: Result
    is_flaky: bool  # no longer worse at the second try

    def lost(self) -> list[str]:
        """Return the tests that passed plain and did not resumed."""
        return [f"{test}: {self.resumed.tests.get(test, 'not run')}" for test, found in self.plain.tests.items()
                if found == "passed" and self.resumed.tests.get(test) != "passed"]  # fmt: skip

    def is_worse(self) -> bool:
        """True if the file passes plain and fails resumed, or fails resumed in tests that pass plain."""
        return bool(self.lost()) or (self.plain.is_sound() and not self.resumed.is_sound())

    def describe(self) -> str:
        lost = self.lost()
        head = f"{self.file}: plain {verdict(self.plain)}, resumed {verdict(self.resumed)}, {len(lost)} tests lost"
        return "\n".join([head, *lost[:LOST_SHOWN], *self.resumed.output.splitlines()[-OUTPUT_LINES:]])


def verdict(result: Result) -> str:
    if result.status == NOT_RESUMED:
        return "not resumed"
    if result.status is None:
        return "timeout"
    if not result.is_sound():
        return f"failed ({result.status if result.status > 0 else signal.Signals(-result.status).name})"
    return f"{result.count('passed')} passed" if result.tests else "nothing to run"


def environment(suite: Suite) -> dict[str, str]:
    """Return the environment of either side: the user's, without what would make them differ or the tests fail."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "MAGICHEAP"))}
    # numpy's tests build with the meson that is there
    path = f"{suite.python.parent}:{os.environ.get('PATH', os.defpath)}"
    return {**kept, "PATH": path, "XDG_CACHE_HOME": str(suite.cache)}


def run(suite: Suite, command: Sequence[str | Path], file: str) -> Result:
    """Run one file to its end in a session and a temporary directory of its own; nothing of either is left."""
    # short: sockets get names in it
    with tempfile.TemporaryDirectory(prefix="mh-", ignore_cleanup_errors=True) as scratch:
        report, output = Path(scratch) / "report.xml", Path(scratch) / "output"
        directory = Path(scratch) / "t"
        directory.mkdir()
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*map(str, command), *suite.arguments(file, report)],
                cwd=suite.cache if suite.is_in_cache else directory,
                env={**environment(suite), "TMPDIR": str(directory)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status = wait(process)
        return Result(status, read_report(report), output.read_text(errors="replace"))


def wait(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit status; None after TIMEOUT_S. Whatever is left of the session is killed."""
    try:
        return process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def read_report(path: Path) -> dict[str, str]:
    """Return the outcome of each test in JUnit's XML, as regrtest and pytest write it; {} where there is none."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        return {}
    tests: dict[str, str] = {}
    for case in root.iter("testcase"):
        name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
        outcomes = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        found = [outcomes[child.tag] for child in case if child.tag in outcomes]
        if tests.get(name) != "failed":  # regrtest runs some twice
            tests[name] = found[0] if found else "passed"
    return tests


def run_plain(suite: Suite, file: str) -> Result:
    return run(suite, [suite.python, "-m", suite.module], file)


def run_resumed(suite: Suite, file: str) -> Result:
    command = [suite.python.with_name("magic"), suite.program]
    result = run(suite, command, file)
    return run(suite, command, file) if result.status == NOT_RESUMED else result  # C1


def heed_interrupts() -> None:
    """What runs in the background of a shell ignores these, and so would the tests, which send them to themselves."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def prepare(suite: Suite) -> None:
    """Commit the suite's program anew. NotResumedError, with what it printed: the run after that is not resumed."""
    shutil.rmtree(suite.cache, ignore_errors=True)
    suite.cache.mkdir(parents=True)
    command: list[str | Path] = [suite.python.with_name("magic"), suite.program, ONLY_SAY]
    nothing = suite._replace(arguments=lambda file, report: [])
    cold, warm = (run(nothing, command, "") for _ in range(2))
    if (cold.status, warm.status) != (NOT_RESUMED, 0):
        raise NotResumedError(
            f"{suite.program.name} was not resumed: exit status {cold.status}, then {warm.status}\n"
            f"{cold.output}{warm.output}"
        )


def compare(suite: Suite, file: str) -> Comparison:
    """Run `file` both ways; twice where the two differ (C3)."""
    first = Comparison(file, run_plain(suite, file), run_resumed(suite, file), is_flaky=False)
    if first.plain.failed() == first.resumed.failed() and not first.is_worse():
        return first
    plain = first.plain if first.plain.is_sound() else run_plain(suite, file)
    again = Comparison(file, plain, run_resumed(suite, file), is_flaky=False)
    return again._replace(is_flaky=not again.is_worse())


def compare_all(suite: Suite, files: Iterable[str], jobs: int) -> list[Comparison]:
    """Compare every file, `jobs` at a time, saying how each went; return what did."""
    heed_interrupts()
    prepare(suite)
    done = []
    with ThreadPoolExecutor(jobs) as pool:
        for comparison in pool.map(lambda file: compare(suite, file), files):
            print(row(comparison), flush=True)
            done.append(comparison)
    return done


def row(comparison: Comparison) -> str:
    note = "WORSE" if comparison.is_worse() else "flaky" if comparison.is_flaky else ""
    return f"{comparison.file:<42} {verdict(comparison.plain):<18} {verdict(comparison.resumed):<18} {note}".rstrip()


def conclude(done: list[Comparison]) -> int:
    """Print what differs and the totals; return the exit status."""
    worse = [comparison for comparison in done if comparison.is_worse()]
    for comparison in worse:
        print(f"\n==== {comparison.describe()}")
    failing = [comparison.file for comparison in done if not comparison.plain.is_sound()]
    tests = sum(comparison.resumed.count("passed") for comparison in done)
    print(f"\n{len(done)} files, {tests} tests passed resumed; {len(worse)} files are worse resumed")
    print(f"fail in a plain interpreter already: {' '.join(failing) or 'none'}")
    return 1 if worse else 0


def main(doc: str, make: Callable[[Path], Suite], files_of: Callable[[Path], list[str]]) -> int:
    """The command line of either suite; `doc` is its module's docstring. Return the exit status."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="an interpreter with magicheap and the tests"
    )
    parser.add_argument("-j", "--jobs", type=int, default=2, help="files at a time (default: 2)")
    parser.add_argument("files", nargs="*", metavar="FILE")
    options = parser.parse_args()
    python = options.python.absolute()
    try:
        return conclude(compare_all(make(python), options.files or files_of(python), options.jobs))
    except NotResumedError as error:
        sys.exit(str(error))
