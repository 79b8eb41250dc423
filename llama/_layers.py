"""The snapshots that magic-llama starts from, each a layer on the one before.

    imports   the interpreter and the modules of an answer: one, whatever the arguments
    model     a model, its tokenizer and its compiled chat template: one per file and quantisation
    prefix    a dialogue that has evaluated --system and --prefix-file: one per text, context and model

L1  A layer holds only what it adds. So it is made in a process that was resumed from the layer below, and a process that has
    just committed one restarts itself, to go on as that snapshot.
L2  Whatever a caller of layer() has read from command line, environment or streams is, behind it, that of the run that
    committed. So options are parsed anew behind each layer, and stdin is read behind the last.
L3  No thread lives at a commit: the progress bar ends with the load, and a session's threads with the prefix.
"""

import contextlib
import os
import sys
from hashlib import blake2b

from magicheap import magic_transaction
from magicheap._paths import made_cache_directory

IMPORTS, MODEL, PREFIX = 1, 2, 3
MADE = "MAGIC_LLAMA_MADE"  # the topmost layer that this command has made and restarted itself behind


def layer(number, load, path=None, key="", is_last=False):
    """Return (load()'s result, whether this command has made it), from the snapshot at `path` if that has the same key.

    May not return, but restart the command: it then comes here once more, and returns what was committed.
    """
    with magic_transaction(path, key=key) as magic:
        loaded = load()
    if magic.committed and not is_last and made() < number:
        restart(number)
    return loaded, not magic.was_committed or made() >= number


def made():
    value = os.environ.get(MADE, "")
    return int(value) if value.isdecimal() else 0


def restart(number):
    """Execute the same command again; return only if that can't be done.

    Without variables that this process was not started with: Python sets LC_CTYPE where there is no locale (PEP 538), and the
    layers of one locale are stale in another.
    """
    with contextlib.suppress(OSError):  # then the next layer is made here, and holds this one's memory a second time
        with open("/proc/self/environ", "rb") as file:
            given = {entry.partition(b"=")[0] for entry in file.read().split(b"\0")}
        environment = {name: value for name, value in os.environb.items() if name in given}
        environment[os.fsencode(MADE)] = b"%d" % number
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def import_all():
    """Import what every answer of a chat model needs, and make the parser of its options."""
    layer(IMPORTS, _import_all)


def _import_all():
    with contextlib.suppress(ImportError):  # who can't do without will say so
        import jinja2.ext  # noqa: F401
        import jinja2.sandbox  # noqa: F401
        import tokenizers  # noqa: F401

    import llama._chat  # noqa: F401
    import llama._cli  # noqa: F401
    import llama._gguf  # noqa: F401
    from llama._options import parser

    parser()


def default_path(model_path, key, suffix=""):
    """Return where the snapshot of a model with this key is kept, named after both; make that directory for the user alone, if it can be made."""
    stem = os.path.splitext(os.path.basename(model_path))[0][:64]
    return os.path.join(made_cache_directory(), f"{stem}{suffix}-{digest(key)}.magic")


def digest(text):
    return blake2b(os.fsencode(text), digest_size=8).hexdigest()
