"""What a snapshot does for every example that can run here: the table of docs/performance.md.

    python bench/bench_libraries.py [--runs N] [NAME...]

Seconds are those of the whole process, from before the spawn until it has ended, output and all: without magicheap,
cold (which also commits), and resumed. The last column is what each process has written by the time it prints, which is
what one more of them costs: the rest is shared.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from spawn import MAGIC, QUIET, held, memory, timed

EXAMPLES = Path(__file__).parent.parent / "examples"
# name: what it needs besides the standard library, and its arguments
COMMANDS = {
    "minimal": ([], ["1000"]),
    "numpy_sentencepiece": (["numpy", "sentencepiece"], ["how", "do", "I", "delete", "an", "attribute"]),
    "torch_module": (["torch"], ["the cat sat", "the cat sits", "4 + 4"]),
    "transformers_tokenizer": (["transformers"], ["for line in file: print(line)"]),
    "sklearn_forest": (["sklearn"], ["0", "1", "2"]),
    "jieba_cut": (["jieba"], ["我来到北京清华大学"]),
    "pandas_pyarrow": (["pandas", "pyarrow"], ["Oslo", "Lima"]),
    "sqlite_memory": ([], ["context", "manager"]),
    "many_patterns": ([], ["order 4711-b, then call 0042"]),
    "big_dict": ([], ["1357", "4711"]),
}


def measure(name, arguments, n_runs, directory):
    """Return a row of the table."""
    arguments = [str(EXAMPLES / f"{name}.py"), *arguments]
    python, magic = [sys.executable, *arguments], [str(MAGIC), *arguments]
    env = {**QUIET, "XDG_CACHE_HOME": directory}
    plain, resumed = [], []
    cold = timed(magic, env)
    images = list(Path(directory, "magicheap").glob(f"{name}-*.magic"))
    if not images:
        sys.exit(f"{name} did not commit: it has said why")
    for _ in range(n_runs):
        plain.append(timed(python, {**env, "MAGICHEAP_DISABLE": "1"}))
        resumed.append(timed(magic, env))
    if any(run.output != cold.output for run in plain + resumed):
        sys.exit(f"{name} printed something else when it was resumed: please report this")
    (image,) = images
    with held(magic, env=env) as (pid,):
        private = memory(pid)["Private_Dirty"]
    plain_s, resumed_s = (statistics.median(run.whole_s for run in runs) for runs in (plain, resumed))
    times = f"{plain_s:.2f} s | {cold.whole_s:.2f} s | {resumed_s * 1e3:.1f} ms"
    return f"{times} | {os.stat(image).st_blocks * 512 / 1e6:.0f} MB | {private / 1e6:.1f} MB"


def can_import(modules):
    from importlib.util import find_spec

    return all(map(find_spec, modules))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=21, help="of each kind, in turns (default %(default)s)")
    parser.add_argument("names", nargs="*", choices=[*COMMANDS, []], help="of examples; none: all that can run here")
    options = parser.parse_args()
    print("| example | plain | cold, commits | resumed | image | written per process |\n|---|---|---|---|---|---|")
    for name, (modules, arguments) in COMMANDS.items():
        if name in (options.names or COMMANDS):
            if not can_import(modules):
                print(f"{name} was left out: it needs {' and '.join(modules)}", file=sys.stderr)
                continue
            with tempfile.TemporaryDirectory(prefix="magicheap-bench-") as directory:
                print(
                    f"| [{name}](examples/{name}.py) | {measure(name, arguments, options.runs, directory)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
