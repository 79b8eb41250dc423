"""What a snapshot is tied to, as one text, made of parts so that what differs can be told by name
(native/snapshot/key.h).

Two runs with one key may take the same snapshot; runs with different keys are variants, each with its own.
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
    """Return the text of a key. The place comes last."""
    return "".join(f"\n{label}=" + "\t".join(item.translate(_ESCAPES) for item in items) for label, items in parts)


def split(text: str) -> list[Part]:
    """Return the parts of a key; of one without, which a C program may have made, none."""
    lines = text.split("\n")[1:] if text.startswith("\n") else []
    return [(label, items.split("\t")) for label, _, items in (line.partition("=") for line in lines)]


def program() -> Part:
    """Return the file that runs, and how it is run; nothing where no file could go away by itself."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if not isinstance(path, str) or not os.path.exists(path):
        return "program", []
    skipped = n_skipped(sys.orig_argv)
    is_module = sys.orig_argv[skipped - 1 : skipped] == ["-m"]
    return "program", [os.path.realpath(path), "run by -m" if is_module else "run as a script"]


def interpreter() -> Part:
    """Return by what the program is run: another interpreter would read the same files differently."""
    # by whatever name: python, python3
    directory, real = os.path.dirname(sys.executable), os.path.realpath(sys.executable)
    return "interpreter", [directory, real, sys.implementation.name, " ".join(sys.version.split())]


def options() -> Part:
    """Return what the interpreter was told, on its command line or by variables: it acts on most of it only as it
    starts."""
    flags = str(sys.flags).partition("(")[2].rstrip(")").split(", ")
    unbuffered = [f"unbuffered={int(_is_unbuffered(sys.orig_argv))}"]  # which the flags don't tell
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
    """Return what the program was started with behind its name, whatever it has made of sys.argv."""
    return sys.orig_argv[n_skipped(sys.orig_argv) + 1 :] if sys.orig_argv else sys.argv[1:]


def _is_unbuffered(words: list[str]) -> bool:
    """Tell whether -u is among the interpreter's options, alone or behind others."""
    options = [word[1:] for word in words[1 : n_skipped(words)] if word.startswith("-") and not word.startswith("--")]
    # behind these stands a value
    alone = (word[: next((i for i, letter in enumerate(word) if letter in "cmWX"), None)] for word in options)
    return any("u" in letters for letters in alone)


def search_path() -> tuple[Part, Part]:
    """Return where modules are looked for: the working directory apart, which `python -m` puts first."""
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
