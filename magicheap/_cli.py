"""The command `magicheap`: look at snapshots, check them, remove them, and ask whether this machine can make any."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from magicheap import __version__
from magicheap._doctor import probe_machine
from magicheap._errors import MagicHeapError
from magicheap._image import Image, Input, open_image
from magicheap._listing import Listed, leftovers, listed, nested, of_program
from magicheap._paths import cache_directory, made_cache_directory
from magicheap._processes import processes_using
from magicheap._show import count, moment, show_json, show_records, show_table, size
from magicheap._warned import forget_all
from magicheap._words import words_of

_PARENTS = {"": "nothing", "?": "a snapshot that no longer exists"}
_CONDITIONS = {
    "arguments": "arguments",
    "place": "directory",
    "terminal": "terminals",
    "size": "terminal size",
    "host": "host",
    "user": "user",
}
_NS_OF_A_DAY = 86_400 * 10**9
_STATUSES = "exit status: 0 all is well; 1 a file or the machine is not as it should be; 2 the command line is wrong"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends us quietly, as it does any other tool
    if sys.stdout is None:  # it was closed
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    parser = _parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["why"] and words[1:2] not in ([], ["-h"], ["--help"]):
        words.insert(1, "--")  # the rest belongs to the command, options too
    options = parser.parse_args(words)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        if getattr(options, "words", None) == []:
            parser.error("why: expected a command")
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
        command.add_argument(
            "directory", nargs="?", metavar="DIR", help="directory of snapshots (default: the user's cache)"
        )

    info = add("info", _info, "show what a snapshot holds, what it depends on and who has it mapped")
    info.add_argument("file", metavar="FILE")
    info.add_argument("--json", action="store_true", help="print everything, for programs")
    verify = add("verify", _verify, "read every byte of snapshots and compare the checksums")
    verify.add_argument("files", metavar="FILE", nargs="+")
    ls = add("ls", _ls, "list snapshots, each with its state and the reason for it")
    add_directory(ls)
    ls.add_argument("--json", action="store_true", help="print the list for programs")
    clean = add("clean", _clean, "remove snapshots that no run can take any more, or those that are named")
    clean.add_argument(
        "what",
        nargs="*",
        metavar="WHAT",
        help="directory: remove its stale snapshots; snapshot or script: remove all its snapshots, fresh ones too "
        "(default: the user's cache directory)",
    )
    which = clean.add_mutually_exclusive_group()
    which.add_argument(
        "--stale",
        action="store_true",
        help="of a directory, remove snapshots that are damaged or depend on a file that has changed (the default)",
    )
    which.add_argument(
        "--all",
        action="store_true",
        help="of a directory, remove every snapshot, fresh ones too, and all files that belong to them",
    )
    which.add_argument(
        "--older-than",
        type=_days,
        metavar="DAYS",
        help="of a directory, remove snapshots that were committed more than DAYS days ago",
    )
    clean.add_argument("-n", "--dry-run", action="store_true", help="only print what would be removed")
    why = add("why", _why, "say what the next run of a command would do, and why, without running the command")
    why.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="such as: magic s.py x; s.py x; python s.py; -m module",
    )
    doctor = add(
        "doctor", _doctor, "try whether this machine can make snapshots in a directory, and name the obstacles"
    )
    add_directory(doctor)
    doctor.add_argument("--json", action="store_true", help="print the probes for programs")
    return parser


def _days(text: str) -> float:
    days = float(text)
    if not (days >= 0 and math.isfinite(days * _NS_OF_A_DAY)):
        raise ValueError("expected a finite number that is not negative")
    return days


def _info(options: argparse.Namespace) -> int:
    with open_image(options.file) as image:
        report = _report(image)
    if options.json:
        show_json(report)
        return 0
    header, inputs, users = report["info"], report["inputs"], report["processes"]
    rows = [
        (
            "state",
            (report["stale"] and f"stale: {report['stale']}")
            or f"a run here and now would take it{_condition(inputs)}",
        ),
        ("kind", f"{header['kind']}, format {header['format_version']}"),
        ("size", f"{size(header['file_bytes'])}, {size(header['stored_bytes'])} stored"),
        ("committed", moment(header["created_ns"])),
        *(_rows_of_process(report) if report["process"] else _rows_of_heap(report)),
        ("depends on", ", ".join(f"{len(of_kind)} {kind}" for kind, of_kind in _by_kind(inputs).items())),
        *((each["kind"], words_of(Input(**each))) for each in inputs if each["kind"] != "key"),
        *((f"key: {label}", ", ".join(items)) for label, items in report["key"].items()),
    ]
    show_table(("", ""), rows, title=options.file)
    if users:
        columns = ("pid", "process", "resident", "shared", "private", "proportional")
        show_table(
            columns,
            [(str(use["pid"]), use["name"], *(size(use[f"{name}_bytes"]) for name in columns[2:])) for use in users],
        )
    return 0


def _condition(inputs: list[dict[str, Any]]) -> str:
    """Return which answers the program's run must share with the committing run; they are not compared, since those of
    this command are not the program's."""
    asked = {each["kind"] for each in inputs}
    words = [word for kind, word in _CONDITIONS.items() if kind in asked]
    return f", given the same {', '.join(words)}" if words else ""


def _rows_of_heap(report: dict[str, Any]) -> list[tuple[str, str]]:
    header = report["info"]
    return [
        ("arena", f"{header['address']:#x}, {count(header['live_blocks'], 'live block')}, root {header['root']:#x}"),
        ("relocations", f"{header['n_relocations']} into {count(len(report['modules']), 'library', 'libraries')}"),
    ]


def _rows_of_process(report: dict[str, Any]) -> list[tuple[str, str]]:
    process, segments = report["process"], _by_kind(report["segments"])
    memory = [
        f"{size(sum(part['size_bytes'] for part in parts))} {kind} in {count(len(parts), 'part')}"
        for kind, parts in segments.items()
    ]
    launcher, *words = process["command"].split("\n")
    return [
        (
            "answers to",
            f"{launcher}/magic {', '.join(word.strip() for word in words)}"
            if launcher
            else "no command of the launcher",
        ),
        ("layer on", _PARENTS.get(report["parent"], report["parent"])),
        ("memory", ", ".join(memory)),
        (
            "carries",
            f"{count(process['n_descriptors'], 'open file')}, {count(process['n_signals'], 'signal disposition')}",
        ),
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
        "key": image.key,
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
    found = listed(options.directory)
    if options.json:
        show_json([snapshot._asdict() for snapshot in found])
        return 0
    columns = ("snapshot", "kind", "program", "variant", "size", "used", "state")
    rows = [("  " * depth + each.path, *_words_of(each)) for depth, each in nested(found)]
    if rows:
        n_bytes = sum(each.stored_bytes for each in found)
        show_records(columns, rows, f"total\t{count(len(rows), 'snapshot')}\t{size(n_bytes)}")
    else:  # stdout is for programs
        print(f"magicheap: no snapshots in {options.directory or cache_directory()}", file=sys.stderr)
    return 0


def _words_of(each: Listed) -> tuple[str, ...]:
    used = moment(each.used_ns) if each.used_ns else "never"
    return each.kind or "?", each.program or "-", each.variant or "-", size(each.stored_bytes), used, each.state


def _clean(options: argparse.Namespace) -> int:
    directories = [what for what in options.what if os.path.isdir(what)]
    if not options.what:
        directories = [cache_directory()]
    chosen = {
        each: _why_chosen(each, options)
        for directory in directories
        for each in listed(directory)
        if _is_chosen(each, options)
    }
    status = 0
    for what in options.what:
        if not os.path.isdir(what):
            if not (own := of_program(what)):
                print(f"magicheap: there is no snapshot of {what}", file=sys.stderr)
                status = 1
            chosen |= dict.fromkeys(own, f"all snapshots of {what} were asked for")
    for each, reason in chosen.items():
        _remove(each.path, reason, options.dry_run)
    is_named = len(directories) < len(options.what)  # the launcher's links to named snapshots are in the cache
    for directory in sorted({*directories, *([cache_directory()] if is_named else [])}):
        for path, reason in list(leftovers(directory, options.all and directory in directories)):
            _remove(path, reason, options.dry_run)
    if options.all and not options.dry_run:
        for directory in [None] if not options.what else directories:
            _remove_own_directories(directory)
    print(f"{count(len(chosen), 'snapshot')}, {size(sum(each.stored_bytes for each in chosen))}")
    return status


def _remove_own_directories(directory: str | None) -> None:
    """Remove our other files in a directory; None: those of the user's cache, and the cache directory itself."""
    for path in forget_all(directory):
        print(f"removed {path}: record of warnings that were shown")
    for path in (
        [os.path.join(directory, "commands")]
        if directory
        else [os.path.join(cache_directory(), "commands"), cache_directory()]
    ):
        with suppress(OSError):  # it does not exist, or holds other files
            os.rmdir(path)


def _is_chosen(each: Listed, options: argparse.Namespace) -> bool:
    if options.older_than is not None:
        return each.created_ns < time.time_ns() - int(options.older_than * _NS_OF_A_DAY)
    return options.all or each.is_lost


def _why_chosen(each: Listed, options: argparse.Namespace) -> str:
    if options.older_than is not None:
        return f"committed {moment(each.created_ns)}"
    return f"all were asked for; it was {each.state}" if options.all else each.problem


def _remove(path: str, reason: str, is_dry_run: bool) -> None:
    if not is_dry_run:
        Path(path).unlink(missing_ok=True)
    print(f"{'would remove' if is_dry_run else 'removed'} {path}: {reason}")


def _why(options: argparse.Namespace) -> int:
    from magicheap._why import ask

    try:
        ask(options.words[1:] if options.words[0] == "--" else options.words)
    except ValueError as error:
        print(f"magicheap: {error}", file=sys.stderr)
        return 2


def _doctor(options: argparse.Namespace) -> int:
    directory = options.directory or cache_directory()
    if options.directory is None:
        made_cache_directory()
    probes = probe_machine(directory)
    if options.json:
        show_json([probe._asdict() for probe in probes])
    else:
        rows = [
            (probe.kind, probe.name, probe.obstacle or (f"ok, but {probe.remark}" if probe.remark else "ok"))
            for probe in probes
        ]
        show_table(("for", "probe", "result"), rows, title=directory)
    return 1 if any(probe.obstacle for probe in probes) else 0
