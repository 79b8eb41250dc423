"""Write the pages of docs/reference/ that follow from the code: the commands' --help, and docstrings.

    python tools/reference.py            # write them
    python tools/reference.py --check    # exit with 1 if one of them is not as the code has it

Needs the installed package, with its commands beside the interpreter. The pages are in the repository, for readers
there, and tests/project/test_docs.py compares them. The output of argparse depends on the version of Python: see
PYTHON.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import magicheap

PAGES = Path(__file__).parent.parent / "docs/reference"
PYTHON = ((3, 11), (3, 12))  # later ones abbreviate "-m MODEL, --model MODEL" and color it
COMMANDS = {  # in the order of the page
    "magic": [],
    "magicheap": ["", "why", "info", "verify", "ls", "clean", "doctor"],
    "magic-llama": [],
}
MADE = "<!-- Made by tools/reference.py: edit the source, not this page. -->\n\n"
MEMBER = re.compile(r"(\w+) {2,}(\S.*)")  # in a docstring: a name, then its meaning
ENDS = re.compile(r"[.:]$")  # of a line that ends a paragraph


def help_of(command: str) -> str:
    """Return what `command --help` prints on a terminal of 80 columns."""
    name, *words = command.split()
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "MAGICHEAP_DISABLE": "1"}
    program = Path(sys.executable).with_name(name)
    done = subprocess.run([program, *words, "--help"], env=environment, capture_output=True, text=True, check=True)
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def all_commands() -> list[str]:
    """Return each command with its subcommand, as it is called."""
    return [f"{name} {word}".strip() for name, words in COMMANDS.items() for word in words or [""]]


def cli_page() -> str:
    """Return the page of the commands."""
    parts = [MADE, "# Commands\n\nEach section is what the command's `--help` prints.\n"]
    parts += [f"\n## {command}\n\n```text\n{help_of(command)}```\n" for command in all_commands()]
    return "".join(parts)


def python_page() -> str:
    """Return the page of the Python API."""
    parts = [MADE, "# Python\n\nAll of it is in `magicheap`. The texts are those of the docstrings.\n"]
    names = sorted(magicheap.__all__, key=lambda name: (is_exception(name), name != "magic_transaction", name))
    for name in names:
        found = getattr(magicheap, name)
        if is_exception(name):
            bases = ", ".join(base.__name__ for base in found.__bases__)
            parts.append(f"\n## {name}\n\n`class {name}({bases})`\n\n{prose(inspect.getdoc(found))}\n")
        elif inspect.isclass(found):
            parts.append(f"\n## {name}\n\n{prose(inspect.getdoc(found))}\n")
            parts += [
                f"\n### {each}\n\n{signature(value)}{prose(inspect.getdoc(value))}\n" for each, value in methods(found)
            ]
        else:
            parts.append(f"\n## {name}\n\n{signature(found)}{prose(inspect.getdoc(found))}\n")
    return "".join(parts)


def is_exception(name: str) -> bool:
    """Tell whether a public name is that of an exception or a warning."""
    found = getattr(magicheap, name)
    return inspect.isclass(found) and issubclass(found, BaseException)


def methods(kind: type) -> list[tuple[str, Any]]:
    """Return the public methods."""
    return [
        (name, value) for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")
    ]


def signature(function: Any) -> str:
    """Return the head of a function as a code block, a parameter a line."""
    found = inspect.signature(function)
    lines, is_keyword = [], False
    for each in found.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not is_keyword:
            lines.append("    *,")
            is_keyword = True
        default = "" if each.default is each.empty else f" = {each.default!r}"
        annotation = "" if each.annotation is each.empty else f": {each.annotation}"
        lines.append(f"    {each.name}{annotation}{default},")
    return "\n".join(
        ["```python", f"def {function.__name__}(", *lines, f") -> {found.return_annotation}: ...", "```\n\n"]
    )


def prose(docstring: str | None) -> str:
    """Return a docstring as Markdown: names with their meaning become a list, other lines paragraphs."""
    parts: list[str] = []
    for line in (docstring or "").splitlines():
        member = MEMBER.fullmatch(line)
        last = parts[-1] if parts else ""
        is_more = line.startswith("  ") if last.startswith("- ") else last and not ENDS.search(last)
        if member:
            parts.append(f"- `{member[1]}`: {member[2]}")
        elif line and is_more:
            parts[-1] += f" {line.strip()}"
        else:
            parts.append(line)
    return "\n".join(fold(part.replace("*", r"\*")) for part in parts)


def fold(line: str) -> str:
    """Return a paragraph, or an entry of a list, in lines of at most 120 columns."""
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def main(arguments: list[str]) -> int:
    """Write or check the pages; return the exit status."""
    if sys.version_info[:2] not in PYTHON:
        versions = " or ".join(".".join(map(str, each)) for each in PYTHON)
        sys.exit(f"tools/reference.py: the pages are made by Python {versions}")
    status = 0
    for name, text in {"cli.md": cli_page(), "python.md": python_page()}.items():
        page = PAGES / name
        if "--check" in arguments:
            is_same = page.exists() and page.read_text(encoding="utf-8") == text
            status |= not is_same
            print(f"{page}: {'as the code has it' if is_same else 'differs: run python tools/reference.py'}")
        else:
            page.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
