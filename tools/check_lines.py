"""List each line of a tracked text file that is longer than 120 columns, ends in blanks, or has a tab where none
belongs.

Exempt are rows of Markdown tables and lines of .pth files, which can't be broken; the licence, data of tests, and help
texts in the form that commands print, which is not ours.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 120  # as in pyproject.toml, .clang-format and .editorconfig
NOT_OURS = ("LICENSE", "tests/llama/data/", "docs/reference/cli.md")


def tracked() -> Iterator[tuple[str, str]]:
    """Yield path and text of each file in the repository that is text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for path in listed.split("\0"):
        if path and (ROOT / path).is_file() and not path.startswith(NOT_OURS):
            try:
                yield path, (ROOT / path).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def faults(path: str, text: str) -> Iterator[tuple[int, str]]:
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "the last line has no end"
    for number, line in enumerate(text.split("\n"), 1):
        is_whole = path.endswith(".pth") or (path.endswith(".md") and line.startswith("|"))
        if len(line) > WIDTH and not is_whole:
            yield number, f"{len(line)} columns, expected at most {WIDTH}"
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
        if "\t" in line and not path.endswith("Makefile"):
            yield number, "a tab"


def main() -> int:
    found = [f"{path}:{number}: {what}" for path, text in tracked() for number, what in faults(path, text)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
