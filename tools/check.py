"""Run all guards of the source, also after a failure, and print the seconds that each takes.

    check.py [NAME ...]      only these guards

The output of a guard is shown if it fails. A guard whose tool is missing is reported as not checked, and does not fail
the run. pyproject.toml, tests/mypy.ini, .clang-tidy and .clang-format configure the guards.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = 77

GUARDS = {
    "lint": ["ruff", "check", "--quiet", "."],
    "format": ["ruff", "format", "--quiet", "--check", "--diff", "."],
    "stubs": [sys.executable, "tools/make_stubs.py", "--check"],
    "types": ["mypy", "--no-error-summary"],
    "test types": ["mypy", "--no-error-summary", "--config-file", "tests/mypy.ini"],
    "gcc": [sys.executable, "tools/check_c.py", "gcc"],
    "clang": [sys.executable, "tools/check_c.py", "clang"],
    "clang-tidy": [sys.executable, "tools/check_c.py", "clang-tidy"],
    "clang-format": ["clang-format", "--dry-run", "--Werror", "FILES:*.c", "FILES:*.h"],
    "spelling": ["codespell", "FILES:*"],
    "lines": [sys.executable, "tools/check_lines.py"],
    "documents": [sys.executable, "-m", "pytest", "--quiet", "tests/project/test_readme.py"],
}


def tracked(pattern: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", pattern], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


def expanded(words: list[str]) -> list[str]:
    """Return the command with FILES:pattern replaced by the matching files of the repository."""
    return [
        each
        for word in words
        for each in (tracked(word.removeprefix("FILES:")) if word.startswith("FILES:") else [word])
    ]


def run(name: str) -> bool:
    """Run a guard and report; return whether it found nothing."""
    start = time.perf_counter()
    done = subprocess.run(
        expanded(GUARDS[name]), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    seconds = time.perf_counter() - start
    verdict = {0: "ok", SKIPPED: done.stdout.strip()}.get(done.returncode, "FAILED")
    print(f"{name:<13} {seconds:6.1f} s  {verdict}", flush=True)
    if verdict == "FAILED":
        print(done.stdout, flush=True)
    return verdict != "FAILED"


def main(*names: str) -> int:
    failed = [name for name in names or GUARDS if not run(name)]
    if failed:
        print(f"make check: {', '.join(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
