"""A file that is not what it should be: its name in `magicheap verify`, a cold run with a reason, and never a crash."""

import json
import os
import random
import socket
import stat
import struct

import pytest

PROGRAM = """
    import numpy
    from magicheap import magic_transaction
    with magic_transaction("x.magic", process=False) as magic:
        if not magic.was_committed:
            magic.root = {"numbers": numpy.arange(1000), "text": "text" * 100}
    assert magic.root["numbers"].sum() == 499500 and len(magic.root["text"]) == 400
    print(magic.was_committed, magic.committed, magic.reason)
"""
DATA_OFFSET = 2 << 20  # native/format.h


@pytest.fixture
def made(program, tmp_path):
    """A program that has made x.magic, and that file."""
    numbers = program(PROGRAM)
    assert numbers()[:2] == ["False", "True"]
    return numbers, tmp_path / "x.magic"


def write(path, content):
    path.write_bytes(content)
    path.chmod(0o600)


def expect_cold_and_mended(program, what):
    """The next run is cold because of `what`, and commits; the one after it is warm."""
    was_committed, committed, *reason = program()
    assert (was_committed, committed) == ("False", "True") and what in " ".join(reason), reason
    assert program() == ["True", "False"]


@pytest.mark.parametrize("n_bytes", [1, 7, 100, 4095, 4096, DATA_OFFSET, DATA_OFFSET + 4096, -1])
def test_a_truncated_heap_is_named_and_made_anew(magicheap, made, n_bytes):
    program, path = made
    os.truncate(path, n_bytes if n_bytes > 0 else path.stat().st_size + n_bytes)
    said = magicheap("verify", path, status=1)
    assert "CorruptError" in said or "FormatError" in said
    expect_cold_and_mended(program, "x.magic")


def test_an_empty_file_is_filled(magicheap, made):
    program, path = made
    write(path, b"")
    assert "FormatError" in magicheap("verify", path, status=1)
    expect_cold_and_mended(program, "x.magic")


@pytest.mark.parametrize(
    "content", [b"\0" * 10_000, b"\x7fELF" + b"x" * 10_000, b"PK\3\4" * 3000], ids=["zeros", "elf", "zip"]
)
def test_a_foreign_file_is_refused_by_name_and_stays(magicheap, made, content):
    program, path = made
    write(path, content)
    assert "FormatError" in magicheap("verify", path, status=1)
    out, err = program.run()
    assert out.split()[:2] == ["False", "False"] and err.count("MagicHeapWarning") == 1 and "x.magic is " in err, err
    assert path.read_bytes() == content
    path.unlink()
    assert program()[:2] == ["False", "True"]


def test_a_newer_format_is_named_with_both_numbers(magicheap, made):
    program, path = made
    content = bytearray(path.read_bytes())
    (version,) = struct.unpack_from("<I", content, 8)  # hd_version
    struct.pack_into("<I", content, 8, version + 1)
    write(path, content)
    said = magicheap("verify", path, status=1)
    assert "FormatError" in said and f"format {version + 1}, this build reads {version}" in said
    expect_cold_and_mended(program, f"format {version + 1}, this build reads {version}")


def test_flipped_bits_in_header_and_tables_are_seen_by_every_run(made):
    program, path = made
    sound = path.read_bytes()
    rng = random.Random(2)
    tables = len(sound) - DATA_OFFSET  # they are the tail of what follows the data
    places = [8, 12, 16, 20, 40, 100, 4000] + [len(sound) - 1 - rng.randrange(min(tables, 8000)) for _ in range(5)]
    for place in places:
        damaged = bytearray(sound)
        damaged[place] ^= 1 << rng.randrange(8)
        write(path, damaged)
        was_committed, committed, *reason = program()
        assert (was_committed, committed) == ("False", "True") and "x.magic" in " ".join(reason), (place, reason)


def test_flipped_bits_in_the_data_are_seen_by_verify_and_on_request(magicheap, made):
    program, path = made
    damaged = bytearray(path.read_bytes())
    damaged[DATA_OFFSET + 4100] ^= 4
    write(path, damaged)
    assert "CorruptError" in magicheap("verify", path, status=1)
    was_committed, committed, *reason = program(env={"MAGICHEAP_VERIFY": "1"})
    assert (was_committed, committed) == ("False", "True") and "checksum" in " ".join(reason)


def test_a_root_that_is_not_ours_is_a_cold_run(made):
    program, path = made
    content = bytearray(path.read_bytes())
    tag = content.index(b"magicpy2", DATA_OFFSET)
    content[tag : tag + 8] = b"someone1"
    write(path, content)  # only verify reads the data, so this file is attached
    expect_cold_and_mended(program, "the root cannot be restored")


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_a_heap_that_others_can_write_is_not_taken(made, mode):
    program, path = made
    path.chmod(mode)
    expect_cold_and_mended(program, "others can write it")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_heap_of_somebody_else_is_not_taken(made):
    program, path = made
    os.chown(path, 12345, -1)
    expect_cold_and_mended(program, "belongs to user 12345")


def test_a_directory_in_which_others_can_put_files_gets_no_heap(made, tmp_path):
    program, _path = made
    tmp_path.chmod(0o777)
    was_committed, _committed, *reason = program.run()[0].split()
    assert was_committed == "False" and str(tmp_path) in " ".join(reason)
    tmp_path.chmod(0o700)
    assert program()[0] == "True", "what there was is still there"


def test_a_symbolic_link_is_not_followed_but_replaced(made, tmp_path):
    program, path = made
    path.rename(tmp_path / "elsewhere.magic")
    before = (tmp_path / "elsewhere.magic").read_bytes()
    path.symlink_to("elsewhere.magic")
    expect_cold_and_mended(program, "symbolic link")
    assert not path.is_symlink() and (tmp_path / "elsewhere.magic").read_bytes() == before


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket"])
def test_what_is_no_file_at_all_is_left_alone_with_one_warning(made, kind, tmp_path):
    program, path = made
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.getcwd()
            os.chdir(tmp_path)  # the names of sockets are short
            try:
                listener.bind(path.name)
            finally:
                os.chdir(here)
    out, err = program.run()
    assert out.split()[0] == "False" and "x.magic" in out
    assert "Traceback" not in err
    assert (
        out.split()[1] == "False" and err.count("MagicHeapWarning") == 1 and "choose another path, or remove it" in err
    )
    assert not stat.S_ISREG(path.lstat().st_mode)


def test_what_lies_at_the_address_of_a_heap_is_left_alone(magicheap, made):
    program, path = made
    info = json.loads(magicheap("info", path, "--json"))["info"]
    taken = type(program)(
        program.path.parent / "taken.py",
        f"""
        import ctypes, runpy
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        MAP_FIXED_NOREPLACE, MAP_PRIVATE, MAP_ANONYMOUS = 0x100000, 2, 0x20
        address = {info["address"]}
        assert libc.mmap(address, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == address
        ctypes.memset(address, 7, 4096)
        runpy.run_path({str(program.path)!r}, run_name="__main__")
        assert ctypes.string_at(address, 4096) == b"\\x07" * 4096, "somebody else's memory was overwritten"
    """,
    )
    was_committed, _committed, *reason = taken.run()[0].split()
    assert was_committed == "False" and "something else is mapped" in " ".join(reason)
