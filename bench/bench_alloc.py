"""Replay allocation traces against glibc, mimalloc, jemalloc and an arena, and print ratios to glibc as markdown.

    python bench/bench_alloc.py [--rounds N] [--traces NAME ...] [--build DIRECTORY]

Every round runs every allocator once, one after the other, in processes of their own; a cell is the median over the
rounds of its time divided by glibc's in the same round, so that a machine that slows down slows all. mimalloc and
jemalloc are preloaded where the system has them: `apt install libmimalloc2.0 libjemalloc2`;
`MAGICHEAP_BENCH_PRELOAD=name=path,...` adds others.
"""

import argparse
import ctypes.util
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRACES = ["churn", "server", "short", "load", "vectors", "buffers", "mixed"]
PRELOADED = {"mimalloc": "libmimalloc2.0", "jemalloc": "libjemalloc2"}  # with the Debian package of each


def build(directory):
    if not (directory / "build.ninja").exists():
        setup = ["meson", "setup", directory, ROOT, "-Dbindings=false", "-Dunit_tests=true", "-Dbuildtype=release"]
        subprocess.run(setup, check=True, stdout=subprocess.DEVNULL)
    programs = [f"bench/alloc/replay_{name}" for name in ("malloc", "arena", "routed")]
    subprocess.run(["ninja", "-C", directory, *programs], check=True, stdout=subprocess.DEVNULL)
    return directory / "bench/alloc"


def contestants(programs):
    """Name -> (program, library to preload or None), glibc first."""
    found: dict[str, tuple[Path, str | None]] = {"glibc": (programs / "replay_malloc", None)}
    for name, package in PRELOADED.items():
        library = ctypes.util.find_library(name)
        if library is None:
            print(f"{name} is not installed (apt install {package}): left out", file=sys.stderr)
        else:
            found[name] = (programs / "replay_malloc", library)
    for pair in filter(None, os.environ.get("MAGICHEAP_BENCH_PRELOAD", "").split(",")):
        name, _, library = pair.partition("=")
        found[name] = (programs / "replay_malloc", library)
    found["arena"] = (programs / "replay_arena", None)
    found["routed"] = (programs / "replay_routed", None)
    return found


def replay(program, library, trace, n_threads):
    """Nanoseconds per call, peak KiB."""
    environment = os.environ | ({"LD_PRELOAD": library} if library else {})
    output = subprocess.run(
        [program, trace, str(n_threads)],
        cwd=Path(program).parent,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    nanoseconds, kib = output.split()
    return float(nanoseconds), int(kib)


def measure(players, trace, n_threads, n_rounds):
    """Name -> (median nanoseconds, median ratio to glibc, median peak MiB)."""
    times: dict[str, list[float]] = {name: [] for name in players}
    peaks: dict[str, list[float]] = {name: [] for name in players}
    for _ in range(n_rounds):
        for name, (program, library) in players.items():
            nanoseconds, kib = replay(program, library, trace, n_threads)
            times[name].append(nanoseconds)
            peaks[name].append(kib / 1024)
    ratios = {name: [t / base for t, base in zip(times[name], times["glibc"], strict=True)] for name in players}
    return {name: tuple(map(statistics.median, (times[name], ratios[name], peaks[name]))) for name in players}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--traces", nargs="+", default=TRACES, choices=TRACES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--build", type=Path, default=ROOT / "build/bench")
    arguments = parser.parse_args()
    players = contestants(build(arguments.build))
    others = [name for name in players if name != "glibc"]
    print("Time per call as a fraction of glibc's (peak memory in MiB)\n")
    print(f"| trace | threads | glibc | {' | '.join(others)} |\n|---|---|---|{'---|' * len(others)}")
    for trace in arguments.traces:
        for n_threads in arguments.threads:
            result = measure(players, trace, n_threads, arguments.rounds)
            cells = [f"{result['glibc'][0]:.0f} ns ({result['glibc'][2]:.0f})"]
            cells += [f"{result[name][1]:.2f} ({result[name][2]:.0f})" for name in others]
            print(f"| {trace} | {n_threads} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
