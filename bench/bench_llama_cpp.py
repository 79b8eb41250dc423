"""magic-llama beside llama.cpp, in one run: rates, start and memory of both, and what the machine could do at most.

    python bench/bench_llama_cpp.py SMOLLM2.gguf [--models smollm2 7b] [--threads 1 2] [--runs N] [--only rates start
    memory]

llama.cpp is built from its own sources, once. A round takes a sample of each contestant, every one a process of its
own, and the next round begins with the next contestant: a machine that drifts, or throttles whoever comes late, meets
all alike.

    rates    llama-bench, and bench_kernels.py's way on a model in a snapshot, both after a prompt that warms up
    start    the whole process from before its spawn until it has ended: a prompt of 5 tokens (13 of 7b's), an answer of
             one
    memory   of processes that are stopped in the midst of an answer
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from llamacpp import build, machine, models
from llamacpp.contestants import Case, LlamaCpp, MagicLlama
from llamacpp.machine import Ceilings
from llamacpp.table import Row, markdown

CASES = {"smollm2": Case("SmolLM2-135M Q4_1", 512, 128), "7b": Case("LLaMA-7B's shape, Q4_0", 128, 32)}
RUNS = {"smollm2": 7, "7b": 3}
MEASURES = ("rates", "start", "memory")
BUILD_BYTES = 1 << 30  # sources, objects and tools: two thirds of it
DISK_BYTES = {"smollm2": 1 << 29, "7b": 8 << 30}  # the file, and a snapshot of it
# the file and a snapshot of it in the page cache, and llama.cpp's repacked copy
MEMORY_BYTES = {"smollm2": 2 << 30, "7b": 12 << 30}
N_PROCESSES = 4
CEILINGS = "the machine's ceilings"  # beside the contestants' names
# llama.cpp's best flags. For rates they are its defaults: flash attention is on by itself; without it, without
# repacking, with weights read instead of mapped, or with smaller batches it took as much processor time or more.
BEST_FLAGS = ("--no-warmup", "-fit", "off", "--no-repack", "-c", "512")
EXPLANATION = f"""
Medians of samples taken in turns; ratios and shares are medians of the rounds' own. Of ms and MB, less is better.
best flags: `{" ".join(BEST_FLAGS)}`; for rates no flag is better than the defaults, which repack the weights if they \
can.
best quantisation: the same of a file in Q4_0, which they can; a model that is Q4_0 has no such column.
Of the ceiling: of a prompt, the multiplications of the layers' matrices against int8; of generation, the bytes of the \
weights that
a token needs, as the file has them, against the faster of the two ways to read. private: what each further process \
takes.
An empty cell of {N_PROCESSES} processes: there is too little memory here for so many.
"""


def main() -> None:
    options = parse()
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "magicheap-bench"
        / f"llama-cpp-python-{build.VERSION}"
    )
    cache.mkdir(parents=True, exist_ok=True)
    names = affordable(options.models, cache)
    build.say(f"what is fetched and made is kept in {cache} (4 GB with 7b), which may be removed at any time")
    build.say("on two quiet cores smollm2 takes 5 minutes and 7b 15, after 10 for the first build")
    try:
        programs = build.programs(cache)
        ceilings = machine.compile_ceilings(cache)
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench-llama: {error}; what was built so far, and its log, are in {cache}/build")
    for name in names:
        with tempfile.TemporaryDirectory(dir=cache, prefix="snapshots-") as snapshots:
            contestants = enter(name, Path(options.smollm2), cache, programs, Path(snapshots))
            comparison = Comparison(CASES[name], contestants, ceilings, options.threads, options.runs or RUNS[name])
            rows = [row for measure in MEASURES if measure in options.only for row in getattr(comparison, measure)()]
            print(f"\n{markdown(CASES[name].title, [each.name for each in contestants], rows)}", flush=True)
            if comparison.ceilings:
                print(f"\n{ceilings_table(comparison.ceilings)}", flush=True)
    print(EXPLANATION)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("smollm2", help="SmolLM2-135M-Instruct in Q4_1, a GGUF file")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES), help="(all)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[n for n in (1, 2) if n <= machine.n_cpus()], help="(1 2)"
    )
    parser.add_argument("--runs", type=int, help=f"rounds ({RUNS['smollm2']}, of 7b {RUNS['7b']})")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES, help="what to measure (everything)")
    options = parser.parse_args()
    if max(options.threads) > machine.n_cpus():
        parser.error(f"--threads {max(options.threads)}, but there are {machine.n_cpus()} CPUs")
    return options


def affordable(names: list[str], cache: Path) -> list[str]:
    """Return the models that this machine has room for, and say which it hasn't; exit if there is none, or no
    compiler."""
    if missing := machine.missing_compilers():
        sys.exit(f"bench-llama: {' and '.join(missing)} not found: install a C and C++ compiler, g++ and gcc on Debian")
    disk = machine.free_disk_bytes(cache) - (0 if (cache / "bin").is_dir() else BUILD_BYTES)
    found = []
    for name in names:
        for what, free, needed in [
            ("disk", disk, DISK_BYTES[name]),
            ("memory", machine.free_memory_bytes(), MEMORY_BYTES[name]),
        ]:
            if free < needed:
                build.say(
                    f"{name} is left out: it needs {needed / (1 << 30):.1f} GiB of {what}, "
                    f"{max(free, 0) / (1 << 30):.1f} are free"
                )
                break
        else:
            found.append(name)
    return found or sys.exit("bench-llama: no model is left to compare")


def enter(name: str, smollm2: Path, cache: Path, programs: Path, snapshots: Path) -> list:
    """Return the contestants for one model, ours the last; make the files that they need."""
    if name == "smollm2":
        file, quantised = smollm2, models.smollm2_q4_0(smollm2, cache / "smollm2-q4_0.gguf", programs)
    else:
        file, quantised = models.random_model(cache / "llama-7b-shape.gguf"), None
    theirs = [
        LlamaCpp("llama.cpp, defaults", programs, file),
        LlamaCpp("best flags", programs, file, BEST_FLAGS, has_rates=False),
    ]
    if quantised:
        theirs.append(LlamaCpp("best quantisation", programs, quantised, BEST_FLAGS))
    return [*theirs, MagicLlama(file, snapshots)]


class Comparison:
    """Of contestants, ours the last, on one model. Each measure returns rows of the table."""

    def __init__(
        self, case: Case, contestants: list, ceilings_program: Path, threads: list[int], n_rounds: int
    ) -> None:
        self.case, self.contestants, self.threads, self.n_rounds = case, contestants, threads, n_rounds
        self.ours = contestants[-1]
        self.ceilings: dict[int, list[Ceilings]] = {}  # by threads, of each round of rates
        self._measure_ceilings = partial(machine.measure_ceilings, ceilings_program, self.ours.file)

    def rates(self) -> list[Row]:
        rows, weights = [], machine.weights(self.ours.file)
        for n in self.threads:
            samplers = {each.name: partial(each.rates, self.case, n) for each in self.contestants if each.has_rates}
            taken = self._in_turns(
                f"rates, {counted(n, 'thread')}", {CEILINGS: partial(self._measure_ceilings, n), **samplers}
            )
            self.ceilings[n] = taken.pop(CEILINGS)
            prompts, generations = (
                {name: [rates[i] for rates in samples] for name, samples in taken.items()} for i in (0, 1)
            )
            compute = [each.int8 * 1e9 / weights.block_operations for each in self.ceilings[n] if each.int8]
            reading = [each.read * 1e9 / weights.read_bytes for each in self.ceilings[n]]
            on = f"{counted(n, 'thread')}, tokens/s"
            rows.append(Row(f"prompt of {self.case.n_prompt}, {on}", prompts, 1, True, tuple(compute)))
            rows.append(Row(f"generation of {self.case.n_generated}, {on}", generations, 1, True, tuple(reading)))
        self.ours.forget()  # disk and page cache need not hold two snapshots
        return rows

    def start(self) -> list[Row]:
        rows = []
        for n in self.threads:
            samplers: dict[str, Callable[[], Any]] = {each.name: partial(each.start_s, n) for each in self.contestants}
            taken = self._in_turns(f"start, {counted(n, 'thread')}", samplers)
            ms = {name: [seconds * 1e3 for seconds in samples] for name, samples in taken.items()}
            rows.append(Row(f"process of one token, {counted(n, 'thread')}, ms", ms, 0, False))
        return rows

    def memory(self) -> list[Row]:
        one, several = {}, {}
        for each in self.contestants:
            build.say(f"{self.case.title}, memory: {each.name}")
            one[each.name] = found = each.memory(1)
            if found["Private_Dirty"] * N_PROCESSES + found["Rss"] < machine.free_memory_bytes():
                several[each.name] = each.memory(N_PROCESSES)
            else:
                build.say(
                    f"{each.name} in {N_PROCESSES} processes is left out: {found['Private_Dirty'] >> 20} MiB "
                    "each are too much here"
                )
        return [
            megabytes("resident, MB", one, "Rss"),
            megabytes("of that private, MB", one, "Private_Dirty"),
            megabytes(f"{N_PROCESSES} processes together, MB", several, "Pss"),
        ]

    def _in_turns(self, what: str, samplers: dict[str, Callable[[], Any]]) -> dict[str, list]:
        """Return the samples of each sampler, by round."""
        taken: dict[str, list] = {name: [] for name in samplers}
        for i in range(self.n_rounds):
            first = i % len(samplers)
            for name in [*samplers][first:] + [*samplers][:first]:
                build.say(f"{self.case.title}, {what}, round {i + 1} of {self.n_rounds}: {name}")
                taken[name].append(samplers[name]())
        return taken


def megabytes(what: str, counts: dict, kind: str) -> Row:
    return Row(what, {name: [found[kind] / 1e6] for name, found in counts.items()}, 0, False)


def ceilings_table(ceilings: dict[int, list[Ceilings]]) -> str:
    int8_name = next(iter(ceilings.values()))[0].int8_name
    rows = {
        f"int8 dot products ({int8_name}), GOP/s": "int8",
        "read, page cache, GB/s": "read_file",
        "read, huge pages, GB/s": "read_huge",
    }
    lines = [["this machine", *(counted(n, "thread") for n in ceilings)], ["---"] * (1 + len(ceilings))]
    for what, field in rows.items():
        found = ([getattr(each, field) for each in rounds] for rounds in ceilings.values())
        lines.append([what, *("" if None in values else f"{median(values):.1f}" for values in found)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n > 1)}"


if __name__ == "__main__":
    main()
