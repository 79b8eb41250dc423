"""Break comments, docstrings and paragraphs that are longer than 120 columns, which no formatter of code does.

    wrap_text.py [FILE ...]      without: all tracked files

Words that do not fit a line move to the next line of the paragraph. A comment after code that does not fit moves above
the code. Other long lines (strings, tables, macros) are left for a human: tools/check_lines.py lists them. Run this
before the formatters of code.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

from check_lines import ROOT, WIDTH, tracked

# The beginning of an item: - or *, a numbered invariant (P1, E12), a row of a table that is drawn with blanks; in a
# docstring a parameter's name.
ITEM = re.compile(r"[-*] +|[A-Z]{1,2}[0-9]+ +|(?=.{,24}  )\S+(?: \S+)* {2,}")
PARAMETER = re.compile(r"[a-z_]+: ")
QUOTES = re.compile(r'[rR]?"""')
PRAGMA = re.compile(r"# (type: ignore|noqa|fmt: )")
DOCSTRING = r'\s*(?:[rR]?""")?'


def body_of(line: str, prefix: str) -> tuple[str, str]:
    """Split a line after `prefix`, a pattern, and the blanks that follow it."""
    found = re.match(rf"({prefix}\s*)(.*)$", line)
    assert found is not None
    return found[1], found[2]


def begins_parameter(text: str, before: str) -> bool:
    """Tell whether a line of a docstring begins the description of a parameter: no sentence continues in it."""
    return bool(PARAMETER.match(text)) and (not before.strip() or before.rstrip().endswith((".", ":", ";", ")", '"')))


def reflow(lines: list[str], prefix: str) -> list[str]:
    """Break the lines of one text, each of which begins with the pattern `prefix`."""
    done, rest = [], list(lines)
    while rest:
        line = rest.pop(0)
        indent, text = body_of(line, prefix)
        is_example = prefix == DOCSTRING and "  # " in line
        at = line.rfind(" ", len(indent) + 1, WIDTH + 1) if len(line) > WIDTH and not is_example else -1
        if at < 0:
            done.append(line)
            continue
        base = QUOTES.sub("", indent)
        item = ITEM.match(text)
        is_parameter = prefix == DOCSTRING and begins_parameter(text, done[-1] if done else "")
        done.append(line[:at].rstrip())
        follow = base + " " * (len(item[0]) if item else 4 if is_parameter else 0)
        next_indent, next_text = body_of(rest[0], prefix) if rest else ("", "")
        is_next = prefix == DOCSTRING and begins_parameter(next_text, line)
        begins = ITEM.match(next_text) or is_next or next_text[:1] in "|>"
        is_deeper = len(next_indent) > len(base)
        if next_text and not begins and (next_indent == follow or (is_deeper and (item or is_parameter))):
            rest[0] = f"{next_indent}{line[at:].strip()} {next_text}"
        else:
            rest.insert(0, follow + line[at:].strip())
    return done


def python(text: str) -> str:
    lines = text.split("\n")
    spans = docstrings(text)
    for first, last in reversed(spans):
        lines[first:last] = reflow(lines[first:last], DOCSTRING)
    text = "\n".join(lines)
    lines = text.split("\n")
    comments = [
        token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    ]
    alone = {token.start[0] - 1 for token in comments if not token.line[: token.start[1]].strip()}
    for token in reversed(comments):
        number, column = token.start[0] - 1, token.start[1]
        if number not in alone and len(lines[number]) > WIDTH:
            code, comment = lines[number][:column].rstrip(), lines[number][column:]
            if PRAGMA.match(comment):
                bare, _, comment = comment.partition("  # ")
                code, comment = f"{code}  {bare}", comment and f"# {comment}"
            if comment:
                indent = re.match(r"\s*", code)
                lines[number : number + 1] = [(indent[0] if indent else "") + comment, code]
    return "\n".join(runs(lines))


def runs(lines: list[str]) -> list[str]:
    """Reflow each run of lines that are comments alone, outside strings."""
    text = "\n".join(lines)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    alone = {t.start[0] - 1 for t in tokens if t.type == tokenize.COMMENT and not t.line[: t.start[1]].strip()}
    done: list[str] = []
    at = 0
    while at < len(lines):
        end = at
        while end in alone:
            end += 1
        if end > at:
            done += reflow(lines[at:end], r"\s*#")
            at = end
        else:
            done.append(lines[at])
            at += 1
    return done


def docstrings(text: str) -> list[tuple[int, int]]:
    """Return the lines that each docstring takes, as (first, last + 1) from 0."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            holder = node.body[0]
            found.append((holder.lineno - 1, holder.end_lineno or holder.lineno))
    return sorted(found)


def c(text: str) -> str:
    """Comments that stand alone, from /* to */, then those after code."""
    lines, done, at = text.split("\n"), [], 0
    while at < len(lines):
        line = lines[at]
        end = at + 1
        if re.match(r"\s*/\*", line):
            while "*/" not in lines[end - 1]:
                end += 1
            indent = re.match(r"\s*", line)
            star = (indent[0] if indent else "") + " *"
            if lines[end - 1].rstrip().endswith("*/"):
                done += comment(lines[at:end], star)
                at = end
                continue
        behind = re.match(r"(\s*)(\S.*?)\s+(/\*(?:(?!\*/).)*\*/)\s*$", line)
        if len(line) > WIDTH and behind and '"' not in behind[3] and not behind[2].endswith("\\"):
            done += comment([behind[1] + behind[3]], behind[1] + " *")
            line = behind[1] + behind[2]
        done.append(line)
        at = end
    return "\n".join(done)


def comment(lines: list[str], star: str) -> list[str]:
    if all(len(line) <= WIDTH for line in lines):
        return lines
    inner = [lines[0].replace("/*", " *", 1), *lines[1:]]
    if not all(line.startswith(star) for line in inner):
        return lines
    done = reflow(inner, re.escape(star))
    return [done[0].replace(" *", "/*", 1), *done[1:]]


def markdown(text: str) -> str:
    done: list[str] = []
    paragraph: list[str] = []
    is_code = False
    for line in [*text.split("\n"), ""]:
        is_fence = line.startswith("```")
        if is_code or is_fence or not line or line.startswith(("|", "#")):
            done += [*reflow(paragraph, ""), line]
            paragraph = []
            is_code ^= is_fence
        elif paragraph and line.startswith("- "):
            done += reflow(paragraph, "")
            paragraph = [line]
        else:
            paragraph.append(line)
    return "\n".join(done[:-1])


def hashes(text: str) -> str:
    """Lines that are comments alone, of files in which a # begins one."""
    done: list[str] = []
    run: list[str] = []
    for line in [*text.split("\n"), ""]:
        if re.match(r"\s*# ", line):
            run.append(line)
        else:
            done += [*reflow(run, r"\s*#"), line]
            run = []
    return "\n".join(done[:-1])


KINDS = {".py": python, ".c": c, ".h": c, ".S": c, ".md": markdown}
# and Makefile, .clang-tidy and their like
KINDS |= dict.fromkeys((".sh", ".toml", ".yaml", ".build", ".txt", ""), hashes)


def main(*names: str) -> int:
    for path, text in tracked():
        wrap = KINDS.get(Path(path).suffix)
        if wrap and (not names or path in names) and (wrapped := wrap(text)) != text:
            (ROOT / path).write_text(wrapped, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
