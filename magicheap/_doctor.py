"""Probes what snapshots need of this machine: each assumption by itself, then the commit and resume of a process."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from magicheap._cpython import assumptions
from magicheap._image import text_of
from magicheap._native import ffi, lib
from magicheap._paths import command_path, obstacle
from magicheap._surroundings import why_never

_TIMEOUT_S = 60  # arbitrary: a thousand times the usual duration
_TINY = """
from magicheap import magic_transaction
with magic_transaction("tiny.magic"):
    pass
"""


class Probe(NamedTuple):
    """One assumption about the machine, and whether it holds."""

    kind: str  # of the snapshots that need it: "heap" (and so both) or "process"
    name: str
    obstacle: str  # "" if it holds
    remark: str = ""  # what the fallback costs, if the assumption holds only by one


def probe_machine(directory: str) -> list[Probe]:
    """Try each assumption of snapshots in `directory`."""
    heap = [_probe_directory(directory), *_probes("heap", lib.mh_probe, os.fsencode(directory))]
    process = [
        _probe_interpreter(),
        *_probe_assumptions(),
        *_probes("process", lib.mh_process_probe),
        _probe_code(directory),
        _probe_command(),
    ]
    if not any(probe.obstacle for probe in (*heap, *process)):
        process.append(_probe_tiny(directory))
    return heap + process


def _probes(kind: str, run: Callable[..., int], *arguments: Any) -> Iterator[Probe]:
    name, err, i = ffi.new("const char **"), ffi.new("mh_error *"), 0
    while (status := run(i, name, *arguments, err)) != lib.MH_ERR_ARGUMENT:
        detail = text_of(err.detail)
        obstacle = "" if status == lib.MH_OK else detail or text_of(lib.mh_strerror(status))
        yield Probe(kind, text_of(name[0]), obstacle, detail if status == lib.MH_OK else "")
        i += 1


def _probe_directory(directory: str) -> Probe:
    missing = "" if os.path.isdir(directory) else f"{directory} is no directory"
    return Probe("heap", "directory for snapshots", obstacle(os.path.join(directory, "any")) or missing)


def _probe_interpreter() -> Probe:
    return Probe("process", "interpreter with its launcher", why_never())


def _probe_assumptions() -> list[Probe]:
    """Return one probe for all assumptions about the interpreter that hold, or one for each that does not."""
    failed = [why for _, why in assumptions() if why]
    return [Probe("process", "internals of the interpreter", why) for why in failed or [""]]


def _probe_code(directory: str) -> Probe:
    """A resumed process runs code that is mapped from its snapshot."""
    name, why = "code mapped from the directory", ""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.truncate(mmap.PAGESIZE)
            mmap.mmap(file.fileno(), mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    except PermissionError as error:
        why = f"nothing in {directory} may be executed (a noexec mount), or nothing made: {error.strerror}"
    except OSError as error:
        why = str(error)
    return Probe("process", name, why)


def _probe_command() -> Probe:
    missing = "" if command_path() else "magic, by which programs start fastest, is not there: they start by python"
    return Probe("process", "magic for this interpreter", "", missing)


def _probe_tiny(directory: str) -> Probe:
    """Commit a process that does nothing, and resume it."""
    name = "commit and resume of a small process"
    try:
        with tempfile.TemporaryDirectory(prefix="magicheap-doctor-", dir=directory) as place:
            script = os.path.join(place, "tiny.py")
            with open(script, "w") as file:
                file.write(_TINY)
            why = _run(sys.executable, script, "committed ")
            for program in filter(None, (sys.executable, command_path())):
                why = why or _run(program, script, "warm: ")
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    return Probe("process", name, why)


def _run(program: str, script: str, expected: str) -> str:
    """Run the script; return "" if magicheap logs `expected`, else all that the script prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAGICHEAP_")}
    env |= {"MAGICHEAP_LOG": "info", "XDG_CACHE_HOME": os.path.dirname(script)}
    done = subprocess.run(
        [program, script],
        cwd=os.path.dirname(script),
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    if done.returncode == 0 and f"magicheap: {expected}" in done.stderr:
        return ""
    return f"{os.path.basename(program)} ended with status {done.returncode}: {' '.join(done.stderr.split())}"
