"""How long `magic-llama` takes to its first token: from nothing, and from each of its layers.

    python bench/bench_llama.py MODEL.gguf [--runs N]

The prompt is short, or preceded by a system message of about 500 tokens. The kinds of run take turns, so that a drift
of the machine's speed meets all alike; medians, and ratios pair by pair. Every run but the first finds its layers made.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from spawn import QUIET, timed

MAGIC_LLAMA = Path(sys.executable).with_name("magic-llama")
PROMPT = "Hi there"
# 3 tokens a number, in SmolLM2's vocabulary
SYSTEM = "You are helpful, and you count: " + " ".join(map(str, range(155)))
KINDS = {  # by what a run starts from: its options, and its variables
    "no snapshot": ([], {"MAGICHEAP_DISABLE": "1"}),
    "imports": (["--no-snapshot"], {}),
    "model": ([], {}),
}


def seconds(
    model: str, cache: str, prompt: list[str], n_tokens: int, options: list[str], variables: dict[str, str]
) -> tuple[float, float]:
    """Return the seconds to the first token and to the end of one process."""
    command = [str(MAGIC_LLAMA), "-m", model, "-n", str(n_tokens), "--temp", "0", *prompt, *options]
    run = timed(command, {**QUIET, "XDG_CACHE_HOME": cache, **variables})
    return run.first_s, run.whole_s


def measure(model: str, runs: int, cache: str) -> dict[str, dict[str, list[float]]]:
    """Return seconds by kind of run, then by column."""
    short, long, kept = ["-p", PROMPT], ["-p", f"{SYSTEM} {PROMPT}"], ["--system", SYSTEM, "-p", PROMPT]
    times: dict[str, dict[str, list[float]]] = {
        kind: {"short": [], "long": [], "64": []} for kind in (*KINDS, "prefix", "first run")
    }
    for _ in range(runs + 1):
        shutil.rmtree(cache, ignore_errors=True)
        times["first run"]["short"].append(seconds(model, cache, short, 1, [], {})[0])
        times["first run"]["long"].append(seconds(model, cache, kept, 1, [], {})[0])
        for kind, (options, variables) in KINDS.items():
            times[kind]["short"].append(seconds(model, cache, short, 1, options, variables)[0])
            times[kind]["long"].append(seconds(model, cache, long, 1, options, variables)[0])
            times[kind]["64"].append(seconds(model, cache, short, 64, options, variables)[1])
        times["prefix"]["long"].append(seconds(model, cache, kept, 1, [], {})[0])
    # the first warms the page cache
    return {kind: {column: each[1:] for column, each in columns.items()} for kind, columns in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=7, help="counted rounds (default %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        times = measure(options.model, options.runs, f"{scratch}/cache")
    print(
        "| magic-llama, from | first token, s | x | behind 500 tokens, s | x | 64 tokens, s | x |\n"
        "|---|---|---|---|---|---|---|"
    )
    for kind, columns in times.items():
        cells = []
        for column, own in columns.items():
            ratio = (
                statistics.median(base / each for base, each in zip(times["no snapshot"][column], own)) if own else None
            )
            cells += [f"{statistics.median(own):.3f}", f"{ratio:.2f}"] if own else ["", ""]
        print(f"| {kind} | {' | '.join(cells)} |")
    print(
        "\nx: how many times as fast as without a snapshot, the median of the rounds' ratios. first run: "
        "makes its layers; behind 500"
    )
    print("tokens, only that of the prefix.")


if __name__ == "__main__":
    main()
