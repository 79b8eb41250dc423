"""The snapshots in a directory, as `magicheap ls` and `clean` see them: what each is, for which runs, and when it was
used."""

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
    is_lost: bool  # nor would any other run
    kind: str = ""  # "heap" or "process"; "" if it can't be read
    parent: str = ""  # the snapshot it is a layer on, or ""; "?" if that is not there any more
    used_ns: int = 0  # when a run took it; 0: none has
    program: str = ""  # the script, if it is known
    variant: str = ""  # what tells it from the others of its path, or ""

    @property
    def state(self) -> str:
        """In words: whether a run here and now would take it."""
        if not self.problem:
            return "fresh"
        return f"stale: {self.problem}" if self.is_lost else f"for other runs: {self.problem}"


def listed(directory: str | None = None) -> list[Listed]:
    """Return the snapshots of a directory by name, damaged ones too; what never was one, or is not ours, is passed
    over."""
    directory = os.path.abspath(directory or cache_directory())
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return of_paths(os.path.join(directory, name) for name in names)


def of_paths(paths: Iterable[str]) -> list[Listed]:
    """Return those of the paths where there is a snapshot."""
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
    """Return the snapshots that a user means by the path of one, or of a script that has some in the cache."""
    if own := of_paths(variant_paths(os.path.abspath(first_path(what)))):
        return own
    script = os.path.realpath(what)
    return [each for each in listed() if each.program == script]


def nested(found: list[Listed], parent: str | None = None, depth: int = 0) -> Iterator[tuple[int, Listed]]:
    """Yield each layer below its parent, if that is listed too. No cycles: a parent was there before its layers."""
    paths = {each.path for each in found}
    for each in found:
        if each.parent == parent if parent else each.parent not in paths:
            yield depth, each
            yield from nested(found, each.path, depth + 1)


def leftovers(directory: str, is_all: bool) -> Iterator[tuple[str, str]]:
    """Yield what is beside snapshots of a directory and of no use without them, with the reason; or all of it, a
    directory behind what is in it."""
    for link in links_of(directory):
        if is_all or is_dangling(link):
            yield link, "the snapshot it leads to is gone"
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        stem, suffix = os.path.splitext(name)
        path = os.path.join(directory, stem)
        is_leftover = suffix in _LEFTOVERS and is_snapshot_name(stem) and (is_all or suffix == ".seen")
        if is_leftover and not any(map(os.path.lexists, variant_paths(path))):
            yield path + suffix, "the snapshot it belongs to is gone"


def _of_other_format(path: str, problem: str) -> list[Listed]:
    """Return the snapshot of another version, whose runs may take it; or what lost its content with the power, if we
    have named it."""
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
    """Return all by which runs may differ: a label, and words for each."""
    parts = {label: items[:1] if label == "interpreter" else items for label, items in image.key.items()}
    answers = {found[0]: [found[1]] for each in image.inputs if (found := difference_of(each))}
    return {**parts, **answers}


def _variant(path: str, features: dict[str, dict[str, list[str]]]) -> str:
    """Say what tells a snapshot from the others of its path."""
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
