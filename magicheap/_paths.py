"""Where snapshots live that the program gave no path: the user's cache directory, one file per script."""

from __future__ import annotations

import contextlib
import os
import sys

SUFFIX = ".magic"  # arbitrary; what a file is, its content says


def cache_directory() -> str:
    """Return the directory of default snapshots, which need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")  # as the launcher finds it; platformdirs says the same, but its import takes longer than a resume
    return os.path.join(base if base.startswith("/") else os.path.expanduser("~/.cache"), "magicheap")


def variant_paths(path: str) -> list[str]:
    """Return where the snapshots of one path may be: for each there are several, for runs that differ (native/snapshot/variants.h)."""
    return [path, *(f"{path}.v{i}" for i in range(1, 8))]


def first_path(path: str) -> str:
    """Return the path that a variant belongs to."""
    stem, _, suffix = path.rpartition(".v")
    return stem if stem.endswith(SUFFIX) and len(suffix) == 1 and suffix in "1234567" else path


def is_snapshot_name(name: str) -> bool:
    """Tell whether we name snapshots like this."""
    return first_path(name).endswith(SUFFIX)


def links_of(directory: str) -> list[str]:
    """Return the links in a cache directory by which the launcher finds snapshots."""
    directory = os.path.join(directory, "commands")
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return [path for path in (os.path.join(directory, name) for name in names) if os.path.islink(path)]


def is_dangling(link: str) -> bool:
    """Tell whether there is no snapshot that a link leads to."""
    return not any(map(os.path.lexists, variant_paths(os.path.join(os.path.dirname(link), os.readlink(link)))))


def launcher_path() -> str:
    """Return the path of the launcher that was installed beside this interpreter."""
    return os.path.join(os.path.dirname(sys.executable), "magic")


def default_path(script: str | None = None) -> str:
    """Return the path of this script's snapshot, and make its directory for the user alone.

    script  None: the one that runs. ValueError: there is none (an interactive interpreter, a notebook, python -c).
    """
    script = script or getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        raise ValueError("no script to name the snapshot after: pass magic_transaction a path")
    from _blake2 import blake2b  # hashlib would load OpenSSL, too

    script = os.path.realpath(script)
    digest = blake2b(os.fsencode(script), digest_size=8).hexdigest()
    name = os.path.dirname(script) if os.path.basename(script) == "__main__.py" else script  # of a package, its own
    stem = os.path.splitext(os.path.basename(name))[0][:64]  # names have at most 255 bytes, of up to 4 a character
    directory = cache_directory()
    with contextlib.suppress(OSError):  # then mh_begin says what is wrong, and the program runs cold
        os.makedirs(directory, mode=0o700, exist_ok=True)
    return os.path.join(directory, f"{stem}-{digest}{SUFFIX}")
