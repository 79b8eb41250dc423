"""What a snapshot costs and saves: attach, cold run, commit, memory. Prints a Markdown table.

    python bench/bench_snapshot.py [--quick]

Each figure is the median of runs in fresh processes; what is compared takes turns, so that both meet the same noise.
With MAGICHEAP_TEST_MODEL set, the cold runs also load that GGUF file into llama's C structure.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from magicheap._image import open_image
from magicheap._processes import processes_using

# some hundred inputs, as programs have
LIBRARIES = "import numpy, numpy.random, lxml.etree, sentencepiece, json, logging"
N_PROCESSES = 10
REPORT = "import json\ndef report(**values): print(json.dumps(values))\n"

ARRAYS = f"""
    import sys, time
    {LIBRARIES}
    from magicheap import magic_transaction
    started = time.perf_counter()
    magic = magic_transaction(sys.argv[1], process=False)
    with magic:
        entered = time.perf_counter()
        if not magic.was_committed:
            magic.root = [numpy.full(int(sys.argv[2]) << 14, i, "u1") for i in range(64)]
        loaded = time.perf_counter()
    ended = time.perf_counter()
    assert magic.was_committed or magic.committed or "MAGICHEAP_DISABLE" in __import__("os").environ
    report(enter=entered - started, body=loaded - entered, leave=ended - loaded)
"""

OPEN = """
    import sys, time
    if sys.argv[2:]:
        LIBRARIES
    from magicheap import _transaction
    from magicheap._native import ffi, lib
    key = ffi.new("char[]", _transaction._full_key("").encode())
    options, err, tx = ffi.new("mh_options *", {"key": key}), ffi.new("mh_error *"), ffi.new("mh_transaction **")
    path = sys.argv[1].encode()
    started = time.perf_counter()
    status = lib.mh_open(tx, path, options, err)
    ended = time.perf_counter()
    assert status == lib.MH_OK and lib.mh_was_committed(tx[0]), ffi.string(lib.mh_reason(tx[0]))
    report(seconds=ended - started)
""".replace("LIBRARIES", LIBRARIES)

MODEL = """
    import os, sys, time
    from llama.loaders._load import load
    from magicheap import magic_transaction
    started = time.perf_counter()
    with magic_transaction(sys.argv[1], process=False) as magic:
        if not magic.was_committed:
            magic.root = load(os.environ["MAGICHEAP_TEST_MODEL"]).pointer
        loaded = time.perf_counter()
    ended = time.perf_counter()
    report(enter=0, body=loaded - started, leave=ended - loaded)
"""

PEAK = """
    import resource, sys
    import numpy
    from magicheap import magic_transaction
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with magic_transaction(sys.argv[1], process=False, refresh=True) as magic:
        magic.root = [numpy.full(int(sys.argv[2]) << 14, i, "u1") for i in range(64)]
        before = peak()
    assert magic.committed
    report(before=before, after=peak())
"""

STAY = """
    import sys
    import numpy
    from magicheap import magic_transaction
    with magic_transaction(sys.argv[1], process=False) as magic:
        pass
    assert magic.was_committed
    print(sum(int(array.sum()) for array in magic.root), flush=True)
    sys.stdin.readline()
"""


class Bench:
    """Programs and snapshots in one directory, and the rows of the table."""

    def __init__(self, directory, n_runs):
        self.directory, self.n_runs = Path(directory), n_runs
        self.files, self.rows = {}, []

    def path(self, name):
        return str(self.directory / name)

    def command(self, source, *arguments):
        """Write a program down, once, since its file is an input of its snapshot; return its command."""
        if source not in self.files:
            self.files[source] = self.directory / f"program{len(self.files)}.py"
            self.files[source].write_text(REPORT + textwrap.dedent(source))
        return [sys.executable, str(self.files[source]), *map(str, arguments)]

    def run(self, source, *arguments, **env):
        out = subprocess.run(
            self.command(source, *arguments), stdout=subprocess.PIPE, check=True, env={**os.environ, **env}
        ).stdout
        return json.loads(out)

    def row(self, what, figure, comparison=""):
        self.rows.append((what, figure, comparison))
        print(f"  {what}: {figure} {comparison}", file=sys.stderr)


def median(values):
    return statistics.median(list(values))


def milliseconds(seconds):
    return f"{seconds * 1e3:.3g} ms"


def size_name(n_mib):
    return f"{n_mib / 1024:.3g} GiB" if n_mib >= 1024 else f"{n_mib} MiB"


def attach(bench, sizes_mib):
    """mh_open, alone and beside libraries whose calls it must patch, and the whole `with`; of a small and a large arena
    in turn."""
    for n_mib in sizes_mib:
        bench.run(ARRAYS, bench.path(f"attach{n_mib}.magic"), n_mib)
    alone: dict[int, list[float]] = {n: [] for n in sizes_mib}
    opened: dict[int, list[float]] = {n: [] for n in sizes_mib}
    entered: dict[int, list[float]] = {n: [] for n in sizes_mib}
    for _ in range(bench.n_runs):
        for n_mib in sizes_mib:
            path = bench.path(f"attach{n_mib}.magic")
            alone[n_mib].append(bench.run(OPEN, path)["seconds"])
            opened[n_mib].append(bench.run(OPEN, path, "libraries")["seconds"])
            entered[n_mib].append(bench.run(ARRAYS, path, n_mib)["enter"])
    for n_mib in sizes_mib:
        with open_image(bench.path(f"attach{n_mib}.magic")) as image:
            n_inputs = len(image.inputs)
        bench.row(
            f"attach {size_name(n_mib)}, mh_open",
            milliseconds(median(alone[n_mib])),
            f"{n_inputs} inputs; bare interpreter",
        )
        bench.row(
            f"attach {size_name(n_mib)}, mh_open",
            milliseconds(median(opened[n_mib])),
            "the same beside numpy, sentencepiece, lxml",
        )
        bench.row(
            f"attach {size_name(n_mib)}, `with`", milliseconds(median(entered[n_mib])), "the same, root of 64 arrays"
        )


def cold(bench, name, source, *arguments):
    """The body with and without the transaction; what the commit adds stands by itself."""
    path = bench.path("cold.magic")
    inside, outside, leave = [], [], []
    for _ in range(bench.n_runs):
        Path(path).unlink(missing_ok=True)
        with_it = bench.run(source, path, *arguments)
        without = bench.run(source, path, *arguments, MAGICHEAP_DISABLE="1")
        inside.append(with_it["body"] + with_it["enter"])
        outside.append(without["body"] + without["enter"])
        leave.append(with_it["leave"])
    ratio = median(a / b for a, b in zip(inside, outside))
    bench.row(
        f"cold load of {name}, in a transaction", milliseconds(median(inside)), f"{ratio:.2f} times that without one"
    )
    bench.row(f"cold load of {name}, commit", milliseconds(median(leave)), size_name(os.stat(path).st_blocks // 2048))


def commit(bench, n_mib):
    """A commit against cp and fsync of the same file."""
    path, copy = bench.path("commit.magic"), bench.path("copy")
    commits, copies = [], []
    for _ in range(bench.n_runs):
        Path(path).unlink(missing_ok=True)
        commits.append(bench.run(ARRAYS, path, n_mib)["leave"])
        copies.append(copied(path, copy))
    ratio = median(a / b for a, b in zip(commits, copies))
    bench.row(f"commit {size_name(n_mib)}", milliseconds(median(commits)), f"{ratio:.2f} times cp and fsync")
    bench.row(f"cp and fsync {size_name(n_mib)}", milliseconds(median(copies)))


def copied(path, copy):
    """Seconds that cp and fsync take. Timed in a child, as the commit is."""
    script = """
    import os, subprocess, sys, time
    started = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", *sys.argv[1:]], check=True)
    file = os.open(sys.argv[2], os.O_RDONLY)
    os.fsync(file)
    print(time.perf_counter() - started)
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path, copy], stdout=subprocess.PIPE, check=True
    ).stdout
    os.unlink(copy)
    return float(out)


def peak(bench, n_mib):
    found = bench.run(PEAK, bench.path("peak.magic"), n_mib)
    added = (found["after"] - found["before"]) / 2**20
    bench.row(
        f"peak memory of a commit of {size_name(n_mib)}",
        f"{added:.1f} MiB more",
        f"than the {found['before'] / 2**20:.0f} MiB loaded",
    )


def shared(bench, n_mib):
    """Proportional set size of many warm processes against one."""
    path = bench.path("shared.magic")
    bench.run(ARRAYS, path, n_mib)
    for n_processes in (1, N_PROCESSES):
        processes = [
            subprocess.Popen(bench.command(STAY, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(n_processes)
        ]
        for process in processes:
            assert process.stdout
            process.stdout.readline()
        total = sum(use.proportional_bytes for use in processes_using(path)) / 2**20
        for process in processes:
            process.communicate(b"\n")
        bench.row(
            f"memory of the snapshot in {n_processes} warm processes",
            f"{total:.1f} MiB",
            f"PSS, {size_name(n_mib)} of arrays, all read",
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs: does it work?")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="magicheap-bench-") as directory:
        bench = Bench(directory, n_runs=3 if quick else 11)
        attach(bench, (10, 100) if quick else (100, 4096))
        cold(bench, "64 arrays", ARRAYS, 100 if quick else 1024)
        if "MAGICHEAP_TEST_MODEL" in os.environ:
            cold(bench, "a language model", MODEL)
        commit(bench, 100 if quick else 1024)
        peak(bench, 100 if quick else 1024)
        shared(bench, 32 if quick else 256)
    print("| what | median | |\n|---|---|---|")
    for row in bench.rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
