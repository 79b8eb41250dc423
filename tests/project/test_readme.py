"""What the documents show as code is code: Python compiles, shell parses, and README's first example does what it
says."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from process_fixtures import LAUNCHER, Life

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "sh", "c", "text"}


class Block(NamedTuple):
    """A fenced block of a document."""

    path: str
    line: int
    language: str
    code: str


def blocks():
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        text = path.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(path.relative_to(ROOT).as_posix(), line, found[1], found[2])


BLOCKS = list(blocks())
EXAMPLE, COMMANDS = [block for block in BLOCKS if block.path == "README.md"][:2]


def in_language(language):
    found = [block for block in BLOCKS if block.language == language]
    return pytest.mark.parametrize("block", found, ids=lambda block: f"{block.path}:{block.line}")


def test_every_block_names_its_language():
    assert {block.language for block in BLOCKS} <= LANGUAGES


def test_every_fence_is_closed():
    for path in {block.path for block in BLOCKS}:
        n_fences = len(re.findall(r"^```", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))
        assert n_fences == 2 * sum(block.path == path for block in BLOCKS)


@in_language("python")
def test_every_block_of_python_compiles(block):
    compile("\n" * block.line + block.code, block.path, "exec")


@in_language("sh")
def test_every_block_of_shell_parses(block):
    done = subprocess.run(["sh", "-n"], input=block.code, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_first_example_loads_once_and_its_commands_resume(tmp_path):
    assert (EXAMPLE.language, COMMANDS.language) == ("python", "sh")
    life = Life(tmp_path)
    life.write(
        'def build_table():\n    print("body")\n    return {"Oslo": 59.9, "Bergen": 60.4}\n' + EXAMPLE.code, "lookup.py"
    )
    cold = life.run("python", "lookup.py", "Bergen")
    assert cold.out == "body\n60.4\n" and cold.has_committed
    path = f"{LAUNCHER.parent}:{life.env['PATH']}"
    assert life.run("sh", "-eu", "-c", COMMANDS.code, env={"PATH": path}).out == "59.9\n" * 2
