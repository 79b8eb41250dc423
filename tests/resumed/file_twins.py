"""Programs that run in two directories that begin alike: in one by themselves, in the other with snapshots. After each
run both hold the same."""

import pytest
from process_fixtures import Life

FRAME = """
import csv, ctypes, io, logging, mmap, os, shutil, sqlite3, sys, tempfile, zipfile
from magicheap import magic_transaction
{before}
with magic_transaction("x.magic"):
    {body}
word = sys.argv[1]
{tail}
"""


class Twins:
    """A program in two directories that begin alike."""

    def __init__(self, directory, source):
        self.magic = Life(directory / "magic")
        self.plain = Life(directory / "plain")
        for life in (self.magic, self.plain):
            life.directory.mkdir()
            (life.directory / "old").write_text("old content\n")
            life.write(source)

    def run(self, word, how="magic", status=0):
        """Run both; return the one that may be warm."""
        ran = self.magic.run(how, "program.py", word, status=status)
        plain = self.plain.run("python", "program.py", word, env={"MAGICHEAP_DISABLE": "1"}, status=status)
        assert ran.out == plain.out
        assert contents(self.magic.directory) == contents(self.plain.directory)
        return ran

    def __iter__(self):
        return iter((self.magic.directory, self.plain.directory))


def contents(directory):
    """What a program has left, by name."""
    ours = {"x.magic", "cache", "program.py"}
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name not in ours and path.is_file()}


@pytest.fixture
def twins(tmp_path):
    return lambda body, tail, before="": Twins(tmp_path, FRAME.format(before=before, body=body, tail=tail))


def is_warm(ran):
    return any(line.startswith("warm: ") for line in ran.log)
