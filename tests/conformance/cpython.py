"""Run CPython's own tests, each file in a plain interpreter and in a resumed one; exit with 1 if any fares worse
resumed.

    python cpython.py [--python PYTHON] [-j JOBS] [FILE ...]

PYTHON is what tools/cpython_suite.sh prints. FILE is a name such as test_os; by default all are run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from suites import TIMEOUT_S, Suite, main

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).resolve().parent
# What needs a network, a screen or gigabytes is off.
RESOURCES = "all,-network,-urlfetch,-gui,-audio,-largefile"
# Hang in a plain interpreter too: in a virtual machine whose vsock leads to nobody.
HANGING = "*VSOCK*"


def suite(python: Path, chosen: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Suite:
    """Return CPython's tests as `python` has them; `chosen` are regrtest's options that choose among the tests of a
    file."""
    common = ["-u", RESOURCES, "-i", HANGING, "--timeout", str(TIMEOUT_S - 10)]

    def arguments(file: str, report: Path) -> list[str]:
        return [*common, *chosen.get(file, ()), "--junit-xml", str(report), file]

    return Suite(python, "test", HERE / "cpython_program.py", arguments, is_in_cache=True)


def files_of(python: Path) -> list[str]:
    """Return the names of all of them, as regrtest finds them."""
    return subprocess.run(
        [python, "-m", "test", "--list-tests"], check=True, capture_output=True, text=True
    ).stdout.split()


if __name__ == "__main__":
    sys.exit(main(__doc__, suite, files_of))
