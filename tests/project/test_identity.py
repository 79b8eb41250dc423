"""Whether two files are one, or a file is unchanged, is decided in one place for C, and in one for Python."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IN_C = ROOT / "native/base/identity.h"
IN_PYTHON = ROOT / "magicheap/_identity.py"
MEMBERS = r"(?:\w+_)?(?:inode|ino|mtime_ns|ctime_ns)"
# Members of a struct stat, and comparisons of what was made of them; with 0, which is no inode, anyone may compare.
ASKED = re.compile(
    r"\bst_(?:ino|dev|mtim|ctim)\b|"
    rf"\b{MEMBERS}\s*[!=]=(?!\s*(?:0|MHI_\w+)\b)|"
    rf"[!=]=\s*[\w.>[\]-]*(?:\.|->|\b){MEMBERS}\b"
)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
IN_STAT = {f"st_{name}{unit}" for name in ("ino", "dev", "mtime", "ctime") for unit in ("", "_ns")}
COMPARES = {"samefile", "sameopenfile", "samestat"}  # of os.path
# A file's age, which is compared with no time of that file; and llama, which knows of magicheap in one file only.
OTHERS = {
    ("native/snapshot/variants.h", "st_mtim"),
    ("magicheap/_cache.py", "st_mtime_ns"),
    ("magicheap/_known_processes.py", "st_ctime"),
    ("magicheap/_listing.py", "st_mtime_ns"),
    ("magicheap/_warned.py", "st_mtime"),
    ("llama/command/_cli.py", "samefile"),
    ("llama/command/_prefixes.py", "st_mtime_ns"),
}


def asked_by_c(text):
    return [match.group() for match in ASKED.finditer(COMMENT.sub(" ", text))]


def sources(top, suffixes):
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / top).rglob("*") if path.suffix in suffixes)


@pytest.mark.parametrize("name", sources("native", (".c", ".h")))
def test_no_other_c_file_compares_files_by_stat(name):
    found = asked_by_c((ROOT / name).read_text())
    assert ROOT / name == IN_C or [each for each in found if (name, each) not in OTHERS] == []


def test_a_comparison_in_c_is_seen():
    assert len(asked_by_c(IN_C.read_text())) > 8
    for text in ("a.st_ino == b", "entry->in_inode != x", "x == file->id.inode", "was.mtime_ns == is", "d->d_ino == 7"):
        assert asked_by_c(text), text
    assert asked_by_c("/* st_ino */ .inode = 7, x.inode != 0, in_mtime_ns == MHI_MTIME_UNKNOWN") == []


def asked_by_python(text):
    nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
    return sorted(node.attr for node in nodes if node.attr in IN_STAT | COMPARES)


@pytest.mark.parametrize("name", [*sources("magicheap", (".py",)), *sources("llama", (".py",))])
def test_no_other_python_file_compares_files_by_stat(name):
    found = asked_by_python((ROOT / name).read_text())
    assert ROOT / name == IN_PYTHON or [each for each in found if (name, each) not in OTHERS] == []


def test_a_comparison_in_python_is_seen():
    assert len(asked_by_python(IN_PYTHON.read_text())) == 4
    assert asked_by_python("a.st_ino, os.stat(b).st_ctime, samestat(c, d), os.path.samestat(c, d)") == [
        "samestat",
        "st_ctime",
        "st_ino",
    ]


def test_each_exception_is_one():
    for name, found in OTHERS:
        text = (ROOT / name).read_text()
        assert found in (asked_by_python(text) if name.endswith(".py") else asked_by_c(text)), name
