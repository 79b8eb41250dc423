"""The key of a snapshot: one text, made of labelled parts, so that a reason can name the part that differs
(native/snapshot/key.h).

Two runs with one key may take the same snapshot; runs with different keys keep a variant each.
"""

from __future__ import annotations

import os
import sys

from magicheap._cpython import X_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Part = tuple[str, list[str]]  # label and items

_OPTIONS_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")  # of the interpreter
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t"})


def join(parts: Iterable[Part]) -> str:
    """Return the text of a key. The part "place" comes last."""
    return "".join(f"\n{label}=" + "\t".join(item.translate(_ESCAPES) for item in items) for label, items in parts)


def split(text: str) -> list[Part]:
    """Return the parts of a key; none if it has none, as a C program's key may."""
    lines = text.split("\n")[1:] if text.startswith("\n") else []
    return [(label, items.split("\t")) for label, _, items in (line.partition("=") for line in lines)]


def program() -> Part:
    """Return the program's file, and how it is run; nothing if the program is no file."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if not isinstance(path, str) or not os.path.exists(path):
        return "program", []
    skipped = n_skipped(sys.orig_argv)
    is_module = sys.orig_argv[skipped - 1 : skipped] == ["-m"]
    return "program", [os.path.realpath(path), "run by -m" if is_module else "run as a script"]


def interpreter() -> Part:
    """Return the interpreter: another one would read the same files differently."""
    # independent of its name: python, python3
    directory, real = os.path.dirname(sys.executable), os.path.realpath(sys.executable)
    return "interpreter", [directory, real, sys.implementation.name, " ".join(sys.version.split())]


def options() -> Part:
    """Return the interpreter's options, from its command line or from variables: most act only at its start."""
    flags = str(sys.flags).partition("(")[2].rstrip(")").split(", ")
    unbuffered = [f"unbuffered={int(_is_unbuffered(sys.orig_argv))}"]  # not among the flags
    return "options", [
        *flags,
        *unbuffered,
        *(f"-W {each}" for each in sys.warnoptions),
        *(f"-X {name}={value}" for name, value in X_OPTIONS.items()),
    ]


def n_skipped(words: list[str]) -> int:
    """Return how many words of a Python command line come before those that become sys.argv."""
    i = 1
    while i < len(words) and words[i].startswith("-") and words[i] != "-":
        word, i = words[i], i + 1
        if word in ("-c", "-m"):
            return i
        if word in _OPTIONS_WITH_VALUE:
            i += 1
    return i


def arguments() -> list[str]:
    """Return the arguments that the program was started with, whatever its changes to sys.argv."""
    return sys.orig_argv[n_skipped(sys.orig_argv) + 1 :] if sys.orig_argv else sys.argv[1:]


def _is_unbuffered(words: list[str]) -> bool:
    """Tell whether -u is among the interpreter's options, alone or after other letters."""
    options = [word[1:] for word in words[1 : n_skipped(words)] if word.startswith("-") and not word.startswith("--")]
    # a value follows these letters
    alone = (word[: next((i for i, letter in enumerate(word) if letter in "cmWX"), None)] for word in options)
    return any("u" in letters for letters in alone)


def search_path() -> tuple[Part, Part]:
    """Return the search path of modules: the working directory, which `python -m` puts first, is a part of its own."""
    entries = [str(entry) for entry in sys.path]
    words = sys.orig_argv
    is_module = (
        "-m" in words[1:-1]
        and not getattr(sys.flags, "safe_path", False)
        and entries
        and os.path.isabs(entries[0])
        and entries[0] == _working_directory()
    )
    directory = entries[:1] if is_module else []
    return ("directory", directory), ("path", entries[len(directory) :])


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
