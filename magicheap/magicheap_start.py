"""The first instruction of a program that may become a snapshot: called by magicheap.pth as the interpreter starts.

The module lies beside the package, so that other programs do not load the package. In a virtual environment each .pth
file is executed twice, of which the second time is skipped. From here on are watched

    a program that `magic` has started
    a script, or the text of -c, that imports the package
    a program that has reached a magic_transaction before: it has left a mark in the user's cache (_warned.py)

Other programs' questions before their import of the package are found by analysis of the source (_prefix.py).
"""

import os
import stat
import sys

_SCRIPT_BYTES = 1 << 16  # arbitrary: what imports the package later than that leaves a mark
_NAME = b"magicheap"

mark = ""  # a path that exists if the program has reached a transaction before; "": there can be none


def begin() -> None:
    """Begin to watch, if the program is one of the above."""
    global mark
    is_started_by_us = os.environ.pop("MAGICHEAP_WATCH", None) is not None
    kind = "".join((getattr(sys, "argv", None) or [])[:1])  # "-c", "-m", or a script
    what = kind
    if kind in ("-c", "-m"):
        what = "".join(sys.orig_argv[sys.orig_argv.index(kind) + 1 :][:1]) if kind in sys.orig_argv else ""
    mark = _path_of_mark(kind, what)
    if os.environ.get("MAGICHEAP_DISABLE") == "1":
        return
    is_named = _imports_us(os.fsencode(what)) if kind == "-c" else kind != "-m" and _is_named_in(what)
    if is_started_by_us or is_named or (mark and os.path.exists(mark)):
        from magicheap import _watch

        _watch.begin_from_start(is_started_by_us)


def _path_of_mark(kind: str, what: str) -> str:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):
        home = os.environ.get("HOME", "")
        cache = f"{home}/.cache" if home.startswith("/") else ""
    if not cache or not what or what == "-" or kind == "-c":
        return ""
    program = os.fsencode(f"-m {what}" if kind == "-m" else os.path.abspath(what))
    return f"{cache}/magicheap/warned/{_digest(program):032x}"[: -(32 - 24)]


def _digest(text: bytes) -> int:
    """FNV-1a of 128 bits, which needs no import."""
    digest = 0x6C62272E07BB014262B821756295C58D
    for byte in text:
        digest = (digest ^ byte) * 0x1000000000000000000013B & (1 << 128) - 1
    return digest


def _is_named_in(script: str) -> bool:
    try:
        if not stat.S_ISREG(os.stat(script).st_mode):  # opening a named pipe would wake its writer
            return False
        with open(script, "rb", buffering=0) as file:
            return _imports_us(file.read(_SCRIPT_BYTES))
    except OSError:  # Python will say so itself
        return False


def _imports_us(text: bytes) -> bool:
    lines = text.split(b"\n") if _NAME in text else ()
    return any(_NAME in line and line.lstrip().startswith((b"import ", b"from ")) for line in lines)
