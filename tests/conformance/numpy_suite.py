"""Run numpy's own tests, each file in a plain interpreter and in a resumed one; exit with 1 if any fares worse resumed.

    python numpy_suite.py [--python PYTHON] [-j JOBS] [FILE ...]

FILE is a path below the numpy package, such as linalg/tests/test_linalg.py; by default all are run.
"""

import subprocess
import sys
from pathlib import Path

from suites import Suite, main

HERE = Path(__file__).resolve().parent


def package(python: Path) -> Path:
    """Return the directory of the numpy that `python` imports."""
    command = [str(python), "-c", "import numpy, os; print(os.path.dirname(numpy.__file__))"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def suite(python: Path) -> Suite:
    """Return numpy's tests as `python` has them, without those that numpy itself calls slow."""
    directory = package(python)

    def arguments(file: str, report: Path) -> list[str]:
        quiet = ["-q", "-p", "no:cacheprovider", "-m", "not slow", f"--rootdir={directory}"]
        return [*quiet, f"--junit-xml={report}", str(directory / file)]

    return Suite(python, "pytest", HERE / "numpy_program.py", arguments)


def files_of(python: Path) -> list[str]:
    directory = package(python)
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("tests/test_*.py"))


if __name__ == "__main__":
    sys.exit(main(__doc__, suite, files_of))
