"""Run every benchmark, one after the other, and print the tables of docs/performance.md.

python bench/all.py MODEL.gguf [--quick]
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(model: str, *quick: str) -> None:
    runs, rounds = (["--runs", "3"], ["--rounds", "3"]) if quick else ([], [])
    for title, command in [
        ("Allocator", ["bench_alloc.py", *rounds]),
        ("Snapshots", ["bench_snapshot.py", *quick]),
        ("Processes", ["bench_process.py", *quick]),
        ("Examples", ["bench_libraries.py", *runs]),
        ("magic-llama", ["bench_llama.py", model, *runs]),
        ("Kernels", ["bench_kernels.py", model, *runs]),
    ]:
        print(f"\n## {title}\n", flush=True)
        subprocess.run([sys.executable, HERE / command[0], *command[1:]], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
