"""`magicheap why COMMAND...`: what the next run of a command would do, and why; without running the command.

The launcher itself decides. Under a special name it makes the whole decision, and only prints it
(native/launcher/answer.c). It is executed in place of this process, with the same streams, directory and environment,
on which the decision may depend.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import NamedTuple, NoReturn

_NAME = "magicheap-why"  # MHI_WHY_NAME of native/format.h
_ONLY_THE_RUN = """{words} starts Python, which reaches the transaction by itself. This is what magic would do there; \
only the run can tell
whether its key is the same: options of the interpreter, sys.path, and the code of the program before its `with`."""


class Question(NamedTuple):
    """A question to the launcher about a command."""

    launcher: str
    words: list[str]  # argv, its own name included
    remark: str  # about what the answer leaves open, or ""


def ask(command: list[str]) -> NoReturn:
    """Execute the launcher, which prints the answer. ValueError: it can't answer for this command. OSError: there is no
    launcher."""
    question = question_of(command)
    if question.remark:
        print(question.remark)
    sys.stdout.flush()
    from magicheap._environment import read_initial

    environment = dict(entry.split(b"=", 1) for entry in read_initial() if b"=" in entry)
    os.execve(question.launcher, [_NAME, *question.words], environment)


def question_of(command: list[str]) -> Question:
    """Return the question about a command that starts with magic, magic-NAME, python, a script or -m."""
    from magicheap._paths import command_path, launcher_path

    launcher = command_path() or launcher_path()  # a command is known by the launcher's own path, too
    first, *rest = command
    name = os.path.basename(first)
    if name == "magic" or (name.startswith("magic-") and not os.path.isfile(first + ".py")):
        return Question(shutil.which(first) or launcher, [name, *rest], "")
    if name.startswith("python") and not name.endswith(".py"):
        return _of_python(first, rest)
    if first == "-m" or os.path.isfile(first):
        return Question(launcher, ["magic", *command], "")
    if found := shutil.which(first):
        return Question(launcher, ["magic", found, *rest], _ONLY_THE_RUN.format(words=first))
    raise ValueError(f"{first} is neither magic, nor python, nor -m, nor an existing script or command")


def _of_python(interpreter: str, words: list[str]) -> Question:
    found = shutil.which(interpreter)
    if found is None:
        place = "" if "/" in interpreter else " on PATH"
        raise ValueError(f"there is no {interpreter}{place}: name an interpreter by its path, such as {sys.executable}")
    launcher = os.path.join(os.path.dirname(os.path.abspath(found)), "magic")
    if not os.access(launcher, os.X_OK):
        raise ValueError(
            f"there is no magic beside {found}: name the interpreter by its path, such as {sys.executable}"
        )
    remark = _ONLY_THE_RUN.format(words=interpreter)
    if words[:2] == ["-P", "-m"] and len(words) > 2:
        return Question(launcher, [f"magic-{words[2]}", *words[3:]], remark)
    if not words or (words[0].startswith("-") and words[0] != "-m"):
        raise ValueError(
            "python's options decide what runs, which why can't tell: run the command with MAGICHEAP_LOG=info"
        )
    return Question(launcher, ["magic", *words], remark)
