"""Run a compiler, or clang-tidy, over all C of the repository with the flags of the build; each warning is an error.

    check_c.py gcc | clang | clang-tidy

Sources and flags are those that Meson records for a build with the unit tests (build/check/compile_commands.json). No
code is generated: -fsyntax-only. Exit status 77, as in Meson and automake: the tool is missing, or too old to know
_Float16.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/check"
SKIPPED = 77
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Werror"]
# clang does not know, or does not use, gcc's flags for the generation of code; no code is generated.
NOT_FOR_CLANG = (
    "-ffreestanding",  # its own limits.h would have no PATH_MAX, where gcc's has the system's
    "-fno-tree-loop-distribute-patterns",
)
FOR_CLANG = ["-Wno-unknown-warning-option", "-Wno-ignored-optimization-argument", "-Wno-unused-command-line-argument"]
MATTER = re.compile(r"-(D|U|I|std=|m|f(?!PIC|PIE|diagnostics))")  # flags that decide how a source is read


class Source(NamedTuple):
    path: str
    flags: tuple[str, ...]


def sources() -> list[Source]:
    """Return each source with its flags, once, although Meson compiles the library's for several programs; with tests
    and benchmarks."""
    wipe = ["--wipe"] if BUILD.exists() else []
    done = subprocess.run(
        ["meson", "setup", *wipe, str(BUILD), ".", "-Dbindings=false", "-Dunit_tests=true", "-Dbuildtype=release"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout)
    found: dict[tuple[str, tuple[str, ...]], Source] = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8")):
        path = os.path.relpath(BUILD / entry["file"], ROOT)
        flags = [word for word in shlex.split(entry["command"]) if MATTER.match(word)]
        own = [flag for flag in flags if not flag.startswith("-I")]
        if path.endswith(".c"):
            found.setdefault((path, tuple(own)), Source(path, (*map(from_root, flags), *("-pthread",))))
    return list(found.values())


def from_root(flag: str) -> str:
    """Return an -I that is relative to the build directory as one relative to the repository."""
    return "-I" + os.path.relpath(BUILD / flag[2:], ROOT) if flag.startswith("-I") else flag


def knows_half_floats(clang: str) -> bool:
    """Tell whether it compiles _Float16 for any x86-64, as clang does from version 15 on."""
    read = [clang, "-fsyntax-only", "-x", "c", "-"]
    return subprocess.run(read, input="_Float16 half;", text=True, capture_output=True, check=False).returncode == 0


def command(tool: str, source: Source) -> list[str]:
    if tool == "gcc":
        return ["gcc", *source.flags, *WARNINGS, "-fsyntax-only", source.path]
    flags = [flag for flag in source.flags if flag not in NOT_FOR_CLANG]
    if tool == "clang":
        return ["clang", *flags, *WARNINGS, *FOR_CLANG, "-fsyntax-only", source.path]
    return ["clang-tidy", "--quiet", source.path, "--", *flags, *WARNINGS, *FOR_CLANG]


def read_one(words: list[str]) -> str:
    """Return the tool's output for one source; "" if it accepts the source. On stderr clang-tidy prints only counts."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + (done.stderr if done.returncode else "")


def main(tool: str) -> int:
    if shutil.which(tool) is None:
        print(f"{tool} is not installed: NOT CHECKED")
        return SKIPPED
    if tool == "clang" and not knows_half_floats(tool):
        print("clang is older than version 15, which knows _Float16: NOT CHECKED")
        return SKIPPED
    # Tests do on purpose what clang-tidy warns of: they include sources, run commands, and read what must not be read.
    read = [source for source in sources() if tool != "clang-tidy" or source.path.startswith("native/")]
    commands = [command(tool, source) for source in read]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        said = [text for text in pool.map(read_one, commands) if text]
    print("".join(said), end="")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
