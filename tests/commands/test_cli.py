"""The command `magicheap`: what it prints, what it removes, and its exit status."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from conftest import COMMAND

SNAPSHOT = """
    import sys
    import numpy
    from magicheap import magic_transaction
    with magic_transaction(sys.argv[1], process=False) as magic:
        if not magic.was_committed:
            magic.root = numpy.arange(100_000)
    if len(sys.argv) > 2:
        magic.root += 1
        print("mapped", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def snapshot(program, tmp_path):
    """A program, and the path of the snapshot that it has made."""
    made = program(SNAPSHOT)
    path = tmp_path / "cache/x.magic"
    path.parent.mkdir(mode=0o700)
    made(path)
    return made, path


def test_info_says_what_a_snapshot_is_and_that_it_is_fresh(magicheap, snapshot):
    _program, path = snapshot
    rows = dict(line.split("\t") for line in magicheap("info", path).splitlines())
    assert rows["kind"].startswith("heap, format ")
    assert rows["state"] == "a run here and now would take it"
    assert "library" in rows["depends on"] and "file" in rows["depends on"]


def test_info_says_why_a_snapshot_is_stale(magicheap, snapshot):
    program, path = snapshot
    program.path.write_text(program.path.read_text() + "# edited\n")
    first, *_ = magicheap("info", path).splitlines()
    assert first.startswith("state\tstale: ") and str(program.path) in first


def test_info_json_holds_everything(magicheap, snapshot):
    program, path = snapshot
    report = json.loads(magicheap("info", path, "--json"))
    assert report["path"] == str(path) and report["stale"] == "" and report["processes"] == []
    info = report["info"]
    assert info["kind"] == "heap" and info["stored_bytes"] > 800_000 and info["file_bytes"] == path.stat().st_size
    arena, pages = sorted(report["segments"], key=lambda segment: segment["kind"])
    assert (arena["kind"], pages["kind"], pages["address"]) == ("arena", "pages", info["address"])
    assert arena["address"] <= info["root"] < arena["address"] + arena["size_bytes"]
    assert str(program.path) in {found["name"] for found in report["inputs"] if found["kind"] == "file"}
    assert any("libc.so.6" in found["name"] for found in report["inputs"] if found["kind"] == "library")


def test_info_shows_the_processes_that_have_it_mapped(magicheap, snapshot):
    program, path = snapshot
    with program.start(path, "stay") as process:
        assert process.stdout.readline() == "mapped\n"
        (use,) = json.loads(magicheap("info", path, "--json"))["processes"]
        text = magicheap("info", path)
        process.communicate("\n", timeout=60)
    assert use["pid"] == process.pid
    assert use["private_bytes"] >= 800_000, "it has written to the array"
    assert use["shared_bytes"] == use["resident_bytes"] - use["private_bytes"]
    assert f"{process.pid}\t" in text


def test_a_terminal_gets_a_table(magicheap, snapshot):
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "info", str(snapshot[1])], stdout=terminal, env={**os.environ, "COLUMNS": "100"}
    )
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(controller, 65536):
            shown += data
    except OSError:
        pass  # the kernel's way to say that the terminal has no other end any more
    os.close(controller)
    assert process.wait(timeout=60) == 0
    assert "│" in shown.decode() and "heap, format " in shown.decode()


def test_verify_says_which_files_are_sound(magicheap, snapshot, tmp_path):
    _, path = snapshot
    damaged = tmp_path / "damaged.magic"
    content = bytearray(path.read_bytes())
    content[(2 << 20) + 5000] ^= 1  # in the arena's data, which only verify reads
    damaged.write_bytes(content)
    assert magicheap("verify", path) == f"{path}: ok\n"
    first, second = magicheap("verify", path, damaged, status=1).splitlines()
    assert first == f"{path}: ok" and second.startswith(f"{damaged}: CorruptError: ")


def test_ls_lists_snapshots_and_nothing_else(magicheap, snapshot):
    _program, path = snapshot
    (path.parent / "notes.txt").write_text("no snapshot")
    (path.parent / "directory").mkdir()
    header, line, total = magicheap("ls", path.parent).splitlines()
    assert header.startswith("snapshot\tkind\t") and total.startswith("total\t1 snapshot\t")
    assert line.startswith(f"{path}\theap\t") and line.endswith("\tfresh")
    (found,) = json.loads(magicheap("ls", path.parent, "--json"))
    assert found["path"] == str(path) and found["problem"] == ""


def test_ls_says_on_stderr_where_there_is_no_snapshot(magicheap, tmp_path):
    said = f"magicheap: no snapshots in {tmp_path}\n"
    assert magicheap("ls", tmp_path, errors=True) == said, "stdout, which programs read, is empty"
    assert magicheap("ls", tmp_path, "--json") == "[]\n"


def test_ls_and_clean_look_into_the_users_cache(magicheap, program, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    nothing = f"magicheap: no snapshots in {tmp_path}/cache/magicheap\n"
    assert magicheap("ls", env=cache, errors=True) == nothing
    made = program("""
        from magicheap import magic_transaction
        with magic_transaction(process=False) as magic:
            magic.root = 1
    """)
    made(env=cache)
    assert "program-" in magicheap("ls", env=cache)
    assert magicheap("clean", env=cache) == "0 snapshots, 0 bytes\n"
    said = magicheap("clean", "--all", env=cache)
    assert ": all were asked for; it was fresh\n" in said and "\n1 snapshot, " in said
    assert magicheap("ls", env=cache, errors=True) == nothing


def test_clean_says_that_what_is_named_goes_though_it_is_fresh(magicheap, snapshot):
    _, path = snapshot
    words = " ".join(magicheap("clean", "--help").split())
    assert "snapshot or script: remove all its snapshots, fresh ones too" in words
    out = magicheap("clean", path, env={"XDG_CACHE_HOME": str(path.parent / "other")})
    assert out.startswith(f"removed {path}: all snapshots of {path} were asked for\n1 snapshot, ")
    assert not path.exists()


def test_clean_removes_what_is_stale_or_damaged_and_no_other_file(magicheap, snapshot):
    program, path = snapshot
    stale, cut, notes, foreign = (
        path.parent / name for name in ("stale.magic", "cut.magic", "notes.txt", "foreign.magic")
    )
    copy = program.path.parent / "copy.py"
    copy.write_text(program.path.read_text())
    subprocess.run([sys.executable, copy, stale], check=True)
    copy.write_text(program.path.read_text() + "# edited\n")
    cut.write_bytes(path.read_bytes()[:10_000])
    notes.write_text("no snapshot")
    foreign.write_bytes(b"\x7fELF" * 5000)
    assert set(os.listdir(path.parent)) == {"x.magic", "stale.magic", "cut.magic", "notes.txt", "foreign.magic"}
    said = magicheap("clean", "--dry-run", path.parent)
    assert said.count("would remove") == 2 and len(os.listdir(path.parent)) == 5
    assert magicheap("clean", path.parent).count("removed ") == 2
    assert set(os.listdir(path.parent)) == {"x.magic", "notes.txt", "foreign.magic"}


def test_clean_leaves_the_snapshots_of_other_versions_which_all_removes(magicheap, snapshot):
    _, path = snapshot
    content = bytearray(path.read_bytes())
    content[8] = 77  # hd_version
    path.write_bytes(content)
    _, line, _ = magicheap("ls", path.parent).splitlines()
    assert line.startswith(f"{path}\t?\t") and f"for other runs: {path} has format 77, " in line
    assert magicheap("clean", path.parent) == "0 snapshots, 0 bytes\n"
    assert magicheap("clean", "--older-than", "1", path.parent) == "0 snapshots, 0 bytes\n"
    assert magicheap("clean", "--all", path.parent).startswith(f"removed {path}: ")
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", bytes(5000)], ids=["empty", "zero"])
def test_clean_removes_from_the_cache_what_lost_its_content_with_the_power(magicheap, tmp_path, content):
    cache = tmp_path / "cache/magicheap"
    cache.mkdir(parents=True, mode=0o700)
    for name in ("x-0123456789abcdef.magic", "theirs.magic"):
        (cache / name).write_bytes(content)
    assert magicheap("clean", env={"XDG_CACHE_HOME": str(cache.parent)}).count("removed ") == 1
    assert os.listdir(cache) == ["theirs.magic"], "it has no name that we give"


def test_clean_leaves_what_only_another_environment_would_take(magicheap, snapshot):
    _, path = snapshot
    other = {"OMP_NUM_THREADS": "77"}
    _, line, _ = magicheap("ls", path.parent, env=other).splitlines()
    assert line.endswith("\tfor other runs: environment variable OMP_NUM_THREADS has changed: it was not set")
    assert magicheap("clean", path.parent, env=other) == "0 snapshots, 0 bytes\n"
    assert path.exists()


def test_clean_by_age_leaves_what_is_younger(magicheap, snapshot):
    _, path = snapshot
    assert magicheap("clean", "--older-than", "1", path.parent).startswith("0 snapshots")
    assert path.exists()
    assert magicheap("clean", "--older-than", "0", path.parent).startswith(f"removed {path}")
    assert not path.exists()


def test_a_snapshot_that_is_mapped_can_be_removed(magicheap, snapshot):
    program, path = snapshot
    with program.start(path, "stay") as process:
        assert process.stdout.readline() == "mapped\n"
        magicheap("clean", "--all", path.parent)
        _out, err = process.communicate("\n", timeout=60)
    assert (process.returncode, err) == (0, "") and not path.exists()


def test_doctor_tries_the_machine(magicheap, tmp_path):
    probes = json.loads(magicheap("doctor", tmp_path, "--json"))
    assert len(probes) > 3 and all(probe["name"] for probe in probes)
    assert [probe for probe in probes if probe["obstacle"]] == []
    assert magicheap("doctor", tmp_path).count("\tok\n") == len(probes)


def test_doctor_needs_no_directory_named(magicheap, tmp_path):
    assert "ok" in magicheap("doctor", env={"XDG_CACHE_HOME": str(tmp_path)})


def test_doctor_says_why_not(magicheap, tmp_path):
    said = magicheap("doctor", tmp_path / "missing", status=1)
    assert "missing" in said or "No such file" in said


@pytest.mark.parametrize(
    "arguments",
    [[], ["unknown"], ["info"], ["verify"], ["clean", "--all", "--stale"], ["clean", "--older-than", "nan"]],
)
def test_a_wrong_command_line_has_status_2(magicheap, arguments):
    assert "usage: magicheap" in magicheap(*arguments, status=2, errors=True)


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_cannot_be_read_has_status_1_and_a_message(magicheap, name, tmp_path):
    assert magicheap("info", tmp_path / name, status=1, errors=True).startswith("magicheap: ")


def test_a_closed_pipe_ends_it_quietly(magicheap, snapshot):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "info", snapshot[1], "--json"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")
