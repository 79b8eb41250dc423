"""Whether two files are one, or a file is unchanged, is decided in one place."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IN_C = ROOT / "native/base/identity.h"
MEMBERS = r"(?:\w+_)?(?:inode|ino|mtime_ns|ctime_ns)"
# Members of a struct stat, and comparisons of what was made of them; with 0, which is no inode, anyone may compare.
ASKED = re.compile(
    rf"\bst_(?:ino|dev|mtim|ctim)\b|\b{MEMBERS}\s*[!=]=(?!\s*(?:0|MHI_\w+)\b)|[!=]=\s*[\w.>[\]-]*(?:\.|->|\b){MEMBERS}\b"
)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# A time as such, of which none is compared with another of the same file.
TIMES = {("native/snapshot/variants.h", "st_mtim")}


def asked_by_c(text):
    return [match.group() for match in ASKED.finditer(COMMENT.sub(" ", text))]


def sources(top, suffixes):
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / top).rglob("*") if path.suffix in suffixes)


@pytest.mark.parametrize("name", sources("native", (".c", ".h")))
def test_no_other_c_file_compares_files_by_stat(name):
    found = asked_by_c((ROOT / name).read_text())
    assert ROOT / name == IN_C or [each for each in found if (name, each) not in TIMES] == []


def test_a_comparison_in_c_is_seen():
    assert len(asked_by_c(IN_C.read_text())) > 8
    for text in ("a.st_ino == b", "entry->in_inode != x", "x == file->id.inode", "was.mtime_ns == is", "d->d_ino == 7"):
        assert asked_by_c(text), text
    assert asked_by_c("/* st_ino */ .inode = 7, x.inode != 0, in_mtime_ns == MHI_MTIME_UNKNOWN") == []
