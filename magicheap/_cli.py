"""The command `magicheap`: look at snapshots, check them, remove them, and ask whether this machine can make any."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from magicheap import __version__
from magicheap._errors import CorruptError, MagicHeapError
from magicheap._doctor import probe_machine
from magicheap._image import Image, open_image
from magicheap._paths import cache_directory, dangling_links, made_cache_directory
from magicheap._processes import processes_using
from magicheap._show import moment, show_json, show_table, size

_PARENTS = {"": "nothing", "?": "a snapshot that is not there any more"}
_NS_OF_A_DAY = 86_400 * 10**9
_STATUSES = "exit status: 0 all is well; 1 a file or the machine is not as it should be; 2 the command line is wrong"


class Listed(NamedTuple):
    """A snapshot in a directory, or the remains of one."""

    path: str
    stored_bytes: int
    created_ns: int  # 0 if it can't be read
    problem: str  # why a run here and now would not take it, or ""
    is_lost: bool  # nor would any other run
    kind: str = ""  # "heap" or "process"; "" if it can't be read
    parent: str = ""  # the snapshot it is a layer on, or ""; "?" if that is not there any more


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends us quietly, as it does any other tool
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except (MagicHeapError, OSError) as error:
        print(f"magicheap: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("magicheap", description=__doc__.split(": ", 1)[1].capitalize(), epilog=_STATUSES)
    parser.add_argument("--version", action="version", version=f"magicheap {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_STATUSES)
        command.set_defaults(run=run)
        return command

    def add_directory(command: argparse.ArgumentParser) -> None:
        command.add_argument("directory", nargs="?", metavar="DIR", help="directory of snapshots (default: the user's cache)")

    info = add("info", _info, "show what a snapshot holds, what it depends on and who has it mapped")
    info.add_argument("file", metavar="FILE")
    info.add_argument("--json", action="store_true", help="print everything, for programs")
    verify = add("verify", _verify, "read every byte of snapshots and compare the checksums")
    verify.add_argument("files", metavar="FILE", nargs="+")
    ls = add("ls", _ls, "list snapshots, and why those that are stale are")
    add_directory(ls)
    ls.add_argument("--json", action="store_true", help="print the list for programs")
    clean = add("clean", _clean, "remove snapshots that no run will take any more; other files are left alone")
    add_directory(clean)
    which = clean.add_mutually_exclusive_group()
    which.add_argument(
        "--stale", action="store_true", help="remove what is damaged or depends on a file that has changed (the default)"
    )
    which.add_argument("--all", action="store_true", help="remove every snapshot")
    which.add_argument("--older-than", type=_days, metavar="DAYS", help="remove what was committed before that")
    clean.add_argument("-n", "--dry-run", action="store_true", help="only print what would be removed")
    doctor = add("doctor", _doctor, "try whether this machine can make snapshots in a directory, and say why not")
    add_directory(doctor)
    doctor.add_argument("--json", action="store_true", help="print the probes for programs")
    return parser


def _days(text: str) -> float:
    days = float(text)
    if not (days >= 0 and math.isfinite(days * _NS_OF_A_DAY)):
        raise ValueError("negative, endless or no number")
    return days


def _info(options: argparse.Namespace) -> int:
    with open_image(options.file) as image:
        report = _report(image)
    if options.json:
        show_json(report)
        return 0
    header, inputs, users = report["info"], report["inputs"], report["processes"]
    rows = [
        ("kind", f"{header['kind']}, format {header['format_version']}"),
        ("size", f"{size(header['file_bytes'])}, {size(header['stored_bytes'])} stored"),
        ("committed", moment(header["created_ns"])),
        *(_rows_of_process(report) if report["process"] else _rows_of_heap(report)),
        ("depends on", ", ".join(f"{len(of_kind)} {kind}" for kind, of_kind in _by_kind(inputs).items())),
        ("state", report["stale"] and f"stale: {report['stale']}" or "a run here and now would take it"),
    ]
    show_table(("", ""), rows, title=options.file)
    if users:
        columns = ("pid", "process", "resident", "shared", "private", "proportional")
        show_table(
            columns, [(str(use["pid"]), use["name"], *(size(use[f"{name}_bytes"]) for name in columns[2:])) for use in users]
        )
    return 0


def _rows_of_heap(report: dict[str, Any]) -> list[tuple[str, str]]:
    header = report["info"]
    return [
        ("arena", f"{header['address']:#x}, {header['live_blocks']} live blocks, root {header['root']:#x}"),
        ("relocations", f"{header['n_relocations']} into {len(report['modules'])} libraries"),
    ]


def _rows_of_process(report: dict[str, Any]) -> list[tuple[str, str]]:
    process, segments = report["process"], _by_kind(report["segments"])
    memory = [f"{size(sum(part['size_bytes'] for part in parts))} {kind} in {len(parts)} parts" for kind, parts in segments.items()]
    launcher, *words = process["command"].split("\n")
    return [
        ("answers to", f"{launcher}/magic {', '.join(word.strip() for word in words)}" if launcher else "no command of the launcher"),
        ("layer on", _PARENTS.get(report["parent"], report["parent"])),
        ("memory", ", ".join(memory)),
        ("carries", f"{process['n_descriptors']} open files, {process['n_signals']} signal dispositions"),
        ("written by every run", size(process["touched_bytes"])),
    ]


def _report(image: Image) -> dict[str, Any]:
    return {
        "path": os.path.abspath(image.path),
        "info": image.info._asdict(),
        "process": image.process and image.process._asdict(),
        "parent": image.parent(),
        "stale": image.staleness(),
        "segments": [segment._asdict() for segment in image.segments],
        "inputs": [found._asdict() for found in image.inputs],
        "modules": [module._asdict() for module in image.modules],
        "processes": [use._asdict() for use in processes_using(image.path)],
    }


def _by_kind(entries: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for found in entries:
        kinds.setdefault(found["kind"], []).append(found)
    return kinds


def _verify(options: argparse.Namespace) -> int:
    n_bad = 0
    for path in options.files:
        try:
            with open_image(path) as image:
                image.verify()
            print(f"{path}: ok")
        except (MagicHeapError, OSError) as error:
            n_bad += 1
            print(f"{path}: {type(error).__name__}: {error}")
    return 1 if n_bad else 0


def _ls(options: argparse.Namespace) -> int:
    found = list(_listed(options.directory))
    if options.json:
        show_json([snapshot._asdict() for snapshot in found])
        return 0
    rows = [
        (
            "  " * depth + each.path,
            each.kind or "?",
            size(each.stored_bytes),
            each.created_ns and moment(each.created_ns) or "?",
            each.problem or "fresh",
        )
        for depth, each in _nested(found)
    ]
    show_table(("snapshot", "kind", "size", "committed", "state"), rows)
    return 0


def _nested(found: list[Listed], parent: str | None = None, depth: int = 0) -> Iterator[tuple[int, Listed]]:
    """Yield each layer below its parent, if that is listed too. No cycles: a parent was there before its layers."""
    paths = {each.path for each in found}
    for each in found:
        if each.parent == parent if parent else each.parent not in paths:
            yield depth, each
            yield from _nested(found, each.path, depth + 1)


def _clean(options: argparse.Namespace) -> int:
    before_ns = time.time_ns() - int((options.older_than or 0) * _NS_OF_A_DAY)
    freed_bytes = n_removed = 0
    for snapshot in _listed(options.directory):
        if options.older_than is not None:
            is_chosen = snapshot.created_ns < before_ns
        else:
            is_chosen = options.all or snapshot.is_lost
        if not is_chosen:
            continue
        if not options.dry_run:
            Path(snapshot.path).unlink(missing_ok=True)
        freed_bytes, n_removed = freed_bytes + snapshot.stored_bytes, n_removed + 1
        print(f"{'would remove' if options.dry_run else 'removed'} {snapshot.path}: {snapshot.problem or 'fresh'}")
    for link in dangling_links(options.directory or cache_directory()):
        if not options.dry_run:
            Path(link).unlink(missing_ok=True)
        print(f"{'would remove' if options.dry_run else 'removed'} {link}: the snapshot it leads to is gone")
    print(f"{n_removed} snapshots, {size(freed_bytes)}")
    return 0


def _listed(directory: str | None) -> Iterator[Listed]:
    """Yield the snapshots of a directory by name, damaged ones too; what never was one, or is not ours, is passed over."""
    directory = directory or cache_directory()
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for path in (os.path.join(directory, name) for name in names):
        try:
            with open_image(path) as image:
                header = image.info
                state = image.staleness(), image.has_lost_a_file()
                yield Listed(path, header.stored_bytes, header.created_ns, *state, header.kind, image.parent())
        except CorruptError as error:
            yield Listed(path, os.stat(path).st_blocks * 512, 0, str(error), True)
        except (MagicHeapError, OSError):
            pass


def _doctor(options: argparse.Namespace) -> int:
    directory = options.directory or cache_directory()
    if options.directory is None:
        made_cache_directory()
    probes = probe_machine(directory)
    if options.json:
        show_json([probe._asdict() for probe in probes])
    else:
        rows = [(probe.kind, probe.name, probe.obstacle or (f"ok, but {probe.remark}" if probe.remark else "ok")) for probe in probes]
        show_table(("for", "probe", "result"), rows, title=directory)
    return 1 if any(probe.obstacle for probe in probes) else 0
