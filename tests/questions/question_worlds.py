"""The worlds in which questions are asked: each is a state of a program's directory, and how it is started there.

world(directory, number) makes the state of this number (0, 1, 2), of which 0 is the one of the first commit, from the
one before it; it returns a Start, or None where a program is started as ever. Other numbers answer differently.
"""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ZONES = Path("/usr/share/zoneinfo")


class Start(NamedTuple):
    """How a program is started in a world."""

    env: dict = {}
    arguments: tuple = ()
    cwd: str = "."
    terminals: tuple = ()  # descriptors that are one
    columns: int = 80
    host: str = ""
    user: dict = {}  # for Popen


def text(directory, number):
    (directory / "f.txt").write_text(("one", "two", "threefold")[number])


def length(directory, number):
    (directory / "f.txt").write_text("x" * (number + 1))


def there(path):
    """Absent, there, there with other content."""

    def world(directory, number):
        if number:
            (directory / path).parent.mkdir(exist_ok=True)
            (directory / path).write_text("x" * number)

    return world


def gone(directory, number):
    (directory / "f.txt").write_text("x") if number % 2 == 0 else (directory / "f.txt").unlink()


def dangling(directory, number):
    link = directory / "link"
    if number == 0:
        link.symlink_to("target.txt")
    else:
        (directory / "target.txt").write_text("x" * number)


def leading_nowhere(directory, number):
    """Absent, then links that lead to nothing."""
    (directory / "f.txt").unlink(missing_ok=True)
    if number:
        (directory / "f.txt").symlink_to(f"nowhere{number}")


def mode(directory, number):
    (directory / "f.txt").write_text("x")
    (directory / "f.txt").chmod((0o600, 0o700, 0o600)[number])


def linked(directory, number):
    for each in "abc":
        (directory / each).mkdir(exist_ok=True)
        (directory / each / "f.txt").write_text("alike")
    (directory / "link").unlink(missing_ok=True)
    (directory / "link").symlink_to("abc"[number])


def listed(directory, number):
    (directory / "d").mkdir(exist_ok=True)
    (directory / f"d/{number}.txt").write_text("x")


def emptied(directory, number):
    (directory / "d").mkdir(exist_ok=True)
    for i in range(3):
        (directory / f"d/{i}.txt").write_text("x")
    for i in range(number):
        (directory / f"d/{i}.txt").unlink()


def kind(directory, number):
    path = directory / "f.txt"
    if number == 1:
        path.unlink()
        path.mkdir()
    elif number == 2:
        path.rmdir()
        path.write_text("x")
    else:
        path.write_text("x")


def database(is_wal):
    def world(directory, number):
        connection = sqlite3.connect(directory / "d.sqlite")
        if is_wal:
            connection.execute("pragma journal_mode=wal")
        connection.execute("create table if not exists t (x)")
        connection.execute("insert into t values (?)", (number,))
        connection.commit()
        connection.close()

    return world


def log_of_database(directory, number):
    """What was added stands in the log alone, as after a crash."""
    lines = f"""
        import os, sqlite3
        connection = sqlite3.connect("d.sqlite")
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table if not exists t (x)")
        connection.execute("insert into t values ({number})")
        connection.commit()
        os._exit(0)"""
    subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in lines.splitlines())], cwd=directory, check=True
    )


def beside(name):
    """A module beside the program, with what `name` says in it: absent at first."""

    def world(directory, number):
        path = directory / name
        if number:
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(f"VALUE = {number}\n")

    return world


def on_path(names, initial=()):
    """A directory `first` before a directory `second` on PYTHONPATH; `initial` are there in any world, `names` appear
    one after the other."""

    def world(directory, number):
        for each in ("first", "second"):
            (directory / each).mkdir(exist_ok=True)
        for name in (*initial, *names[:number]):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            if not (directory / name).exists():
                (directory / name).write_text(f"VALUE = {name!r}\n")
        return Start(env={"PYTHONPATH": f"{directory}/first:{directory}/second"})

    return world


def installed(directory, number):
    for i in range(number + 1):
        metadata = directory / f"first/plugin{i}-1.dist-info"
        metadata.mkdir(parents=True, exist_ok=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin{i}\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text(f"[questions]\nplugin{i} = plugin:main\n")
    return Start(env={"PYTHONPATH": f"{directory}/first"})


def upgraded(directory, number):
    metadata = directory / "first/plugin-1.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin\nVersion: {number}\n")
    return Start(env={"PYTHONPATH": f"{directory}/first"})


def set_to(name, *values):
    return lambda directory, number: Start(env={name: values[number]})


VARIABLE = set_to("ASKED_FOR", None, "1", "2")
ARGUMENTS = lambda directory, number: Start(arguments=(("a",), ("b",), ("b", "c"))[number])  # noqa: E731
COUNTED = lambda directory, number: Start(arguments=((), ("b",), ("b", "c"))[number])  # noqa: E731
OPTIONS = lambda directory, number: Start(arguments=((), ("--size", "2"), ("--size", "3"))[number])  # noqa: E731


def place(directory, number):
    (directory / f"place{number}").mkdir(exist_ok=True)
    (directory / f"place{number}/f.txt").write_text(f"in {number}")
    return Start(cwd=f"place{number}")


def terminal(fd):
    return lambda directory, number: Start(terminals=((), (fd,), ())[number])


def sized(fd):
    return lambda directory, number: Start(terminals=(fd,), columns=(80, 100, 120)[number])


def host(directory, number):
    return Start(host=("one.example", "two.example", "three.example")[number])


def group(directory, number):
    return Start(user={"group": number})


def groups(directory, number):
    return Start(user={"extra_groups": [number]})


def zone_file(directory, number):
    names = ("Europe/Berlin", "Asia/Tokyo", "America/New_York")
    (directory / "zone").write_bytes((ZONES / names[number]).read_bytes())
    return Start(env={"TZ": f":{directory}/zone"})


def zone_directory(directory, number):
    names = ("Europe/Berlin", "Asia/Tokyo", "America/New_York")
    (directory / "zones").mkdir(exist_ok=True)
    (directory / "zones/Mine").write_bytes((ZONES / names[number]).read_bytes())
    return Start(env={"TZDIR": f"{directory}/zones", "PYTHONTZPATH": f"{directory}/zones", "TZ": "Mine"})
