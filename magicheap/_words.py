"""The inputs of a snapshot, in words, for `magicheap info` and `ls`."""

from __future__ import annotations

import stat

from magicheap._image import Input
from magicheap._native import lib

_STREAMS = {"0": "standard input", "1": "standard output", "2": "standard error"}
_LISTED = {
    lib.MH_LISTING_ALL: "all names",
    lib.MH_LISTING_IMPORTS: "what could be imported",
    lib.MH_LISTING_METADATA: "installed packages",
}
_FILE_TYPES = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def words_of(found: Input) -> str:
    """Return the question, and the answer as far as it is stored."""
    match found.kind:
        case "present":
            return f"{found.name}: {_FILE_TYPES.get(found.size_bytes, 'something')}"
        case "listing":
            return f"{found.name}: {_LISTED.get(found.size_bytes, 'names')}"
        case "names":
            whole, _, cut = found.name.rpartition("/")  # a long text was cut off
            words = [f"{word.rstrip('?')} (in vain)" if word.endswith("?") else word for word in whole.split("/")]
            return ", ".join(words + ["..."] * bool(cut))
        case "arguments":
            return f"digest {found.digest & 0xFFFF:04x}"
        case "terminal":
            return f"{_STREAMS.get(found.name, found.name)}: {'a terminal' if found.size_bytes else 'no terminal'}"
        case "size":
            columns, rows = divmod(found.size_bytes, 1 << 16)
            return (
                f"{_STREAMS.get(found.name, found.name)}: "
                f"{f'{columns} columns, {rows} rows' if found.size_bytes else 'no terminal'}"
            )
        case "host":
            return f"{'name and kernel' if found.size_bytes else 'kernel'}, digest {found.digest & 0xFFFF:04x}"
        case "user":
            effective, real = divmod(found.size_bytes, 1 << 32)
            return str(real) if real == effective else f"{real}, in effect {effective}"
    return found.name


def difference_of(found: Input) -> tuple[str, str] | None:
    """Return a label and words, if runs of one command may differ in this answer, and so take different variants."""
    match found.kind:
        case "environment":
            return (
                found.name,
                f"{found.name} set ({found.digest & 0xFFFF:04x})" if found.digest else f"{found.name} not set",
            )
        case "place":
            return "run from", f"run from {found.name}"
        case "arguments" | "user" | "host":
            return f"{found.kind} asked", f"{found.kind} {words_of(found)}"
        case "terminal" | "size":
            return f"{found.kind} {found.name}", words_of(found)
    return None
