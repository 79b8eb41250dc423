"""Paths of snapshots to which the program gave none, and of the launcher.

The native half determines the user's cache directory, so that Python and the launcher look in one place.

The launcher is installed twice. One copy lies in the package, however that was installed, and resumes. The other is
`magic`, which pip puts among the commands. The launcher tells environments apart by the directory of `magic`, so the
text of a command contains this directory.
"""

from __future__ import annotations

import os
import sys

from magicheap._cpython import blake2b
from magicheap._errors import MagicHeapError, call
from magicheap._native import ffi, lib

SUFFIX = ".magic"  # arbitrary; the content, not the name, makes a file a snapshot
_NOWHERE = "/dev/null/magicheap"  # no directory, and never will be
_PATH_BYTES = 4096  # PATH_MAX

_package = os.path.dirname(os.path.abspath(__file__))
_obstacles: dict[str, str] = {}  # why a directory can't be made


def cache_directory() -> str:
    """Return the directory of default snapshots, which need not exist; if the user has none, one that can't exist."""
    path = ffi.new("char[]", _PATH_BYTES)
    try:
        call(lib.mh_cache_directory, path, _PATH_BYTES)
    except MagicHeapError as error:
        _obstacles[_NOWHERE] = str(error)
        return _NOWHERE
    return os.fsdecode(ffi.string(path))


def made_cache_directory() -> str:
    """Return the directory of default snapshots, made for the user alone. If it can't be made, obstacle() says why."""
    directory = cache_directory()
    if directory != _NOWHERE and not os.path.isdir(directory):
        try:
            call(lib.mh_make_cache_directory)
        except (MagicHeapError, OSError) as error:
            _obstacles[directory] = str(error.strerror) if isinstance(error, OSError) else str(error)
    return directory


def obstacle(path: str) -> str:
    """Return why the directory of a snapshot could not be made, or ""."""
    return _obstacles.get(os.path.dirname(path), "")


def variant_paths(path: str) -> list[str]:
    """Return the paths of all variants of a snapshot (native/snapshot/variants.h)."""
    return [path, *(f"{path}.v{i}" for i in range(1, 8))]


def first_path(path: str) -> str:
    """Return the path that a variant belongs to."""
    stem, _, suffix = path.rpartition(".v")
    return stem if stem.endswith(SUFFIX) and len(suffix) == 1 and suffix in "1234567" else path


def is_snapshot_name(name: str) -> bool:
    """Tell whether this is a name that we give to snapshots."""
    return first_path(name).endswith(SUFFIX)


def links_of(directory: str) -> list[str]:
    """Return the links in a cache directory by which the launcher finds snapshots."""
    directory = os.path.join(directory, "commands")
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return [path for path in (os.path.join(directory, name) for name in names) if os.path.islink(path)]


def is_dangling(link: str) -> bool:
    """Tell whether the snapshot that a link leads to is missing."""
    return not any(map(os.path.lexists, variant_paths(os.path.join(os.path.dirname(link), os.readlink(link)))))


def launcher_path() -> str:
    """Return the path of the launcher in this package; if that is missing, or can't be executed, command_path()."""
    path = os.path.join(_package, "magic")
    return path if os.access(path, os.X_OK) else command_path()


def command_path() -> str:
    """Return the path of the `magic` that runs programs by this interpreter, or ""."""
    beside = os.path.join(os.path.dirname(sys.executable), "magic")
    if os.access(beside, os.X_OK):
        return beside
    site = os.path.dirname(_package)
    for path in (*_recorded(site), os.path.join(site, "bin", "magic")):  # the latter: pip install --target
        if os.access(path, os.X_OK) and _interpreter_of(path) == _identity(sys.executable):
            return path
    return ""


def _recorded(site: str) -> list[str]:
    """Return the paths of commands of that name in the installer's RECORD; `site` holds the package and its RECORD."""
    version = sys.modules["magicheap"].__dict__.get("__version__")
    try:
        with open(
            os.path.join(site, f"magicheap-{version}.dist-info", "RECORD"), encoding="utf-8", errors="surrogateescape"
        ) as file:
            names = [line.split(",")[0].strip('"') for line in file]
    except OSError:
        return []
    return [
        os.path.normpath(os.path.join(site, name))
        for name in names
        if os.path.basename(name) == "magic" and name != "magicheap/magic"
    ]


def _identity(executable: str) -> tuple[str, str]:
    return os.path.dirname(executable), os.path.realpath(executable)


def _interpreter_of(launcher: str) -> tuple[str, str]:
    path = ffi.new("char[]", _PATH_BYTES)
    lib.mh_read_interpreter(path, _PATH_BYTES, os.fsencode(os.path.dirname(launcher)))
    return _identity(os.fsdecode(ffi.string(path)))


def default_path(script: str | None = None) -> str:
    """Return the path of this script's snapshot, and make its directory for the user alone, if it can be made.

    script: None: the running one. Without one (an interactive interpreter, a notebook, python -c), the path is "".
    """
    script = script or getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        return ""
    script = os.path.realpath(script)
    digest = blake2b()(os.fsencode(script), digest_size=8).hexdigest()
    name = os.path.dirname(script) if os.path.basename(script) == "__main__.py" else script  # the package's name
    stem = os.path.splitext(os.path.basename(name))[0][:64]  # names have at most 255 bytes, and characters up to 4
    return os.path.join(made_cache_directory(), f"{stem}-{digest}{SUFFIX}")
