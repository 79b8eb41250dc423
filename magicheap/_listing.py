"""The snapshots in a directory, for `magicheap ls` and `clean`: kind, variant, and last use of each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from magicheap._errors import CorruptError, FormatError, MagicHeapError
from magicheap._image import Image, open_image
from magicheap._paths import cache_directory, first_path, is_dangling, is_snapshot_name, links_of, variant_paths
from magicheap._words import difference_of

_LEFTOVERS = (".seen", ".lock", ".uncommitted")  # beside a snapshot's first path
_MAGIC = b"\x89MH\r\n\x1a\n\0"  # MHI_MAGIC of native/format.h
_OWN_NAME = re.compile(r"-[0-9a-f]{16}\.magic(\.v[1-7])?$")  # as default_path makes it


class Listed(NamedTuple):
    """A snapshot in a directory, or the remains of one."""

    path: str
    stored_bytes: int
    created_ns: int  # 0 if it can't be read
    problem: str  # why a run here and now would not take it, or ""
    is_lost: bool  # no run will take it
    kind: str = ""  # "heap" or "process"; "" if it can't be read
    parent: str = ""  # the snapshot it is a layer on, or ""; "?" if that no longer exists
    used_ns: int = 0  # when a run took it last; 0: never
    program: str = ""  # the script, if it is known
    variant: str = ""  # how it differs from the others of its path, or ""

    @property
    def state(self) -> str:
        """In words: whether a run here and now would take it."""
        if not self.problem:
            return "fresh"
        return f"stale: {self.problem}" if self.is_lost else f"for other runs: {self.problem}"


def listed(directory: str | None = None) -> list[Listed]:
    """Return the snapshots of a directory by name, damaged ones too, without files of other kinds or other users."""
    directory = os.path.abspath(directory or cache_directory())
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return of_paths(os.path.join(directory, name) for name in names)


def of_paths(paths: Iterable[str]) -> list[Listed]:
    """Return the snapshots at these paths; other paths are left out."""
    found: list[Listed] = []
    features: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        with suppress(MagicHeapError, OSError):
            try:
                with open_image(path) as image:
                    features[path] = _features(image)
                    found.append(_listed(path, image))
            except CorruptError as error:
                found.append(Listed(path, os.stat(path).st_blocks * 512, 0, str(error), True))
            except FormatError as error:
                found += _of_other_format(path, str(error))
    return [each._replace(variant=_variant(each.path, features)) for each in found]


def of_program(what: str) -> list[Listed]:
    """Return all variants of a snapshot, given the path of one; or all snapshots in the cache of a script."""
    if own := of_paths(variant_paths(os.path.abspath(first_path(what)))):
        return own
    script = os.path.realpath(what)
    return [each for each in listed() if each.program == script]


def nested(found: list[Listed], parent: str | None = None, depth: int = 0) -> Iterator[tuple[int, Listed]]:
    """Yield each layer after its parent, if that is listed too. No cycles: a parent is older than its layers."""
    paths = {each.path for each in found}
    for each in found:
        if each.parent == parent if parent else each.parent not in paths:
            yield depth, each
            yield from nested(found, each.path, depth + 1)


def leftovers(directory: str, is_all: bool) -> Iterator[tuple[str, str]]:
    """Yield the files beside the snapshots of a directory that are useless without these, each with the reason; with
    is_all, all such files."""
    for link in links_of(directory):
        is_lost = is_dangling(link)
        if is_all or is_lost:
            yield link, "the snapshot it leads to is gone" if is_lost else "all were asked for"
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        stem, suffix = os.path.splitext(name)
        path = os.path.join(directory, stem)
        is_leftover = suffix in _LEFTOVERS and is_snapshot_name(stem) and (is_all or suffix == ".seen")
        if is_leftover and not any(map(os.path.lexists, variant_paths(path))):
            yield path + suffix, "the snapshot it belongs to is gone"


def _of_other_format(path: str, problem: str) -> list[Listed]:
    """Return a snapshot of another format version, which that version's runs may take; or a file that lost its content
    in a power failure, if its name is one of ours."""
    with open(path, "rb") as file:
        start, status = file.read(len(_MAGIC)), os.fstat(file.fileno())
    is_rest = (
        not start.strip(b"\0")
        and os.path.dirname(path) == os.path.abspath(cache_directory())
        and _OWN_NAME.search(path) is not None
    )
    if status.st_uid != os.geteuid() or not (start == _MAGIC or is_rest):
        return []
    return [Listed(path, status.st_blocks * 512, status.st_mtime_ns, problem, is_rest)]


def _listed(path: str, image: Image) -> Listed:
    header, status = image.info, os.lstat(path)
    used_ns = status.st_atime_ns if status.st_atime_ns >= 10**9 else 0
    program = next(iter(image.key.get("program", [])), "")
    return Listed(
        path,
        header.stored_bytes,
        header.created_ns,
        image.staleness(),
        image.is_gone(),
        header.kind,
        image.parent(),
        used_ns,
        program,
    )


def _features(image: Image) -> dict[str, list[str]]:
    """Return the features in which runs may differ: for each a label, and words."""
    parts = {label: items[:1] if label == "interpreter" else items for label, items in image.key.items()}
    answers = {found[0]: [found[1]] for each in image.inputs if (found := difference_of(each))}
    return {**parts, **answers}


def _variant(path: str, features: dict[str, dict[str, list[str]]]) -> str:
    """Say how a snapshot differs from the others of its path."""
    others = [of for other, of in features.items() if other != path and first_path(other) == first_path(path)]
    if path not in features or not others:
        return ""
    own = features[path]
    words = []
    for label in own:
        unshared = [item for item in own[label] if not all(item in of.get(label, []) for of in others)]
        words += [f"{label} {item}" if label in ("directory", "key", "place") else item for item in unshared]
    missing = sorted({label for of in others for label in of if label not in own and label.isupper()})
    return ", ".join(words + [f"{label} not set" for label in missing])
