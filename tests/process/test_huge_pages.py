"""Huge pages: where large memory lies in a snapshot, and how it is mapped in the processes that resume from it, or
attach it.

Whether the kernel maps huge pages of files is for it and the file system to say (ext4 since Linux 6.16, xfs). What is
for us to do is tested everywhere.
"""

import json
import mmap
import re
from typing import NamedTuple

import pytest

MIB = 1 << 20
HUGE = 2 * MIB
SIZE = 16 * MIB  # eight huge pages; arbitrary

PROGRAM = f"""
    import sys
    from magicheap import magic_transaction
    with magic_transaction("base.magic"):
        print("body")
        weights = bytearray(range(256)) * ({SIZE} // 256)
    if len(sys.argv) > 1:
        with magic_transaction("first.magic"):
            print("layer")
            weights[{SIZE // 2}] = 77
    if len(sys.argv) > 2:
        with magic_transaction("second.magic"):
            print("layer")
            weights[{SIZE // 2 + 4096}] = 77
    assert sum(weights[::4096]) == 77 * (len(sys.argv) - 1) and sum(weights[1::4096]) == {SIZE // 4096}
    print(open("/proc/self/smaps").read())
"""


HEAP = f"""
    import numpy
    from magicheap import magic_transaction
    with magic_transaction("heap.magic", process=False) as magic:
        if not magic.was_committed:
            print("body")
            magic.root = numpy.ones({SIZE}, "u1")
            print(open("/proc/self/smaps").read())
    assert magic.root[::4096].sum() == {SIZE // 4096}
    if magic.was_committed:
        print(open("/proc/self/smaps").read())
"""


class Mapping(NamedTuple):
    """What /proc/self/smaps says of one."""

    start: int
    end: int
    offset: int
    facts: dict[str, str]

    @property
    def is_congruent(self):
        return (self.start - self.offset) % HUGE == 0

    @property
    def is_advised(self):
        return "hg" in self.facts["VmFlags"].split()

    @property
    def huge_bytes(self):
        return int(self.facts["FilePmdMapped"].split()[0]) << 10


def mappings(smaps, path):
    """Those of a file that hold a whole, aligned huge page."""
    for head in re.finditer(r"^(\w+)-(\w+) \S+ (\w+) \S+ \d+ +(.*)\n((?:\w+: .*\n)+)", smaps, re.MULTILINE):
        start, end, offset = (int(number, 16) for number in head.group(1, 2, 3))
        if head[4] == str(path) and end - start >= HUGE + -start % HUGE:
            yield Mapping(start, end, offset, dict(re.findall(r"(\w+): +(.*)", head[5])))


@pytest.fixture
def can_map_huge(tmp_path):
    """Skips where a plain file, written and mapped as well as can be, is not mapped by huge pages."""
    path = tmp_path / "probe"
    with open(path, "w+b", buffering=0) as file:
        for _ in range(4):
            file.write(b"x" * HUGE)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            assert set(mapped[::4096]) == set(b"x")
            with open("/proc/self/smaps") as smaps:
                found = list(mappings(smaps.read(), path))
    path.unlink()
    if not any(each.huge_bytes for each in found):
        pytest.skip("this kernel, or this file system, maps no huge pages of files")


@pytest.fixture
def base(life):
    """A program that has committed, and its snapshot."""
    life.write(PROGRAM)
    life.cold("python", "program.py")
    return life.directory / "base.magic"


def test_large_memory_lies_where_huge_pages_can_be_mapped_and_is_advised(life, base):
    found = list(mappings(life.warm("magic", "program.py"), base))
    assert sum(each.end - each.start for each in found) >= SIZE
    assert all(each.is_congruent and each.is_advised for each in found)


def test_large_memory_is_mapped_by_huge_pages(life, base, can_map_huge):
    found = list(mappings(life.warm("magic", "program.py"), base))
    assert sum(each.huge_bytes for each in found) >= SIZE // 2


@pytest.fixture
def below_two_layers(life, base):
    """The mappings of the lowest file in a process that has resumed from the second layer on it; each has changed a
    page."""
    for arguments in (["first"], ["first", "second"]):
        assert life.run("python", "program.py", *arguments).out.count("layer\n") == 1
    smaps = life.warm("magic", "program.py", "first", "second")
    assert "layer\n" not in smaps and "second.magic\n" in smaps
    return list(mappings(smaps, base))


def test_large_memory_keeps_place_and_advice_below_two_layers(below_two_layers):
    assert sum(each.end - each.start for each in below_two_layers) >= SIZE - 2 * HUGE
    assert all(each.is_congruent and each.is_advised for each in below_two_layers)


def test_large_memory_is_mapped_by_huge_pages_below_two_layers(below_two_layers, can_map_huge):
    assert sum(each.huge_bytes for each in below_two_layers) >= SIZE - 2 * HUGE


def test_holes_before_large_memory_follow_from_its_address_and_take_no_disk(life, base, magicheap):
    report = json.loads(magicheap("info", base, "--json"))
    place, n_holes = HUGE, 0
    for each in report["segments"]:
        if each["kind"] != "memory":
            continue
        hole = each["file_offset"] - place
        assert 0 <= hole < HUGE and (hole == 0 or (each["address"] - each["file_offset"]) % HUGE == 0)
        assert hole == 0 or each["size_bytes"] >= HUGE + -each["address"] % HUGE
        place, n_holes = each["file_offset"] + each["size_bytes"], n_holes + (hole > 0)
    assert n_holes > 0
    memory = sum(each["size_bytes"] for each in report["segments"] if each["kind"] == "memory")
    assert report["info"]["stored_bytes"] < memory + MIB
    assert magicheap("verify", base) == f"{base}: ok\n"


def filled_and_attached(life, source):
    """The mappings of the arena in the run that fills it, and in the one that attaches it."""
    life.write(source, "heap.py")
    fills, attaches = (life.run("python", "heap.py").out for _ in range(2))
    assert fills.startswith("body\n") and not attaches.startswith("body\n")
    file = re.search(rf"{life.directory}/(#\d+ \(deleted\)|heap.magic.uncommitted)$", fills, re.MULTILINE)
    return list(mappings(fills, file and file[0])), list(mappings(attaches, life.directory / "heap.magic"))


def test_a_heap_is_advised_where_it_is_filled_and_where_it_is_attached(life):
    for found in filled_and_attached(life, HEAP):
        assert sum(each.end - each.start for each in found) >= SIZE
        assert all(each.is_congruent and each.is_advised for each in found)


def test_a_heap_is_mapped_by_huge_pages_where_it_is_filled_and_where_it_is_attached(life, can_map_huge):
    for found in filled_and_attached(life, HEAP):
        assert sum(each.huge_bytes for each in found) >= SIZE // 2


def test_a_heap_that_the_commit_copies_to_the_file_is_mapped_by_huge_pages(life, can_map_huge):
    forks = HEAP.replace(
        'print("body")', 'print("body", flush=True), __import__("os").fork() or __import__("os")._exit(0)'
    )
    filled, attached = filled_and_attached(life, forks)
    assert sum(each.end - each.start for each in filled) < SIZE, "a fork has parted arena and file"
    assert sum(each.huge_bytes for each in attached) >= SIZE // 2
