"""The options of magic-llama, checked. Defaults of sampling are llama.cpp's."""

from __future__ import annotations

import argparse
import math
import os
import sys
from functools import lru_cache

from llama._native import LlamaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

EPILOG = """Without -p, standard input is the prompt. With -p it is not read, so that a shell's loop that shares it \
loses nothing;
a - at the end appends it to the prompt: git diff | magic-llama -m MODEL -p "Write a commit message" -

Model, system message and prefix are evaluated once. Every later run with the same ones, whatever its prompt, \
resumes after
them. So text that many prompts share belongs into --system or --prefix-file. Of a prefix that has grown, only the new \
text is
evaluated. MAGICHEAP_DISABLE=1 runs without any snapshot.

A chat (-i) that outgrows its context forgets its oldest turns, never the system message or the prefix, and says so.

exit status:
  0    answered
  1    the model cannot be read or used, memory is short, or stdout cannot be written
  2    wrong options, no prompt, or a prompt longer than the context
  130  interrupted (Ctrl-C)
  141  the reader of stdout went away
"""
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127  # the kernels' float32
STDIN = "-"


class UsageError(LlamaError):
    """The command line asks for something impossible; exit status 2."""


def options() -> argparse.Namespace:
    """Return the options of the present command line; exits with status 2 and a usage message if they are wrong."""
    return _parse(tuple(sys.argv[1:]))


@lru_cache(1)
def _parse(words: tuple[str, ...]) -> argparse.Namespace:
    args = parser().parse_args(words)
    args.prompt, args.system = _clean(args.prompt), _clean(args.system)
    if args.prompt == STDIN:
        args.prompt, args.stdin = None, STDIN
    return args


def _clean(argument: str | None) -> str | None:
    """Return a command-line argument as text: bytes that are not UTF-8 become U+FFFD."""
    return argument and os.fsencode(argument).decode("utf-8", "replace")


@lru_cache(1)
def parser() -> argparse.ArgumentParser:
    """Return the one argparse parser."""
    parser = argparse.ArgumentParser(
        prog="magic-llama",
        description="Ask a LLaMA-family model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-m", "--model", required=True, help="GGUF file, or directory with consolidated.*.pth")
    add("-p", "--prompt", help="what to ask; -p - takes it from standard input")
    add(
        "stdin",
        nargs="?",
        type=_only_stdin,
        metavar=STDIN,
        help="a - appends standard input to the prompt, after a blank line",
    )
    add("-i", "--interactive", action="store_true", help="go on asking; needs a terminal, ends with Ctrl-D")
    add("-n", type=_at_least(-1), default=-1, metavar="N", help="most tokens to answer with (-1: no limit)")
    add(
        "-c",
        "--ctx",
        type=_at_least(1),
        metavar="CTX",
        help="context in tokens (what the model was trained for, up to 4096)",
    )
    add("--cache-type", choices=("i16", "q8_0"), default="i16", help="how the context's keys and values are kept (i16)")
    add(
        "-t",
        "--threads",
        type=_at_least(1),
        metavar="T",
        help="threads, at most the CPUs this process may use (all of them)",
    )
    add("--temp", type=_between(0, LARGEST_FLOAT), default=0.8, metavar="X", help="temperature, 0: greedy (0.8)")
    add("--top-k", type=_at_least(0), default=40, metavar="K", help="keep the K likeliest tokens, 0: all (40)")
    add(
        "--top-p",
        type=_between(0, 1),
        default=0.95,
        metavar="P",
        help="keep tokens up to this probability together, at least one (0.95)",
    )
    add(
        "--min-p",
        type=_between(0, 1),
        default=0.05,
        metavar="P",
        help="keep tokens at least this likely beside the likeliest (0.05)",
    )
    add(
        "--seed",
        type=_at_least(-1, bits=64),
        default=-1,
        metavar="S",
        help="seed of the sampling, of up to 64 bits (-1: random)",
    )
    add("--raw", action="store_true", help="continue the prompt as it is: no chat template")
    add("--system", default="", metavar="TEXT", help="system message for the chat template")
    add("--prefix-file", metavar="FILE", help="text that begins the first prompt, as it is: examples, a document")
    add("--quantize", choices=("q8_0", "q4_0", "q4_1"), help="quantise float weights as they are loaded")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument(
        "--snapshot",
        metavar="FILE",
        help="where the loaded model is kept; its prefix is kept in FILE.prefix (the user's cache directory)",
    )
    kept.add_argument(
        "--no-snapshot", action="store_true", help="load the model anew, and keep neither it nor the prefix"
    )
    add("--timings", action="store_true", help="say on stderr how long it took and why it stopped")
    add("--version", action=_Version)
    return parser


def _only_stdin(word: str) -> str:
    """The argparse type of the one argument without a name."""
    if word != STDIN:
        raise argparse.ArgumentTypeError(
            f"{word!r} is no option: a prompt is given with -p, and - joins standard input to it"
        )
    return word


def _at_least(least: int, bits: int = 31) -> Callable[[str], int]:
    """Return an argparse type for whole numbers that fit the kernels' int32 (a seed: uint64)."""

    def number(string: str) -> int:
        value = int(string)
        if not least <= value < 1 << bits:
            raise argparse.ArgumentTypeError(f"{string} is not between {least} and {(1 << bits) - 1}")
        return value

    return number


def _between(low: float, high: float) -> Callable[[str], float]:
    """Return an argparse type for finite numbers."""

    def number(string: str) -> float:
        value = float(string)
        if not (low <= value <= high and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"{string} is not a number between {low} and {high:.8g}")
        return value

    return number


class _Version(argparse.Action):
    """--version, which reads the installed package's metadata only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print("magic-llama", version("magicheap"))
        parser.exit()
