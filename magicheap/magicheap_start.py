"""The first instruction of a program that may become a snapshot: called by magicheap.pth as the interpreter starts.

It lies beside the package, which is not loaded for all other programs. In a virtual environment each .pth file is
executed twice: once is enough. Watched from here on is

    a program that `magic` has begun
    a script, or the text behind -c, that imports the package
    a program that has come to a magic_transaction before: it has left a mark in the user's cache (_warned.py)

What others ask before they import the package is read from their source (_prefix.py).
"""

import os
import stat
import sys

_SCRIPT_BYTES = 1 << 16  # arbitrary: what imports the package later than that leaves a mark
_OPTIONS_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")  # of the interpreter
_NAME = b"magicheap"

mark = ""  # a path: that it is there means that the program comes to a transaction; "": there can be none


def begin() -> None:
    """Begin to watch, where there is reason to."""
    global mark
    is_started_by_us = os.environ.pop("MAGICHEAP_WATCH", None) is not None
    skipped = n_skipped(sys.orig_argv)
    kind, what = sys.orig_argv[skipped - 1], "".join(sys.orig_argv[skipped : skipped + 1])
    mark = _path_of_mark(kind, what)
    if os.environ.get("MAGICHEAP_DISABLE") == "1":
        return
    is_named = _imports_us(os.fsencode(what)) if kind == "-c" else kind != "-m" and _is_named_in(what)
    if is_started_by_us or is_named or (mark and os.path.exists(mark)):
        from magicheap import _watch

        _watch.begin_from_start(is_started_by_us)


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


def _path_of_mark(kind: str, what: str) -> str:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):
        home = os.environ.get("HOME", "")
        cache = f"{home}/.cache" if home.startswith("/") else ""
    if not cache or not what or what == "-" or kind == "-c":
        return ""
    from _imp import source_hash  # of the interpreter itself: nothing is loaded

    program = os.fsencode(f"-m {what}" if kind == "-m" else os.path.abspath(what))
    return f"{cache}/magicheap/warned/{(source_hash(0, program) + source_hash(1, program)).hex()[:24]}"


def _is_named_in(script: str) -> bool:
    try:
        fd = os.open(script, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # Python will say so itself
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and _imports_us(os.read(fd, _SCRIPT_BYTES))
    except OSError:
        return False
    finally:
        os.close(fd)


def _imports_us(text: bytes) -> bool:
    lines = text.split(b"\n") if _NAME in text else ()
    return any(_NAME in line and line.lstrip().startswith((b"import ", b"from ")) for line in lines)
