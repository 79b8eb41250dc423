"""How long `magic-llama` takes from exec to exit: without a snapshot, making one, and from one.

    python bench/bench_llama.py MODEL.gguf [--runs N]

The three kinds of run take turns, so that a drift of the machine's speed meets all alike; medians, and ratios pair by pair.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAGIC_LLAMA = Path(sys.executable).with_name("magic-llama")
PROMPT = "Hi there"


def run(model: str, n_tokens: int, *options: str) -> float:
    """Return the seconds of one whole process."""
    command = [MAGIC_LLAMA, "-m", model, "-p", PROMPT, "-n", str(n_tokens), "--temp", "0", *options]
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def measure(model: str, n_tokens: int, runs: int, snapshot: Path) -> dict[str, list[float]]:
    """Return seconds by kind of run, taken in turns."""
    times: dict[str, list[float]] = {"no snapshot": [], "cold, commits": [], "warm": []}
    for _ in range(runs + 1):
        snapshot.unlink(missing_ok=True)
        times["no snapshot"].append(run(model, n_tokens, "--no-snapshot"))
        times["cold, commits"].append(run(model, n_tokens, "--snapshot", str(snapshot)))
        if not snapshot.exists():
            sys.exit("the cold run did not commit: see `magicheap doctor`")
        times["warm"].append(run(model, n_tokens, "--snapshot", str(snapshot)))
    return {kind: seconds[1:] for kind, seconds in times.items()}  # the first round warms the page cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=7, help="counted rounds (default %(default)s)")
    options = parser.parse_args()
    print("| magic-llama, whole process | 1 token, s | x | 64 tokens, s | x |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        columns = [measure(options.model, n, options.runs, Path(scratch) / "magic.dat") for n in (1, 64)]
    for kind in columns[0]:
        cells = []
        for column in columns:
            ratio = statistics.median(base / own for base, own in zip(column["no snapshot"], column[kind]))
            cells += [f"{statistics.median(column[kind]):.3f}", f"{ratio:.2f}"]
        print(f"| {kind} | {' | '.join(cells)} |")
    print("\nx: how many times as fast as without a snapshot, the median of the rounds' ratios.")


if __name__ == "__main__":
    main()
