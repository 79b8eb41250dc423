"""The bound of the user's cache, and the commands that look into it: ls, clean, info."""

import json
import os
import pty
import shutil
import subprocess

import pytest
from conftest import COMMAND

PROGRAM = """\
import sys
from magicheap import magic_transaction
with magic_transaction() as magic:
    print("body")
    loaded = bytes({n_bytes})
print(len(loaded), *sys.argv[1:], flush=True)
"""
MIB = 1 << 20


def write(life, name, n_bytes=1000):
    (life.directory / name).parent.mkdir(exist_ok=True)
    return life.write(PROGRAM.format(n_bytes=n_bytes), name)


def snapshots(life):
    """The names of what is in the cache, without digest."""
    return sorted(path.name.rpartition("-")[0] for path in life.cache.glob("*.magic"))


def snapshot_of(life, stem):
    (path,) = life.cache.glob(f"{stem}-*.magic")
    return path


def age(path, days):
    found = path.stat()
    os.utime(path, ns=((found.st_atime_ns or found.st_mtime_ns) - days * 86_400 * 10**9, found.st_mtime_ns))


@pytest.fixture
def command(life, magicheap):
    """The command `magicheap` in the environment of a life."""
    life.env = {**os.environ, **life.env}  # as `magicheap` has it, or it would find variables changed
    return lambda *words, **options: magicheap(
        *words, env={"XDG_CACHE_HOME": str(life.cache.parent), "MAGICHEAP_LOG": ""}, **options
    )


# ---- what a commit forgets ----


def test_snapshots_of_programs_that_are_gone_go_with_the_next_commit(life):
    for i in range(4):
        life.cold("python", write(life, f"d{i}/passing.py"))
        shutil.rmtree(life.directory / f"d{i}")
    life.cold("python", write(life, "stays.py"))
    assert snapshots(life) == ["stays"]
    assert len(list((life.cache / "commands").iterdir())) == 1, "nor is there a link that leads nowhere"


def test_a_program_that_is_gone_but_was_run_today_may_be_another_machines(life):
    path = write(life, "d/mounted.py")
    life.cold("python", path)
    life.warm("magic", path)
    shutil.rmtree(life.directory / "d")
    life.cold("python", write(life, "one.py"))
    assert snapshots(life) == ["mounted", "one"]
    age(snapshot_of(life, "mounted"), days=2)
    life.cold("python", write(life, "two.py"))
    assert snapshots(life) == ["one", "two"]


def test_the_least_recently_used_go_when_the_bound_is_passed(life):
    names = ["a", "b", "c"]
    for name in names:
        life.cold("python", write(life, f"{name}.py", n_bytes=8 * MIB))
        life.warm("magic", f"{name}.py")
    age(snapshot_of(life, "b"), days=3)
    age(snapshot_of(life, "a"), days=1)
    size = snapshot_of(life, "a").stat().st_blocks * 512
    ran = life.run(
        "python", write(life, "d.py", n_bytes=8 * MIB), env={"MAGICHEAP_CACHE_SIZE": str(3 * size + size // 2)}
    )
    assert ran.has_committed and snapshots(life) == ["a", "c", "d"]
    assert any(line.startswith("removed: ") and "MAGICHEAP_CACHE_SIZE" in line for line in ran.log)
    life.warm("magic", "a.py")


def test_what_no_run_can_take_goes_before_what_was_not_used_for_long(life):
    for name in ("edited", "old"):
        life.cold("python", write(life, f"{name}.py", n_bytes=8 * MIB))
        life.warm("magic", f"{name}.py")
    age(snapshot_of(life, "old"), days=100)
    write(life, "edited.py", n_bytes=8 * MIB + 1)
    size = snapshot_of(life, "old").stat().st_blocks * 512
    life.cold(
        "python", write(life, "last.py", n_bytes=8 * MIB), env={"MAGICHEAP_CACHE_SIZE": str(2 * size + size // 2)}
    )
    assert snapshots(life) == ["last", "old"]


def test_what_was_just_committed_stays_even_if_it_is_larger_than_the_bound(life):
    life.cold("python", write(life, "a.py"))
    life.cold("python", write(life, "b.py"), env={"MAGICHEAP_CACHE_SIZE": "1K"})
    assert snapshots(life) == ["b"]
    life.warm("magic", "b.py")


def test_a_resume_forgets_nothing(life):
    for name in ("a", "b"):
        life.cold("python", write(life, f"{name}.py"))
    for how in ("magic", "python"):
        life.warm(how, "a.py", env={"MAGICHEAP_CACHE_SIZE": "1K"})
    assert snapshots(life) == ["a", "b"]


def test_what_lies_elsewhere_or_is_no_snapshot_is_never_forgotten(life):
    life.write(
        'from magicheap import magic_transaction\nwith magic_transaction("own.magic"):\n    print("body")\n', "own.py"
    )
    life.cold("python", "own.py")
    life.cold("python", write(life, "a.py"))
    (life.cache / "notes.txt").write_text("notes" * MIB)
    (life.cache / "directory.magic").mkdir()
    life.cold("python", write(life, "b.py"), env={"MAGICHEAP_CACHE_SIZE": "1K"})
    assert snapshots(life) == ["b"] or snapshots(life) == ["", "b"]
    assert (
        (life.directory / "own.magic").exists()
        and (life.cache / "notes.txt").exists()
        and (life.cache / "directory.magic").is_dir()
    )


def test_a_process_goes_on_with_the_snapshot_that_is_forgotten(life):
    life.write(PROGRAM.format(n_bytes=8 * MIB) + "sys.stdin.readline()\nprint(sum(loaded))\n", "a.py")
    life.run("python", "a.py")
    with life.start("magic", "a.py", stdin=subprocess.PIPE, env={"MAGICHEAP_LOG": ""}) as process:
        assert process.stdout.readline() == f"{8 * MIB}\n"
        life.cold("python", write(life, "b.py"), env={"MAGICHEAP_CACHE_SIZE": "1K"})
        assert snapshots(life) == ["b"]
        assert process.communicate("\n", timeout=60) == ("0\n", "")


LAYERS = """\
import os, sys
from magicheap import magic_transaction
cache = os.environ["XDG_CACHE_HOME"] + "/magicheap/"
with magic_transaction(cache + "base.magic"):
    print("body")
    base = list(range(1_500_000))
with magic_transaction(cache + sys.argv[1] + ".magic") as magic:
    layer = [1] * 1000
print(magic.was_committed)
"""


def test_a_layer_is_forgotten_with_what_it_is_on_and_its_use_counts_for_that(life):
    life.cache.mkdir(parents=True, mode=0o700)
    life.write(LAYERS)
    life.run("python", "program.py", "first")
    for name in ("one", "two"):
        assert life.run("python", "program.py", name).out == "False\n"
        assert life.run("magic", "program.py", name).out == "True\n"
    (life.cache / "first.magic").unlink()
    age(life.cache / "base.magic", days=9)
    age(life.cache / "one.magic", days=5)
    life.write(PROGRAM.format(n_bytes="8 << 20").replace("bytes(8 << 20)", "list(range(1_000_000))"), "big.py")
    life.cold("python", "big.py")
    age(snapshot_of(life, "big"), days=7)
    total = sum(path.stat().st_blocks * 512 for path in life.cache.glob("*.magic"))
    ran = life.run("python", write(life, "a.py"), env={"MAGICHEAP_CACHE_SIZE": str(total)})
    assert ran.has_committed and len(ran.log) == 3, ran
    assert {path.name.partition("-")[0] for path in life.cache.glob("*.magic")} == {
        "base.magic",
        "one.magic",
        "two.magic",
        "a",
    }
    life.cold("python", write(life, "b.py"), env={"MAGICHEAP_CACHE_SIZE": "1K"})
    assert (
        snapshots(life) == ["b"]
        and not list(life.cache.glob("[a-z]*.magic.v*"))
        and len(list(life.cache.glob("*.magic"))) == 1
    )


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("5G", 5 << 30), ("500m", 500 << 20), ("1.5 GiB", 3 << 29), ("70000", 70_000), ("2KB", 2048), ("0", 0)],
)
def test_a_size_is_a_number_with_a_unit(text, n_bytes, monkeypatch, tmp_path):
    from magicheap._cache import bound_bytes

    monkeypatch.setenv("MAGICHEAP_CACHE_SIZE", text)
    assert bound_bytes(tmp_path) == n_bytes


@pytest.mark.parametrize("text", ["", "much", "5X", "-1", "G", "1e3"])
def test_without_a_size_a_tenth_of_the_file_system_is_the_bound(text, monkeypatch, tmp_path):
    from magicheap._cache import bound_bytes

    monkeypatch.setenv("MAGICHEAP_CACHE_SIZE", text)
    assert bound_bytes(tmp_path) == shutil.disk_usage(tmp_path).total // 10


# ---- ls, clean, info ----


def table(text):
    header, *lines, total = [line.split("\t") for line in text.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines], total


def test_ls_tells_program_variant_use_and_total(life, command):
    path = write(life, "a.py")
    life.cold("python", "a.py")
    life.cold("python", "-O", "a.py", env={"OMP_NUM_THREADS": "3"})
    life.warm("magic", "a.py")
    rows, total = table(command("ls"))
    first = snapshot_of(life, "a")
    assert [row["snapshot"] for row in rows] == [str(first), f"{first}.v1"]
    assert {row["program"] for row in rows} == {str(path)}
    assert rows[0]["variant"] == "optimize=0, OMP_NUM_THREADS not set"
    assert rows[1]["variant"].startswith("optimize=1, OMP_NUM_THREADS set (")
    assert rows[0]["used"].startswith("20") and rows[1]["used"] == "never"
    assert rows[0]["state"] == "fresh" and rows[1]["state"].startswith(
        "for other runs: environment variable OMP_NUM_THREADS"
    )
    assert total[:2] == ["total", "2 snapshots"]


def test_a_narrow_terminal_gets_paths_that_other_commands_take(life, command, magicheap):
    write(life, "a.py")
    life.cold("python", "a.py")
    controller, terminal = pty.openpty()
    env = {**os.environ, "XDG_CACHE_HOME": str(life.cache.parent), "COLUMNS": "40"}
    process = subprocess.Popen([*COMMAND, "ls"], stdout=terminal, env=env)
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(controller, 65536):
            shown += data
    except OSError:
        pass  # the kernel's way to say that the terminal has no other end any more
    os.close(controller)
    assert process.wait(timeout=60) == 0
    lines = shown.decode().splitlines()
    assert lines[0] == str(snapshot_of(life, "a")) and lines[-1].startswith("total, 1 snapshot, ")
    assert command("verify", lines[0]) == f"{lines[0]}: ok\n"


def test_clean_takes_a_script_or_any_variant_of_a_snapshot(life, command):
    for name in ("a", "b"):
        write(life, f"{name}.py")
        life.cold("python", f"{name}.py")
        life.cold("python", f"{name}.py", env={"OMP_NUM_THREADS": "3"})
    assert command("clean", life.directory / "a.py").count("removed ") == 3  # with the link
    assert snapshots(life) == ["b"]
    variant = f"{snapshot_of(life, 'b')}.v1"
    assert "would remove " in command("clean", "-n", variant) and os.path.exists(variant)
    assert command("clean", variant).splitlines()[-1].startswith("2 snapshots, ")
    assert snapshots(life) == []


def test_clean_of_what_has_no_snapshot_says_so(life, magicheap):
    done = subprocess.run(
        [*COMMAND, "clean", "nothing.py"], capture_output=True, text=True, cwd=life.directory, env=life.env
    )
    assert done.returncode == 1 and done.stderr == "magicheap: there is no snapshot of nothing.py\n"


def test_clean_all_leaves_nothing(life, command):
    for n in range(4):
        life.write(PROGRAM.format(n_bytes=n + 1), "a.py")
        life.run("python", "a.py")
    assert list(life.cache.glob("*.seen"))
    life.cold("python", write(life, "b.py"), env={"LANG": "C"})
    command("clean", "--all")
    assert not life.cache.exists()


def test_info_names_everything_that_a_snapshot_depends_on(life, command):
    path = write(life, "a.py")
    life.cold("python", "a.py", env={"OMP_NUM_THREADS": "3"})
    rows = [line.split("\t") for line in command("info", snapshot_of(life, "a")).splitlines()]
    assert ["file", str(path)] in rows and ["environment", "OMP_NUM_THREADS"] in rows
    assert any(kind == "library" and "libc.so.6" in name for kind, name in rows)
    assert ["key: program", f"{path}, run as a script"] in rows
    report = json.loads(command("info", snapshot_of(life, "a"), "--json"))
    assert report["key"]["program"] == [str(path), "run as a script"]
    assert report["key"]["interpreter"][0].endswith("/bin")
