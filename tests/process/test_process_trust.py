"""A process snapshot that somebody else could have made, that is damaged, or replaced while others use it: at worst a
cold run."""

import os
import random
import shutil
import signal
import struct

import pytest
from process_fixtures import LAUNCHER, PYTHON
from running import TIMEOUT_S
from snapshot_bytes import HEADER_BYTES, Snapshot

PROGRAM = """
    import os, sys
    from magicheap import magic_transaction
    with magic_transaction("x.magic"):
        print("body")
        loaded = list(range(100_000))
    if sys.argv[1:]:
        print("resumed", flush=True)
        sys.stdin.readline()
    print(sum(loaded), os.geteuid())
"""


@pytest.fixture
def made(life, tmp_path):
    """A directory with a program that has committed, and the snapshot."""
    tmp_path.chmod(0o700)
    life.write(PROGRAM)
    life.cold("python", "program.py")
    return life, tmp_path / "x.magic"


# ---- trust ----


def test_a_snapshot_is_its_users_alone(made):
    _, path = made
    assert path.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("how", ["python", "magic"])
@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_a_file_that_others_can_write_makes_the_run_cold(made, how, mode):
    life, path = made
    path.chmod(mode)
    life.cold(how, "program.py", why="others can write it")
    assert path.stat().st_mode & 0o777 == 0o600
    life.warm("magic", "program.py")


@pytest.mark.parametrize("how", ["python", "magic"])
def test_a_symbolic_link_is_replaced_not_followed(made, tmp_path, how):
    life, path = made
    path.rename(tmp_path / "elsewhere.magic")
    path.symlink_to("elsewhere.magic")
    life.cold(how, "program.py", why="symbolic link")
    assert not path.is_symlink()


@pytest.mark.parametrize("how", ["python", "magic"])
def test_a_directory_in_which_others_can_put_files_is_not_trusted(made, tmp_path, how):
    life, _ = made
    tmp_path.chmod(0o777)
    ran = life.run(how, "program.py")
    assert ran.out.startswith("body\n") and str(tmp_path) in ran.reason and not ran.has_committed
    tmp_path.chmod(0o700)
    life.warm("magic", "program.py")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("how", ["python", "magic"])
def test_a_file_of_somebody_else_makes_the_run_cold(made, how):
    life, path = made
    os.chown(path, 12345, -1)
    life.cold(how, "program.py", why="belongs to user 12345")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_a_link_of_somebody_else_makes_the_run_cold(made):
    life, _ = made
    (link,) = (life.cache / "commands").iterdir()
    os.chown(link, 12345, -1, follow_symlinks=False)
    ran = life.run("magic", "program.py")
    assert "belongs to user 12345" in ran.reason and ran.out.startswith("body\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a program raise its privileges")
def test_a_program_with_raised_privileges_runs_cold(made, tmp_path):
    life, _ = made
    shutil.copy(LAUNCHER, tmp_path / "magic")
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {PYTHON} "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    os.chown(tmp_path / "magic", -1, 12345)
    (tmp_path / "magic").chmod(0o2755)
    ran = life.run(tmp_path / "magic", "program.py")
    assert "body\n" in ran.out and "privileges" in ran.reason


# ---- damage ----


def runs_cold(life, path, content, why="x.magic", ways=("magic", "python")):
    """With this content of the snapshot it runs cold because of `why`, to its end."""
    for how in ways:
        path.write_bytes(content)
        assert life.cold(how, "program.py", why=why).startswith("4999950000 ")


def spread(start, end, n):
    """n places between start and end, spread evenly but not regularly."""
    rng = random.Random(3)
    step = (end - start) / n
    return sorted({start + int(i * step + rng.random() * step) for i in range(n)})


def test_any_damaged_byte_of_the_header_or_the_tables_makes_the_run_cold(made):
    life, path = made
    sound = path.read_bytes()
    tables = Snapshot(path).table(1).offset
    for at in [8, 12, 16, 20, 24, 96, 104, *spread(0, HEADER_BYTES, 6), *spread(tables, len(sound), 14)]:
        damaged = bytearray(sound)
        damaged[at] ^= 1 << at % 8
        runs_cold(life, path, damaged, ways=["magic"])


def test_a_lie_with_sound_checksums_about_a_segment_does_no_harm(made):
    life, path = made
    segments = Snapshot(path).table(1)
    sound = path.read_bytes()
    lies = [
        (8, 0),
        (8, 1 << 46),
        (8, 0x2000_0000_0000),
        (16, 1),
        (16, 1 << 50),
        (24, 1 << 60),
        (24, 3),
        (0, 9),
        (4, 64),
        (48, 77),
    ]
    for offset, value in lies:
        path.write_bytes(sound)
        forged = Snapshot(path)
        struct.pack_into("<I" if offset in (0, 4, 48) else "<Q", forged.data, segments.offset + 56 * 2 + offset, value)
        forged.write()
        runs_cold(life, path, path.read_bytes(), why="damaged", ways=["magic"])


@pytest.mark.parametrize("n_bytes", [0, 1, 4095, 4096, 2 << 20, -4096, -1])
def test_a_truncated_file_makes_the_run_cold(made, n_bytes):
    life, path = made
    runs_cold(life, path, path.read_bytes()[:n_bytes])


@pytest.mark.parametrize("content", [b"\0" * 10_000, b"\x7fELF" + b"x" * 10_000], ids=["zeros", "elf"])
def test_a_foreign_file_is_named_in_one_warning_and_stays(made, content):
    life, path = made
    path.write_bytes(content)
    for how in ("magic", "python"):
        ran = life.run(how, "program.py")
        assert ran.out.startswith("body\n4999950000 ") and not ran.has_committed
        assert ran.err.count("MagicHeapWarning") == 1 and "choose another path, or remove it" in ran.err
        assert path.read_bytes() == content


def test_damaged_memory_is_found_when_asked_for(made, magicheap):
    life, path = made
    assert magicheap("verify", path) == f"{path}: ok\n"
    with open(path, "r+b") as file:
        file.seek((2 << 20) + 5000)
        file.write(bytes([file.read(1)[0] ^ 1]))
    assert "CorruptError" in magicheap("verify", path, status=1)
    damaged = path.read_bytes()
    for how in ("magic", "python"):
        life.cold(how, "program.py", env={"MAGICHEAP_VERIFY": "1"}, why="checksum")
        path.write_bytes(damaged)


# ---- others use it at the same time ----


def test_sixteen_that_run_go_on_when_the_snapshot_is_replaced_or_removed(made):
    life, path = made
    running = [life.start("magic", "program.py", "stay", stdin=-1) for _ in range(16)]
    assert [process.stdout.readline() for process in running] == ["resumed\n"] * 16
    with open(life.directory / "program.py", "a") as program:
        program.write("# edited\n")
    life.cold("magic", "program.py", why="program.py")
    path.unlink()
    ends = [process.communicate("\n", timeout=TIMEOUT_S)[0] for process in running]
    assert ends == [f"4999950000 {os.geteuid()}\n"] * 16 and {process.returncode for process in running} == {0}


def test_two_cold_runs_at_once_commit_once(life):
    life.write("""
        import sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic") as magic:
            print("body", flush=True)
            with __import__("magicheap")._questions.pause(): sys.stdin.readline()
        print(magic.committed)
    """)
    first, second = (life.start("python", "program.py", stdin=-1) for _ in range(2))
    assert [process.stdout.readline() for process in (first, second)] == ["body\n"] * 2
    ends = [process.communicate("\n", timeout=TIMEOUT_S) for process in (first, second)]
    assert sorted(out for out, _ in ends) == ["False\n", "True\n"]
    assert [err.count("MagicHeapWarning") for _, err in sorted(ends)] == [0, 0]
    assert "another run is making it" in sorted(ends)[0][1], "which is nothing to warn of"
    assert life.warm("magic", "program.py", stdin=-1) == "False\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_load_that_is_ended_leaves_what_there_was(made, number):
    life, path = made
    text = (life.directory / "program.py").read_text()
    life.write(text.replace("range(100_000)", "(print('in it', flush=True), sys.stdin.readline())"), "other.py")
    before = path.read_bytes()
    with life.start("python", "other.py", stdin=-1) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["body\n", "in it\n"]
        process.send_signal(number)
        process.communicate(timeout=TIMEOUT_S)
    assert path.read_bytes() == before and set(os.listdir(life.directory)) <= {
        "program.py",
        "other.py",
        "x.magic",
        "x.magic.lock",
        "cache",
    }
    life.warm("magic", "program.py")
