"""The launcher as a program: whatever is wrong with a snapshot, the command runs as if there were none."""

import os
import resource
import shutil
import signal
import subprocess
import tempfile

import pytest
from process_fixtures import LAUNCHER, PYTHON, life  # noqa: F401

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")

PROGRAM = """
    import sys
    from magicheap import magic_transaction
    with magic_transaction() as magic:
        print("body")
    print(magic.was_committed, *sys.argv[1:])
"""
PLAIN = "import os, sys\nprint([os.fsencode(word) for word in sys.argv], os.environ.get('MAGICHEAP_COLD'))\n"


@pytest.fixture
def committed(life):
    """A life with a snapshot that the launcher resumes."""
    life.write(PROGRAM)
    life.cold("python", "program.py")
    assert life.warm("magic", "program.py") == "True\n"
    return life


def link_of(life):
    (link,) = (life.cache / "commands").iterdir()
    return link


def goes_cold(life, why):
    assert life.cold("magic", "program.py", "a", why=why) == "False a\n"


# ---- cold ----


@pytest.mark.parametrize(
    "words", [[], ["a b", "", "-x", "--"], [b"\xff\xfe", "\n\\"], ["x" * 100_000]], ids=["none", "odd", "bytes", "long"]
)
def test_a_program_without_a_snapshot_gets_its_arguments(life, words):
    script = life.write(PLAIN, "plain.py")
    expected = [os.fsencode(word) for word in words]
    life.env["MAGICHEAP_COLD"] = "of the caller, whom it concerned"
    found = subprocess.run([LAUNCHER, script, *words], env=life.env, capture_output=True, text=True, check=True)
    assert found.stdout == f"{[os.fsencode(script), *expected]} None\n"
    found = subprocess.run(
        [LAUNCHER, "-m", "plain", *words], cwd=life.directory, env=life.env, capture_output=True, text=True, check=True
    )
    assert found.stdout == f"{[os.fsencode(script), *expected]} None\n"


def test_the_exit_status_is_the_programs(life):
    life.write("import sys; sys.exit(int(sys.argv[1]))", "ends.py")
    assert life.run("magic", "ends.py", 7, status=7).err == ""
    life.run("magic", "missing.py", status=2)


@pytest.mark.parametrize("words", [[], ["-m"], ["-x"], ["-"], ["--help", "x"]])
def test_a_wrong_command_line_is_told_how_it_should_be(life, words):
    ran = life.run("magic", *words, status=2)
    assert ran.out == "" and ran.err.startswith("usage: magic SCRIPT")


def test_help_and_version_are_answered(life):
    import magicheap

    assert life.run("magic", "--help").out.startswith("usage: magic SCRIPT")
    assert life.run("magic", "--version").out == f"magic {magicheap.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [[], ["/x"], ["/x", "0", "0"], ["/x", "g", "0", "p"], ["/x", "0", "2", "p"], ["/x", "0" * 17 + "1" * 17, "0", "p"]],
)
def test_the_librarys_own_name_is_not_for_users(words):
    found = subprocess.run(["magicheap-resume", *words], executable=LAUNCHER, capture_output=True, text=True)
    assert found.returncode == 2 and "the library calls this" in found.stderr


def test_python_is_found_in_path_when_there_is_none_beside_the_launcher(life, tmp_path):
    alone = tmp_path / "bin/magic"
    alone.parent.mkdir()
    shutil.copy(LAUNCHER, alone)
    life.write("import sys; print(sys.executable)", "who.py")
    assert (
        life.run(alone, "who.py", env={"PATH": f"/nowhere:{PYTHON.parent}"}).out == f"{PYTHON.with_name('python3')}\n"
    )
    ran = life.run(alone, "who.py", env={"PATH": "/nowhere"}, status=127)
    assert "cannot execute Python" in ran.err and ran.err.endswith("No such file or directory\n")
    alone.with_name("python3").write_text("no program")
    alone.with_name("python3").chmod(0o755)
    assert "Exec format error" in life.run(alone, "who.py", env={"PATH": ""}, status=127).err


# ---- snapshots that must not be taken ----


def damage(change):
    def apply(path):
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return apply


def flip(at):
    def change(content):
        content[at] ^= 1

    return damage(change)


def link_away(path):
    away = path.with_suffix(".away")
    path.rename(away)
    path.symlink_to(away)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda path: path.write_bytes(b""), "is not a snapshot"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), "is damaged"),
        (lambda path: os.truncate(path, 4096), "is damaged"),
        (flip(100), "the checksum of its header"),
        (flip(-1), "the checksum of a table"),
        (lambda path: path.chmod(0o620), "others can write it"),
        (lambda path: path.chmod(0o602), "others can write it"),
        (link_away, "symbolic link"),
    ],
    ids=["empty", "cut", "cut to its header", "header", "table", "group-writable", "world-writable", "link"],
)
def test_a_snapshot_that_is_not_sound_makes_the_run_cold(committed, harm, why):
    harm(committed.snapshot())
    goes_cold(committed, why)
    assert committed.warm("magic", "program.py") == "True\n"


def test_a_foreign_file_in_the_place_of_a_snapshot_is_left_alone(committed):
    path = committed.snapshot()
    path.write_bytes(b"#!/bin/sh\n")
    for how in ("magic", "python"):
        ran = committed.run(how, "program.py")
        assert "body\n" in ran.out and "is not a snapshot" in ran.reason and not ran.has_committed
        assert ran.err.count("MagicHeapWarning") == 1 and path.read_bytes() == b"#!/bin/sh\n"


@as_root
def test_a_snapshot_or_a_link_of_another_user_is_not_taken(committed):
    os.chown(committed.snapshot(), 65534, 65534)
    goes_cold(committed, "belongs to user 65534")
    committed.warm("magic", "program.py")
    os.lchown(link_of(committed), 65534, 65534)
    goes_cold(committed, "belongs to user 65534")


@pytest.mark.parametrize("which", [".", "commands"])
def test_a_directory_that_anybody_may_write_to_is_not_trusted(committed, which):
    directory = committed.cache / which
    directory.chmod(0o777)
    ran = committed.run("magic", "program.py")
    assert ran.out == "body\nFalse\n" and "so anybody could exchange what is in it" in ran.reason
    directory.chmod(0o700)
    committed.warm("magic", "program.py")


def test_a_link_that_leads_astray_makes_the_run_cold(committed):
    link = link_of(committed)
    other = committed.write(PROGRAM, "other.py")
    committed.cold("python", other)
    (others,) = set((committed.cache / "commands").iterdir()) - {link}
    link.unlink()
    link.symlink_to(os.readlink(others))  # the launcher does not take it, and leaves the rest to Python
    assert committed.warm("magic", "program.py") == committed.warm("magic", "program.py") == "True\n"
    for target, why in (("relative", "not absolute"), ("/dev/null", "not a regular file")):
        link.unlink()
        link.symlink_to(target)
        goes_cold(committed, why)
        assert committed.warm("magic", "program.py") == "True\n"


def test_a_snapshot_that_depends_on_its_arguments_serves_no_others(life):
    life.write(PROGRAM.replace("magic_transaction()", "magic_transaction(sys.argv[1])"))
    assert life.cold("magic", "program.py", "one") == "False one\n"
    assert life.warm("magic", "program.py", "one") == "True one\n"
    assert life.cold("magic", "program.py", "two", why="there is no snapshot") == "False two\n"
    for word in ("one", "two"):
        assert life.warm("magic", "program.py", word, cwd=life.directory) == f"True {word}\n"
    (life.directory / "below").mkdir()
    assert life.cold("magic", "../program.py", "one", cwd=life.directory / "below") == "False one\n"


@pytest.mark.parametrize(
    "path", ["", "'x.magic'", "sys.argv[1]"], ids=["general command", "command of one place", "exact command"]
)
def test_a_resume_starts_no_python(life, path):
    environment = life.directory / "environment"  # a virtual one, to be crippled
    (environment / "bin").mkdir(parents=True)
    shutil.copy(LAUNCHER, environment / "bin/magic")
    shutil.copy(PYTHON.parent.parent / "pyvenv.cfg", environment)
    (environment / "lib").symlink_to(PYTHON.parent.parent / "lib")
    (environment / "bin/python3").symlink_to(PYTHON.resolve())
    life.write(PROGRAM.replace("magic_transaction()", f"magic_transaction({path})"))
    life.cold(environment / "bin/magic", "program.py", "x")
    (environment / "bin/python3").unlink()
    assert life.warm(environment / "bin/magic", "program.py", "x", env={"PATH": ""}) == "True x\n"


@as_root
def test_a_launcher_with_privileges_of_its_own_takes_no_snapshot(committed):
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # where others may look
        os.chmod(directory, 0o755)
        own, python = os.path.join(directory, "magic"), os.path.join(directory, "python3")
        shutil.copy(LAUNCHER, own)
        os.chown(own, 65534, 65534)
        os.chmod(own, 0o4755)
        with open(python, "w") as file:
            file.write('#!/bin/sh\necho "$MAGICHEAP_COLD"\n')
        os.chmod(python, 0o755)
        assert "AT_SECURE" in committed.run(own, "program.py").out


# ---- what is handed on ----


def test_a_large_environment_is_handed_on(committed):
    large = {f"LARGE_{i}": "x" * 100_000 for i in range(15)}
    committed.write(
        PROGRAM.replace(
            "magic.was_committed", "magic.was_committed, sum(map(len, __import__('os').environ.values())) > 1_400_000"
        )
    )
    committed.cold("magic", "program.py", "a", env=large)
    assert committed.warm("magic", "program.py", "b", env=large) == "True True b\n"


def test_a_full_argument_area_costs_the_reason_and_then_the_run(life):
    life.write(PLAIN, "p.py")

    def limit():
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))  # a quarter of it is for arguments

    def start(first, n):
        words = ["magic", first, *["x"] * n]  # shorter than the interpreter's path
        env = {"MAGICHEAP_DISABLE": "1"}  # a reason to be passed on
        return subprocess.run(
            words, executable=LAUNCHER, cwd=life.directory, env=env, preexec_fn=limit, capture_output=True, text=True
        )

    low, high = 0, 40_000
    while high - low > 1:  # the largest number that the kernel takes
        n = (low + high) // 2
        try:
            assert start("-bad", n).returncode == 2
            low = n
        except OSError:
            high = n
    assert start("p.py", low - 1000).stdout.endswith("] MAGICHEAP_DISABLE is set\n")
    room = len(str(PYTHON.with_name("python3"))) - len("magic")
    assert start("p.py", low - room // (2 + 8) - 1).stdout.endswith("] None\n")  # a word takes 2 bytes and a pointer
    found = start("p.py", low)
    assert found.returncode == 127 and "Argument list too long" in found.stderr


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_closed_streams_stay_closed(life, closed):
    life.write("""
        import os, sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic") as magic:
            pass
        found = []
        for fd in range(6):
            try:
                os.fstat(fd)
                found.append(fd)
            except OSError:
                pass
        with open("found", "w") as file:
            print(magic.was_committed, found, file=file)
    """)
    life.env["MAGICHEAP_LOG"] = "warning"  # with nobody to tell it to

    def close():
        for fd in closed:
            os.close(fd)

    for is_warm in (False, True):
        found = subprocess.run(
            [LAUNCHER, "program.py"],
            cwd=life.directory,
            env=life.env,
            preexec_fn=close,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        assert found.returncode == 0
        assert (life.directory / "found").read_text() == f"{is_warm} {sorted({0, 1, 2} - set(closed))}\n"


OPEN_FILES = """
    import fcntl, os
    from magicheap import magic_transaction
    with open("input") as read, open("log", "a") as log:
        with magic_transaction("x.magic") as magic:
            print("body")
            first = read.readline()
            os.set_inheritable(log.fileno(), True)
        print(log.fileno(), os.get_inheritable(log.fileno()), os.get_inheritable(read.fileno()))
        print(first.strip(), read.readline().strip(), os.lseek(read.fileno(), 0, os.SEEK_CUR), flush=True)
        log.write("written\\n")
"""


@pytest.fixture
def with_files(life):
    """A program that has two files open at its commit."""
    (life.directory / "input").write_text("one\ntwo\nthree\n" + "x" * 100_000)
    life.write(OPEN_FILES)
    life.run("python", "program.py")
    return life


def test_open_files_are_opened_again_where_they_stood(with_files):
    ran = with_files.run("python", "program.py")
    number = ran.out.split()[0]
    assert ran.out == f"{number} True False\none two 8192\n" and ran.err == ""
    assert (with_files.directory / "log").read_text() == "written\nwritten\n"


def test_a_descriptor_that_the_caller_has_taken_makes_the_run_cold(with_files):
    number = int(with_files.run("python", "program.py").out.split()[0])
    ran = with_files.run(
        "python", "program.py", close_fds=False, preexec_fn=lambda: os.dup2(0, number, inheritable=True)
    )
    assert ran.out.startswith("body\n") and f"descriptor {number} is taken" in ran.reason and not ran.has_committed
    with_files.warm("python", "program.py")


def test_the_process_is_told_what_the_caller_ignores_and_when_it_began(life):
    life.write("""
        import time
        from magicheap import magic_transaction
        from magicheap._native import ffi, lib
        with magic_transaction():
            print("body")
            began = time.monotonic_ns()
        resumed = ffi.new("mh_resumed *")
        lib.mh_read_resumed(resumed)
        print([signal for signal in range(1, 32) if resumed.ignored_signals >> signal - 1 & 1],
            time.monotonic_ns() > resumed.began_ns > began)
    """)
    life.cold("python", "program.py")

    def ignore():
        for number in (signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)

    life.cold("magic", "program.py", preexec_fn=ignore)  # a variant of its own
    assert life.warm("magic", "program.py", preexec_fn=ignore) == f"{[int(signal.SIGHUP), int(signal.SIGUSR2)]} True\n"
    assert life.warm("magic", "program.py") == "[] True\n"
