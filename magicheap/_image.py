"""Snapshot files as such: what one holds and depends on, read without attaching it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from magicheap import _key
from magicheap._errors import MagicHeapError, call
from magicheap._native import ffi, lib

_Entry = TypeVar("_Entry")

_KINDS = {lib.MH_KIND_HEAP: "heap", lib.MH_KIND_PROCESS: "process"}
_SEGMENTS = {
    lib.MH_SEGMENT_ARENA: "arena",
    lib.MH_SEGMENT_PAGES: "pages",
    lib.MH_SEGMENT_MEMORY: "memory",
    lib.MH_SEGMENT_FILE: "file",
    lib.MH_SEGMENT_ZERO: "zero",
}
_INPUTS = {
    lib.MH_INPUT_FILE: "file",
    lib.MH_INPUT_LIBRARY: "library",
    lib.MH_INPUT_ENV: "environment",
    lib.MH_INPUT_VARIABLES: "variables",
    lib.MH_INPUT_KEY: "key",
    lib.MH_INPUT_CPU: "cpu",
    lib.MH_INPUT_SYSTEM: "system",
    lib.MH_INPUT_ABSENT: "absent",
    lib.MH_INPUT_PRESENT: "present",
    lib.MH_INPUT_DIRECTORY: "directory",
    lib.MH_INPUT_LISTING: "listing",
    lib.MH_INPUT_NAMES: "names",
    lib.MH_INPUT_ARGUMENTS: "arguments",
    lib.MH_INPUT_PLACE: "place",
    lib.MH_INPUT_TERMINAL: "terminal",
    lib.MH_INPUT_SIZE: "size",
    lib.MH_INPUT_OPEN: "open",
    lib.MH_INPUT_DISPOSITIONS: "signals",
    lib.MH_INPUT_STREAM: "stream",
    lib.MH_INPUT_POSITION: "position",
    lib.MH_INPUT_LENGTH: "length",
    lib.MH_INPUT_HOST: "host",
    lib.MH_INPUT_USER: "user",
    lib.MH_INPUT_NOTE: "note",
    lib.MH_INPUT_RIGHTS: "rights",
}


class Info(NamedTuple):
    """The header of a snapshot; sizes in bytes."""

    kind: str  # "heap" or "process"
    format_version: int
    file_bytes: int  # apparent size
    stored_bytes: int  # without holes
    address: int  # of the arena
    root: int  # its address, or 0
    created_ns: int  # since the epoch
    n_relocations: int
    live_blocks: int
    checksum: int  # differs between snapshots


class Process(NamedTuple):
    """Fields that only the snapshot of a process has."""

    command: str  # the command line by which the launcher finds it, a line for each part; "": none
    program: str  # executed by a cold run: the interpreter
    parent_checksum: int  # of the snapshot that this one is a layer on; 0: none
    n_descriptors: int  # open files
    n_signals: int  # whose disposition is not the default
    touched_bytes: int  # that every resumed process writes to before its program goes on; 0: unknown


class Segment(NamedTuple):
    """A range of addresses, and the source of its content."""

    kind: str
    prot: int
    address: int
    size_bytes: int
    file_offset: int
    checksum: int
    input: int  # of kind "file": index of the input that names the file; else 0


class Input(NamedTuple):
    """A question with its answer: another answer makes the snapshot stale. Kind "note": one that can't be asked
    again."""

    kind: str
    name: str  # and, or instead, the stored text of the answer, as far as it fits
    size_bytes: int  # or another number, depending on the kind (native/format.h)
    inode: int
    mtime_ns: int
    digest: int  # of the answer; of kind "environment": of the variable's value, 0 if it was not set


class Module(NamedTuple):
    """A library that the arena points into."""

    path: str
    build_id: str  # hexadecimal, "" without one
    n_relocations: int


class Image:
    """An open snapshot file whose header and tables have been checked. Made by open_image."""

    def __init__(self, path: str, native: Any) -> None:
        self.path = path
        self._native = native
        self._raw = ffi.new("mh_image_info *")
        lib.mh_image_read_info(native, self._raw)

    @property
    def info(self) -> Info:
        raw = self._raw
        kind = _KINDS.get(raw.kind, f"kind {raw.kind}")
        return Info(kind, *(getattr(raw, field) for field in Info._fields[1:]))

    @property
    def process(self) -> Process | None:
        """None: the snapshot of a heap."""
        raw = ffi.new("mh_process_info *")
        if lib.mh_image_read_process(self._native, raw) != lib.MH_OK:
            return None
        counts = raw.parent_checksum, raw.n_descriptors, raw.n_signals, raw.touched_bytes
        return Process(text_of(raw.command), text_of(raw.program), *counts)

    def parent(self) -> str:
        """Return the path of the snapshot that this one is a layer on, or ""; "?" if that no longer exists."""
        if self.process is None or not self.process.parent_checksum:
            return ""
        inputs = self.inputs
        mapped = {segment.input for segment in self.segments if segment.kind == "file"}
        for path in (inputs[i].name for i in sorted(mapped) if inputs[i].kind == "file"):
            with suppress(MagicHeapError, OSError), open_image(path) as image:
                if image.info.checksum == self.process.parent_checksum:
                    return path
        return "?"

    @property
    def segments(self) -> list[Segment]:
        return self._entries("mh_segment_info *", lib.mh_image_read_segment, self._raw.n_segments, _segment)

    @property
    def inputs(self) -> list[Input]:
        return self._entries("mh_input_info *", lib.mh_image_read_input, self._raw.n_inputs, _input)

    @property
    def modules(self) -> list[Module]:
        return self._entries("mh_module_info *", lib.mh_image_read_module, self._raw.n_modules, _module)

    def _entries(
        self, ctype: str, read: Callable[..., int], n_entries: int, convert: Callable[[Any], _Entry]
    ) -> list[_Entry]:
        raw, found = ffi.new(ctype), []
        for i in range(n_entries):
            if read(self._native, i, raw) == lib.MH_OK:
                found.append(convert(raw))
        return found

    def verify(self) -> None:
        """Read every byte of the file. CorruptError names the segment whose checksum does not match."""
        call(lib.mh_image_verify, self._native, path=self.path)

    def staleness(self) -> str:
        """Return why a run with the same key could not take this here and now, or ""."""
        try:
            call(lib.mh_image_check_inputs, self._native, self._run_options(), path=self.path)
        except (MagicHeapError, OSError) as error:
            return str(error)
        return ""

    def _run_options(self) -> Any:
        """Return mh_options of such a run. For a process they have the environment that this one was started with,
        before Python coerced the locale."""
        if self.info.kind != "process":
            return ffi.NULL
        from magicheap._environment import read_initial

        self._variables = [ffi.new("char[]", entry) for entry in read_initial()]
        self._environ = ffi.new("char *[]", [*self._variables, ffi.NULL])
        return ffi.new("mh_options *", {"process": True, "environment": self._environ})

    def is_gone(self) -> bool:
        """Tell whether a file it depends on is gone or changed, so that no run will ever take it."""
        gone: bool = lib.mh_image_is_gone(self._native)
        return gone

    @property
    def key(self) -> dict[str, list[str]]:
        """The parts of its key (_key.py): label and items."""
        size = lib.mh_image_read_key(self._native, ffi.NULL, 0) + 1
        text = ffi.new("char[]", size)
        lib.mh_image_read_key(self._native, text, size)
        return dict(_key.split(text_of(text)))

    def programs(self) -> list[str]:
        """Return the files without which no run will take it: the script, if it is known, and the interpreter."""
        script = self.key.get("program", [])
        return [path for path in (*script, self.process.program if self.process else "") if path.startswith("/")]


@contextmanager
def open_image(path: str) -> Iterator[Image]:
    """Open the snapshot at `path`. FormatError, CorruptError, UntrustedError or OSError: it must not be taken."""
    image = ffi.new("mh_image **")
    call(lib.mh_image_open, image, os.fsencode(path), path=path)
    try:
        yield Image(path, image[0])
    finally:
        lib.mh_image_close(image[0])


def _segment(raw: Any) -> Segment:
    return Segment(_SEGMENTS.get(raw.kind, f"kind {raw.kind}"), *(getattr(raw, field) for field in Segment._fields[1:]))


def _input(raw: Any) -> Input:
    return Input(
        _INPUTS.get(raw.kind, f"kind {raw.kind}"),
        text_of(raw.name),
        raw.size_bytes,
        raw.inode,
        raw.mtime_ns,
        raw.digest,
    )


def _module(raw: Any) -> Module:
    return Module(text_of(raw.path), text_of(raw.build_id), raw.n_relocations)


def text_of(chars: Any) -> str:
    """Return a C string as os.fsdecode would."""
    text: str = ffi.string(chars).decode(errors="surrogateescape")
    return text
