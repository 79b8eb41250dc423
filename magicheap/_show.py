"""Output of the command line: tables for a terminal, tab-separated lines for a pipe, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print rows of text; the title only on a terminal."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title, title_justify="left", show_header=any(columns))
    for row in rows:
        table.add_row(*map(Text, row))  # Text: rich would take parts of a path for markup
    Console().print(table)


def show_records(columns: Sequence[str], rows: Sequence[Sequence[str]], total: str) -> None:
    """Print rows whose first column must not be broken, since it is copied into other commands: on a terminal it has a
    line of its own."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print("\t".join(row))
        print(total)
        return
    for first, *rest in rows:
        print(first)
        indent = " " * (len(first) - len(first.lstrip()) + 4)
        print(
            *(f"{indent}{column} {text}" for column, text in zip(columns[1:], rest, strict=True) if text != "-"),
            sep="\n",
        )
    print(total.replace("\t", ", "))


def show_json(value: Any) -> None:
    """Print `value` as JSON; it has dicts in place of named tuples."""
    json.dump(value, sys.stdout, indent=2)
    print()


def size(n_bytes: float) -> str:
    """Return a size as people read it."""
    for unit in _UNITS:
        if n_bytes < 1024 or unit == _UNITS[-1]:
            break
        n_bytes /= 1024
    return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"


def count(n: int, noun: str, plural: str = "") -> str:
    """Return a number of things as people write it: 1 snapshot, 2 snapshots."""
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"


def moment(since_epoch_ns: int) -> str:
    """Return a time as text, in the user's time zone."""
    return datetime.fromtimestamp(since_epoch_ns // 10**9).isoformat(" ")
