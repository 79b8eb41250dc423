"""Whatever a program asks of the world: where the answer has changed the run is never warm, and prints what a plain one
would; else it always is.

A generated family: each question of question_table.py, asked in the body, before the package is imported, and between
that and the `with`; by runs that `python` starts and that `magic` starts, in turns, so that each comes behind the
other.
"""

import contextlib
import fcntl
import os
import re
import shutil
import struct
import subprocess
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from process_fixtures import LAUNCHER, PYTHON, Life
from question_table import QUESTIONS, imports_of, is_missing
from question_worlds import Start
from running import finish

PROGRAMS = {
    "in the body": (
        "{imports}from magicheap import magic_transaction\nwith magic_transaction():\n    print('body')\n"
        "{indented}\nprint('answer', answer)\n"
    ),
    "before the import": (
        "{imports}{asks}\nfrom magicheap import magic_transaction\nwith magic_transaction():\n"
        "    print('body')\nprint('answer', answer)\n"
    ),
    "before the with": (
        "import magicheap\n{imports}{asks}\nwith magicheap.magic_transaction():\n    print('body')\n"
        "print('answer', answer)\n"
    ),
}
UNWATCHED = "before anybody watched"


@pytest.fixture(scope="session")
def asker(tmp_path_factory):
    """The library that asks in C."""
    if shutil.which("gcc") is None:
        pytest.skip("takes a compiler")
    directory = tmp_path_factory.mktemp("asker")
    source = Path(__file__).with_name("question_library.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", "asker.so", str(source)], cwd=directory, check=True)
    return directory / "asker.so"


class World:
    """A directory in which one question is asked again and again."""

    def __init__(self, directory, question, when, asker):
        self.life, self.question, self.directory = Life(directory), question, directory / "world"
        self.directory.mkdir()
        unset = ("LC_ALL", "LANG", "TZ", "COLUMNS", "LINES", "TERM")
        self.life.env = {name: value for name, value in self.life.env.items() if name not in unset} | {
            "PYTHONDONTWRITEBYTECODE": "1"
        }
        imports = f"{imports_of(question)}D, ASKER = {str(self.directory)!r}, {str(asker)!r}\nF = D + '/f.txt'\n"
        indented = "\n".join(f"    {line}" for line in question.asks.splitlines())
        self.program = self.directory / "program.py"
        self.program.write_text(PROGRAMS[when].format(imports=imports, asks=question.asks, indented=indented))
        self.seen = []

    def enter(self, number):
        """Make the next world, and return what a plain run prints in it."""
        self.start = self.question.world(self.directory, number) or Start()
        self.plain = self.run("python", MAGICHEAP_DISABLE="1").out
        self.is_known = self.plain in self.seen
        self.seen.append(self.plain)
        return self.plain

    def run(self, how, **env):
        words = [{"python": PYTHON, "magic": LAUNCHER}[how], self.program, *self.start.arguments]
        if self.start.host:
            words = ["unshare", "-u", "sh", "-c", 'hostname "$0" && exec "$@"', self.start.host, *words]
        with terminals(self.start) as (streams, typed):
            options = {"cwd": self.directory / self.start.cwd, "env": {**self.start.env, **env}, **self.start.user}
            process = self.life.start(*words, **{**options, **streams})
            for stream in streams.values():
                os.close(stream)
            out, err = finish(process)
            out, err = out or typed(1), err or typed(2)
        log = re.findall("^magicheap: (.*)", err, re.MULTILINE)
        is_warm = any(line.startswith("warm: ") for line in log)
        assert is_warm == ("body" not in out.split()) or env, (out, err)
        reason = next((line for line in log if line.startswith("cold: ")), "")
        return SimpleNamespace(out=out.replace("body\n", ""), is_warm=is_warm, reason=reason, err=err)

    def changed(self, how):
        ran = self.run(how)
        assert ran.out == self.plain, (how, ran, self.plain)
        assert self.is_known or (not ran.is_warm and "magicheap: committed " in ran.err), ran

    def unchanged(self, how):
        ran = self.run(how)
        assert ran.out == self.plain, (how, ran, self.plain)
        assert ran.is_warm, (how, ran.err)

    def handed_on(self, is_understood):
        """`magic`, after a run by `python`: what that had asked before anybody watched, it asks anew."""
        ran = self.run("magic")
        assert ran.out == self.plain, (ran, self.plain)
        if not ran.is_warm:
            assert UNWATCHED in ran.reason and not is_understood, ran.err
            self.unchanged("magic")


@contextlib.contextmanager
def terminals(start):
    """Terminals for the streams that are to be one, and what was typed to each."""
    ends = {fd: os.openpty() for fd in start.terminals}
    for terminal, _ in ends.values():
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, start.columns, 0, 0))

    def typed(fd):
        found = b""
        with contextlib.suppress(OSError):  # at its end
            while fd in ends and (more := os.read(ends[fd][0], 4096)):
                found += more
        return found.decode().replace("\r\n", "\n")

    try:
        yield {("stdin", "stdout", "stderr")[fd]: end for fd, (_, end) in ends.items()}, typed
    finally:
        for terminal, _ in ends.values():
            os.close(terminal)


def ask_again_and_again(directory, question, when, asker):
    directory.mkdir(mode=0o755)
    world = World(directory, question, when, asker)
    is_understood = when != "before the import"
    first = world.enter(0)
    world.changed("python")
    world.unchanged("python")
    world.handed_on(is_understood)
    assert world.enter(1) != first, "the question is not one"
    world.changed("magic")
    world.unchanged("magic")
    world.unchanged("python")
    world.enter(2)
    world.changed("python")
    world.unchanged("python")


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_a_changed_answer_is_never_warm_and_an_unchanged_one_always(question, tmp_path, asker):
    if why := is_missing(question.needs):
        pytest.skip(why)
    # who asks in C is watched, or not, as Python is
    whens = [when for when in PROGRAMS if when == "in the body" or not question.name.startswith("C ")]
    with ThreadPoolExecutor() as pool:
        asked = {
            when: pool.submit(ask_again_and_again, tmp_path / when.replace(" ", "-"), question, when, asker)
            for when in whens
        }
    failed = {when: each.exception() for when, each in asked.items() if each.exception()}
    assert not failed
