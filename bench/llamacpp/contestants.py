"""Who is compared, and what one sample of each is: a process of its own, so that samples of different contestants can
take turns."""

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from spawn import MAGIC, QUIET, Run, memory, stopped, timed

MAGIC_LLAMA = Path(sys.executable).with_name("magic-llama")
SAMPLE = Path(__file__).parent.parent / "kernels_sample.py"
PROMPT = "The capital of France is"  # 5 tokens of SmolLM2's, 13 of models.py's vocabulary
DEVNULL = os.open(os.devnull, os.O_RDWR)  # for stdin, and for llama.cpp's log
LONG = 64  # tokens of an answer that goes on while memory is looked at
N_CONTEXT = 512  # of the processes that are started; llama.cpp's default is the most that the model was trained for
READ_BYTES = 1 << 22  # arbitrary


class Case(NamedTuple):
    """A model, and how much is asked of it."""

    title: str
    n_prompt: int
    n_generated: int


class LlamaCpp(NamedTuple):
    name: str
    programs: Path
    file: Path
    start_options: tuple[str, ...] = ()  # llama-completion's
    has_rates: bool = True  # False: those of the contestant before, with the same options

    def rates(self, case: Case, n_threads: int) -> tuple[float, float]:
        """Return tokens per second of a prompt and of a generation."""
        sizes = ["-p", str(case.n_prompt), "-n", str(case.n_generated), "-r", "1", "-t", str(n_threads)]
        command = [str(self.programs / "llama-bench"), "-m", str(self.file), *sizes, "-o", "json"]
        read_through(self.file)
        prompt, generation = json.loads(timed(command, stdin=DEVNULL, stderr=DEVNULL).output)
        return prompt["avg_ts"], generation["avg_ts"]

    def start_s(self, n_threads: int) -> float:
        """Return the seconds of a whole process that answers with one token."""
        read_through(self.file)
        return timed(self._command(n_threads, 1), stdin=DEVNULL, stderr=DEVNULL).whole_s

    def memory(self, n_processes: int) -> Counter:
        """Return what the kernel counts for so many processes that are answering."""
        return summed_memory(self._command(1, LONG), n_processes, QUIET)

    def _command(self, n_threads, n_tokens):
        answer = ["-p", PROMPT, "-n", str(n_tokens), "-t", str(n_threads), "--temp", "0", "--ignore-eos"]
        quiet = ["-no-cnv", "--no-display-prompt"]
        return [str(self.programs / "llama-completion"), "-m", str(self.file), *answer, *quiet, *self.start_options]


class MagicLlama(NamedTuple):
    file: Path
    cache: Path  # where its snapshots are made
    name: str = "magic-llama"
    has_rates: bool = True

    def rates(self, case: Case, n_threads: int) -> tuple[float, float]:
        """Return tokens per second of a prompt and of a generation; the first time, make the snapshot that this
        needs."""
        command = [str(MAGIC), str(SAMPLE), str(self.file), str(n_threads)]
        sizes = [str(case.n_prompt), str(case.n_generated)]
        prompt, generation = self._warm([*command, *sizes], cold=[*command, "1", "1"]).output.split()
        return float(prompt), float(generation)

    def start_s(self, n_threads: int) -> float:
        """Return the seconds of a whole process that answers with one token; the first time, make the snapshots
        before."""
        command = self._command(n_threads, 1)
        return self._warm(command, cold=command).whole_s

    def memory(self, n_processes: int) -> Counter:
        """Return what the kernel counts for so many processes that are answering."""
        self.start_s(1)
        return summed_memory(self._command(1, LONG), n_processes, self._environment())

    def forget(self) -> None:
        """Remove the snapshots."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def _warm(self, command, cold) -> Run:
        """Run the command, which must start from snapshots; if there are none yet, run `cold` before, which makes
        them."""
        if not self._snapshots():
            self._timed(cold)
        before = self._snapshots()
        for path in before:
            read_through(path)
        run = self._timed(command)
        if not before or self._snapshots() != before:
            raise RuntimeError(f"{command} loaded its model anew: with MAGICHEAP_LOG=info it says why")
        return run

    def _snapshots(self):
        """Return the identity of each snapshot: one that is committed anew is another file."""
        return {path: path.stat().st_ino for path in self.cache.rglob("*.magic")}

    def _timed(self, command):
        return timed(command, self._environment(), stdin=DEVNULL)

    def _command(self, n_threads, n_tokens):
        answer = ["-p", PROMPT, "-n", str(n_tokens), "-t", str(n_threads), "--temp", "0"]
        return [str(MAGIC_LLAMA), "-m", str(self.file), *answer, "--raw", "-c", str(N_CONTEXT)]

    def _environment(self):
        return {**QUIET, "XDG_CACHE_HOME": str(self.cache)}


def summed_memory(command, n_processes, env) -> Counter:
    with stopped(command, n_processes, env, stdin=DEVNULL, stderr=DEVNULL) as pids:
        return sum(map(memory, pids), Counter())


def read_through(path: Path) -> None:
    """Bring a file into the page cache, which the kernel may have taken it from since the last sample."""
    buffer = bytearray(READ_BYTES)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
