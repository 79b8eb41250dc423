"""The snapshots that magic-llama starts from, each a layer on the one before.

    imports   the interpreter and the modules of an answer: one, whatever the arguments
    model     a model, its tokenizer and its compiled chat template: one per file, quantisation, interpreter and locale
    prefix    a dialogue that has evaluated --system and --prefix-file: one per text, context and model (_prefixes.py)

L1  A layer holds only its changes to the layer below. So it is made in a process that was resumed from that layer. A
    process that has just committed a layer restarts itself, to continue from the snapshot.
L2  After layer() the caller's values from command line, environment or streams are those of the run that committed. So
    options are parsed anew after each layer, and stdin is read after the last.
L3  No thread lives at a commit: the progress bar ends with the load, and a session's threads with the prefix.
L4  Where a sound snapshot can't be resumed (on a noexec file system, for example), the launcher executes the command
    anew. This must not repeat for ever: a command that is cold for that reason, and has no new layer to restart from,
    makes and takes no more layers.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from hashlib import blake2b

from magicheap import magic_transaction
from magicheap._paths import made_cache_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _T = TypeVar("_T")

IMPORTS, MODEL, PREFIX = 1, 2, 3
MADE = "MAGIC_LLAMA_MADE"  # the topmost layer that this command has made, and restarted itself from
COLD = "MAGICHEAP_COLD"  # why the launcher could not resume, and executed this command instead
SNAPSHOT_MAGIC = b"\x89MH\r\n\x1a\n\0"  # the first bytes of a snapshot
VARIANT = ("LANG", "LC_", "PYTHON")  # prefixes of variables of which another value makes a snapshot stale
SET_BY_PYTHON = ("LC_CTYPE", "C.UTF-8")  # if there is no locale; not in every process of a command

_is_without_layers = False  # L4


def layer(
    number: int, load: Callable[[], _T], path: str | None = None, key: str = "", is_last: bool = False
) -> tuple[_T, bool]:
    """Return (load()'s result, whether this command has made it), from the snapshot at `path` if that has the same key.

    Either returns, or restarts the command by execve; the restarted run reaches this call again and gets the committed
    result.
    """
    global _is_without_layers
    if _is_without_layers:
        return load(), True
    is_cold = COLD in os.environ
    with magic_transaction(path, key=key, compare=False) as magic:  # L2
        loaded = load()
    if magic.committed and not is_last and _made() < number:
        _restart(number)
    if is_cold and not magic.was_committed:  # not in a resumed process, where is_cold is that of the run that committed
        _is_without_layers = True
    return loaded, not magic.was_committed or _made() >= number


def _made() -> int:
    value = os.environ.get(MADE, "")
    return int(value) if value.isdecimal() else 0


def _restart(number: int) -> None:
    """Execute the same command again; return only if that fails."""
    with contextlib.suppress(OSError):  # then the next layer is made here, and holds a second copy of this one's memory
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], _environment(MADE, str(number)))


def spawn(name: str, value: str) -> int:
    """Start the same command once more, with a variable and without output; return its process id. OSError: that
    failed."""
    silent = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
    words = [sys.executable, *sys.orig_argv[1:]]
    return os.posix_spawn(sys.executable, words, _environment(name, value), file_actions=silent)


def _environment(name: str, value: str) -> dict[bytes, bytes]:
    """Return the environment that this process was started with, and one more variable.

    Later variables are left out: Python sets LC_CTYPE if there is no locale (PEP 538), and the layers of one locale are
    stale in another.
    """
    with open("/proc/self/environ", "rb") as file:
        given = {entry.partition(b"=")[0] for entry in file.read().split(b"\0")}
    environment = {each: held for each, held in os.environb.items() if each in given}
    environment[os.fsencode(name)] = os.fsencode(value)
    return environment


def default_path(model_path: str, key: str, middle: str = "", end: str = "") -> str:
    """Return the path of a model's snapshot with this key, named after both; make its directory for the user alone, if
    that is possible."""
    stem = os.path.splitext(os.path.basename(model_path))[0][:64]
    return os.path.join(made_cache_directory(), f"{stem}{middle}-{digest(f'{key} {_variant()}')}{end}.magic")


def _variant() -> str:
    """Return a text that differs between interpreters and locales: each has snapshots of its own."""
    variables = sorted(
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith(VARIANT) and (name, value) != SET_BY_PYTHON
    )
    return f"{sys.prefix} {os.path.realpath(sys.executable)} {sys.version} {sys.flags} {variables}"


def is_replaceable(path: str) -> bool:
    """Tell whether a snapshot may be written to `path`: it is free, an empty file, or a snapshot."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO is not waited for
    except FileNotFoundError:
        return True
    except OSError:
        return not os.path.lexists(path)  # if it does not exist, a commit will fail and say why
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return is_file and os.read(descriptor, len(SNAPSHOT_MAGIC)) in (b"", SNAPSHOT_MAGIC)
    finally:
        os.close(descriptor)


def digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()
