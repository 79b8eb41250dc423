"""What it costs to resume a process: to its first line, to its end, in memory. Prints a Markdown table.

    python bench/bench_process.py [--quick] [--runs N] [--resumes N] [--at-once N]

Times are medians, measured from before the spawn; what is compared takes turns, and ratios are those of the rounds.
Every program prints what its body found out when it ran, so that a run which was not resumed is noticed, never counted.
"""

import argparse
import bisect
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from spawn import MAGIC, PAGE_BYTES, QUIET, Run, held, mappings, memory, timed, written_pages

# An empty program for scale: what exec, exit and a pipe cost by themselves.
EMPTY = '#include <unistd.h>\nint main(void) { return write(1, "x\\n", 2) != 2; }\n'

PROGRAM = """
    import os, sys, time
    from magicheap import magic_transaction
    with magic_transaction():
        {body}
        born_ns = time.time_ns()
    print(born_ns, sys.argv[1], flush=True)
    {end}
"""
BARE = "pass"
SMALL = "import numpy, sentencepiece"
LARGE = "import numpy, sentencepiece; heap = numpy.ones({n_mib} << 17)"  # 8 bytes each
TORCH = "import torch"
# a list of one number takes 128 bytes with all that belongs to it
OBJECTS = "heap = [[n] for n in range({n_mib} << 13)]"
LEAVE = "if sys.argv[2:]: os._exit(0)"


class Bench:
    """Programs and their snapshots in one directory, and the rows of the table."""

    def __init__(self, directory, n_runs):
        self.directory, self.n_runs = Path(directory), n_runs
        self.env = {**QUIET, "XDG_CACHE_HOME": str(directory)}
        self.rows = []

    def write(self, name, body, end=""):
        """Write a program; return the command that runs it, first cold and then resumed."""
        path = self.directory / f"{name}.py"
        path.write_text(textwrap.dedent(PROGRAM).format(body=body, end=end))
        return [str(MAGIC), str(path)]

    def program(self, name, body, end=""):
        """Write a program and run it once, so that it commits; return the command that resumes it."""
        command = self.write(name, body, end)
        born = timed([*command, "0"], self.env).output.split()[0]
        if timed([*command, "0"], self.env).output.split()[0] != born:
            sys.exit(f"{name} was not resumed: run it with MAGICHEAP_LOG=info, or see `magicheap doctor`")
        return command

    def plain(self, command):
        """The same program with the interpreter and without a snapshot."""
        return timed([sys.executable, *command[1:], "0"], {**self.env, "MAGICHEAP_DISABLE": "1"})

    def page_faults(self, command):
        """How often a resumed process needed a page: to read it, to copy it, or a new one."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        timed([*command, "0"], self.env)
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before

    def rounds(self, runs):
        """Let functions that return a Run take turns; return the runs by name, without the first round's."""
        taken: dict[str, list[Run]] = {name: [] for name in runs}
        for i in range(self.n_runs + 1):
            for name, run in runs.items():
                result = run()
                if i:
                    taken[name].append(result)
        return taken

    def row(self, what, figure, comparison=""):
        self.rows.append((what, figure, comparison))
        print(f"  {what}: {figure} {comparison}", file=sys.stderr)


def median_ms(seconds):
    return f"{statistics.median(seconds) * 1e3:.3g} ms"


def ratio(numerators, denominators):
    return statistics.median(a / b for a, b in zip(numerators, denominators))


def firsts(runs):
    return [run.first_s for run in runs]


def wholes(runs):
    return [run.whole_s for run in runs]


def start(bench, n_mib):
    """exec to the first line, of resumed processes of several sizes and of what they are measured against."""
    source, empty = bench.directory / "empty.c", bench.directory / "empty"
    source.write_text(EMPTY)
    subprocess.run(["gcc", "-O2", "-static", source, "-o", empty], check=True)
    programs = {
        "a bare interpreter": BARE,
        "numpy and sentencepiece": SMALL,
        f"the same and {n_mib} MiB": LARGE.format(n_mib=n_mib),
    }
    if importlib.util.find_spec("torch"):
        programs["torch"] = TORCH
    commands = {name: bench.program(f"start{i}", body) for i, (name, body) in enumerate(programs.items())}
    by_python = [sys.executable, *commands["numpy and sentencepiece"][1:], "0"]
    taken = bench.rounds(
        {
            "empty": lambda: timed([str(empty)]),
            "python": lambda: timed([sys.executable, "-c", "pass"]),
            "by python": lambda: timed(by_python, bench.env),
            **{name: partial(timed, [*command, "0"], bench.env) for name, command in commands.items()},
        }
    )
    bench.row("an empty static C program, exec to exit", median_ms(wholes(taken["empty"])))
    bench.row("`python -c pass`, exec to exit", median_ms(wholes(taken["python"])))
    for name, command in commands.items():
        first = firsts(taken[name])
        times = f"{ratio(first, wholes(taken['python'])):.2f} times `python -c pass`"
        against = (
            f"; {ratio(first, firsts(taken['numpy and sentencepiece'])):.2f} times the small one"
            if "MiB" in name
            else ""
        )
        bench.row(f"`magic`, {name} loaded: to the first line", median_ms(first), times + against)
        without = (
            f"without a snapshot {median_ms([bench.plain(command).whole_s])}; {bench.page_faults(command)} page faults"
        )
        whole = f"{ratio(wholes(taken[name]), wholes(taken['python'])):.2f} times `python -c pass`; {without}"
        bench.row(f"`magic`, {name} loaded: whole process, exec to exit", median_ms(wholes(taken[name])), whole)
    bench.row(
        "`python`, which meets the transaction and resumes: to the first line", median_ms(firsts(taken["by python"]))
    )
    return commands["numpy and sentencepiece"]


def leaving(bench, n_mib):
    """From the first line to the end, with a heap of small objects: resumed, cut short by _exit, and plain."""
    command = bench.program("leave", OBJECTS.format(n_mib=n_mib), LEAVE)
    taken = bench.rounds(
        {
            "resumed": lambda: timed([*command, "0"], bench.env),
            "_exit": lambda: timed([*command, "0", "now"], bench.env),
        }
    )
    seconds = {name: [run.whole_s - run.first_s for run in runs] for name, runs in taken.items()}
    plain = bench.plain(command)
    times = f"{ratio(seconds['resumed'], seconds['_exit']):.2f} times os._exit"
    without = f"a plain interpreter {median_ms([plain.whole_s - plain.first_s])}"
    bench.row(
        f"first line to the end, {n_mib} MiB of small objects", median_ms(seconds["resumed"]), f"{times}; {without}"
    )


def dirty(bench):
    """What a resumed process that prints one line has written, by what the committing process had there."""
    command = [*bench.write("dirty", SMALL), "0"]
    with held(command, env=bench.env) as (pid,):
        cold = mappings(pid)
    with held(command, env=bench.env) as (pid,):
        total, pages = memory(pid)["Private_Dirty"], list(written_pages(pid, mappings(pid)))
    bench.row("written by a resumed process that prints one line", f"{total / 1e6:.2f} MB", "of that:")
    by_name = Counter(what_was_at(page, cold) for page in pages)
    for name, n_pages in by_name.most_common(12):
        bench.row(f"- {name}", f"{n_pages * PAGE_BYTES >> 10} KiB")


def what_was_at(page, areas):
    i = bisect.bisect(areas, page, key=lambda area: area[0]) - 1
    if i < 0 or page >= areas[i][1]:
        return "the launcher's memory"
    name = areas[i][2]
    return (
        f"data of {os.path.basename(name)}"
        if name.startswith("/")
        else name or "anonymous memory, mostly Python objects"
    )


def sharing(bench, command, n_processes=10):
    """What each further process takes."""
    totals = []
    for n in (1, n_processes):
        with held([*command, "0"], n, bench.env) as pids:
            totals.append(sum(memory(pid)["Pss"] for pid in pids))
    more = (totals[1] - totals[0]) / (n_processes - 1)
    bench.row(
        "each further process takes",
        f"{more / 1e6:.2f} MB",
        f"PSS of {n_processes} against 1, which takes {totals[0] / 1e6:.1f} MB",
    )


def endurance(bench, command, n_resumes, at_once):
    """Resume again and again; every run must be a resumed one and print its own argument."""
    born = timed([*command, "0"], bench.env).output.split()[0]

    def resume(i):
        try:
            return timed([*command, str(i)], bench.env).output.split() == [born, str(i).encode()]
        except RuntimeError:
            return False

    for n_threads in (1, at_once):
        with ThreadPoolExecutor(n_threads) as pool:
            failures = list(pool.map(resume, range(n_resumes))).count(False)
        bench.row(f"{n_resumes} resumes, {n_threads} at a time", f"{failures} failures")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs: does it work?")
    parser.add_argument("--runs", type=int, help="counted rounds")
    parser.add_argument("--resumes", type=int, help="runs of the endurance test")
    parser.add_argument("--at-once", type=int, default=16, help="processes at a time there")
    options = parser.parse_args()
    quick = options.quick
    with tempfile.TemporaryDirectory(prefix="magicheap-bench-") as directory:
        bench = Bench(directory, n_runs=options.runs or (3 if quick else 25))
        small = start(bench, 256 if quick else 4096)
        leaving(bench, 64 if quick else 1024)
        dirty(bench)
        sharing(bench, small)
        endurance(bench, small, options.resumes or (100 if quick else 10_000), options.at_once)
    print("| what | median | |\n|---|---|---|")
    for row in bench.rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
