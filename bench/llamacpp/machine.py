"""What this machine has: free disk and memory, compilers, and the ceilings that bench/ceilings.c measures."""

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from gguf import GGUFReader
from spawn import timed

SOURCE = Path(__file__).parent.parent / "ceilings.c"
COMPILERS = ("cc", "c++")


class Ceilings(NamedTuple):
    """What so many threads reached at once; int8 is None where the CPU has no instructions for it."""

    int8: float | None  # 10^9 operations a second
    int8_name: str
    read_file: float  # GB/s from the page cache
    read_huge: float  # GB/s from anonymous huge pages

    @property
    def read(self) -> float:
        """The faster of the two, in GB/s."""
        return max(self.read_file, self.read_huge)


class Weights(NamedTuple):
    """What the evaluation of one token takes, of a model as its file has it."""

    read_bytes: int  # of all matrices, but of the embedding only where it is the head as well
    block_operations: int  # of the layers' matrices: a product and an addition each


def compile_ceilings(cache: Path) -> Path:
    program = cache / "ceilings"
    own = SOURCE.parent / platform.machine()  # what only this CPU has
    subprocess.run(["cc", "-O3", "-pthread", f"-I{own}", SOURCE, "-o", program], check=True)
    return program


def measure_ceilings(program: Path, file: Path, n_threads: int) -> Ceilings:
    return parse_ceilings(timed([str(program), str(file), str(n_threads)]).output.decode())


def parse_ceilings(output: str) -> Ceilings:
    found = {name: float(value) for name, value in map(str.split, output.splitlines())}
    int8_name = next((name for name in found if name.startswith("int8_")), "int8")
    return Ceilings(found.get(int8_name), int8_name.removeprefix("int8_"), found["read_file"], found["read_huge"])


def weights(file: Path) -> Weights:
    matrices = {tensor.name: tensor for tensor in GGUFReader(file).tensors if len(tensor.shape) == 2}
    read = [
        tensor for name, tensor in matrices.items() if name != "token_embd.weight" or "output.weight" not in matrices
    ]
    blocks = [tensor for name, tensor in matrices.items() if name.startswith("blk.")]
    return Weights(sum(int(each.n_bytes) for each in read), 2 * sum(int(each.n_elements) for each in blocks))


def missing_compilers() -> list[str]:
    return [name for name in COMPILERS if not shutil.which(name)]


def free_disk_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def free_memory_bytes() -> int:
    """Return what processes can still have: free, or cached and clean."""
    (line,) = (line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) << 10


def n_cpus() -> int:
    return len(os.sched_getaffinity(0))
