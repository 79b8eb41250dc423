"""Files that are open as a process is committed: each later run leaves on the disk what a plain run would, which twins
(file_twins.py) show."""

import fcntl
import subprocess

import pytest
from file_twins import is_warm, twins  # noqa: F401

# Name: (body, tail).
WRITERS = {
    "w": ("out = open('out', 'w'); out.write('head\\n'); out.flush()", "out.write(word * 5)"),
    "w-buffered": ("out = open('out', 'w'); out.write('head\\n')", "out.write(word * 5)"),
    "w-over-old": ("out = open('old', 'w'); out.write('h')", "out.write(word)"),
    "w-binary-unbuffered": ("out = open('out', 'wb', 0); out.write(b'head')", "out.write(word.encode())"),
    "w+": ("out = open('old', 'w+'); out.write('head'); out.seek(1)", "print(out.read()); out.write(word)"),
    "w-twice": (
        "out = open('out', 'w'); out.write('one'); out.flush(); more = open('out', 'a')",
        "out.write(word); more.write(word + word)",
    ),
    "w-then-a": (
        "open('out', 'w').write('head\\n'); out = open('out', 'a'); out.write('body\\n'); out.flush()",
        "out.write(word)",
    ),
    "w-truncated-by-hand": (
        "out = open('out', 'w'); out.write('long head'); out.truncate(4); out.flush()",
        "out.write(word)",
    ),
    "a": ("out = open('old', 'a')", "out.write(word)"),
    "a-new": ("out = open('out', 'a')", "out.write(word)"),
    "a-with-body": ("out = open('old', 'a'); out.write('body\\n'); out.flush()", "out.write(word)"),
    "a-with-body-new": (
        "out = open('out', 'a'); out.write('body\\n'); out.flush()",
        "out.write(word); print(out.tell())",
    ),
    "a-twice": (
        "one = open('old', 'a'); one.write('1'); one.flush(); two = open('old', 'a'); two.write('2'); two.flush()",
        "one.write(word)",
    ),
    "os-open": (
        "out = os.open('out', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600); os.write(out, b'head')",
        "os.write(out, word.encode())",
    ),
    "csv": (
        "file = open('out', 'w', newline=''); out = csv.writer(file); out.writerow(['id'])",
        "out.writerows([[i] for i in range(len(word))])",
    ),
    "logging-w": (
        "logging.basicConfig(filename='out', filemode='w', format='%(message)s'); logging.warning('head')",
        "logging.warning(word)",
    ),
    "logging-a": ("logging.basicConfig(filename='out', format='%(message)s')", "logging.warning(word)"),
    "logging-a-with-body": (
        "logging.basicConfig(filename='out', format='%(message)s'); logging.warning('body')",
        "logging.warning(word)",
    ),
    "zip": (
        "out = zipfile.ZipFile('out', 'w'); out.writestr(zipfile.ZipInfo('a'), 'text')",
        "out.writestr(zipfile.ZipInfo(word), word); out.close()",
    ),
    "dup": (
        "out = os.open('out', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600); two = os.dup(out); os.write(two, b'head')",
        "os.write(out, word.encode()); os.write(two, b'end')",
    ),
}
UNCHANGED = ("r+", "out = open('old', 'r+'); out.seek(2)", "print(out.read())")


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_is_written_to_holds_what_a_plain_run_leaves(twins, name):
    both = twins(*WRITERS[name])
    ran = both.run("12345")
    assert ran.has_committed, ran
    for how, word in (("magic", "12"), ("python", "1"), ("magic", "123456789"), ("magic", "")):
        ran = both.run(word, how)
        assert is_warm(ran), ran
    for directory in both:  # somebody takes the results away
        for kept in ("out", "old"):
            (directory / kept).unlink(missing_ok=True)
    if "old" not in WRITERS[name][0]:
        assert is_warm(both.run("12"))
    else:
        both.run("12")


@pytest.mark.parametrize("name", WRITERS)
def test_so_it_does_where_somebody_has_put_another_file(twins, name):
    both = twins(*WRITERS[name])
    both.run("12345")
    for directory in both:
        for kept in ("out", "old"):
            (directory / "new").write_text("another file\n")
            (directory / "new").replace(directory / kept)
    for _ in range(2):
        both.run("12")


def test_a_log_that_is_rotated_begins_anew_and_runs_stay_warm(twins):
    both = twins(*WRITERS["logging-a-with-body"])
    assert both.run("first").has_committed
    for i in range(2):
        for directory in both:
            (directory / "out").rename(directory / f"out.{i}")
        assert is_warm(both.run("next")) and is_warm(both.run("again"))


def test_a_file_that_must_not_exist_is_made_or_the_run_fails_as_a_plain_one(twins):
    both = twins(
        "out = open('out', 'x'); out.write('head')", "out.write(word); out.close()\nif word != 'keep': os.unlink('out')"
    )
    assert both.run("1").has_committed
    assert is_warm(both.run("12"))
    assert is_warm(both.run("keep"))
    ran = both.run("1", status=1)
    assert "FileExistsError" in ran.err and not is_warm(ran)
    for directory in both:
        (directory / "out").unlink()
    assert is_warm(both.run("12"))


def test_a_file_that_was_made_by_itself_is_made_again_or_opened_by_the_body(twins):
    both = twins(
        "out = os.open('out', os.O_RDWR | os.O_CREAT); os.write(out, b'' if os.fstat(out).st_size else b'made')",
        "print(os.pread(out, 9, 0)); word == 'drop' and os.unlink('out')",
    )
    both.run("drop")
    assert is_warm(both.run("keep"))
    both.run("keep")
    for directory in both:
        (directory / "out").write_text("4567")
    both.run("keep")


def test_a_file_that_is_read_and_could_be_written_is_opened_if_it_is_the_same(twins):
    both = twins(*UNCHANGED[1:])
    assert both.run("1").has_committed
    assert is_warm(both.run("1"))
    for directory in both:
        (directory / "new").write_text("new content\n")
        (directory / "new").replace(directory / "old")
    assert not is_warm(both.run("1"))


REFUSED = {
    "r+": "out = open('old', 'r+'); out.write('X'); out.flush()",
    "by-c": (
        "libc = ctypes.CDLL(None); libc.fopen.restype = ctypes.c_void_p; out = "
        "ctypes.c_void_p(libc.fopen(b'out', b'w')); libc.fputs(b'x', out)"
    ),
    "renamed": "out = open('part', 'w'); out.write('x'); out.flush(); os.rename('part', 'out')",
    "too-large": "out = open('out', 'wb'); out.write(bytes(40 << 20)); out.flush()",
    "lock-for-writing": "import fcntl; out = open('old'); fcntl.flock(out, fcntl.LOCK_EX)",
    "large-temporary": "kept = tempfile.NamedTemporaryFile(); kept.write(bytes(40 << 20)); kept.flush()",
    "fifo-in-temporary": "kept = tempfile.TemporaryDirectory(); os.mkfifo(kept.name + '/fifo')",
    "mapped-temporary": (
        "kept = tempfile.NamedTemporaryFile(); kept.write(bytes(5000)); kept.flush(); "
        "m = mmap.mmap(kept.fileno(), 0, access=mmap.ACCESS_READ)"
    ),
}
NAMES = {
    "r+": "/old",
    "by-c": "/out",
    "renamed": "/out",
    "too-large": "/out",
    "lock-for-writing": "/old",
    "fifo-in-temporary": "/fifo",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_later_run_could_not_repeat_prevents_the_commit_by_name(twins, name):
    both = twins(REFUSED[name], "print(word)")
    for _ in range(2):
        ran = both.run("1")
        assert not ran.has_committed and not is_warm(ran)
        assert ran.err.count("MagicHeapWarning") == 1 and NAMES.get(name, "tmp") in ran.err, ran.err


def test_a_file_opened_before_the_with_is_known_from_the_import_on(twins):
    both = twins("pass", "out.write(word)", before="out = open('out', 'w'); out.write('head\\n'); out.flush()")
    assert both.run("12345").has_committed
    assert is_warm(both.run("1"))


def test_a_name_relative_to_another_directory_is_not_taken(twins, tmp_path):
    life = twins("out = open('out', 'w')", "out.write(word); print(os.getcwd())").magic
    life.write((life.directory / "program.py").read_text().replace('"x.magic"', f"{str(life.directory / 'x.magic')!r}"))
    life.run("magic", "program.py", "1")
    assert is_warm(life.run("magic", "program.py", "22"))
    other = tmp_path / "other"
    other.mkdir()
    ran = life.run("magic", life.directory / "program.py", "333", cwd=other)
    assert not is_warm(ran) and (other / "out").read_text() == "333" and (life.directory / "out").read_text() == "22"


# ---- locks ----


@pytest.mark.parametrize("kind", ["flock", "posix", "ofd"])
def test_a_lock_for_reading_is_taken_again_or_the_run_is_cold(life, kind):
    takes = {
        "flock": "fcntl.flock(file, fcntl.LOCK_SH)",
        "posix": "fcntl.lockf(file, fcntl.LOCK_SH)",
        "ofd": "fcntl.fcntl(file, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))",
    }
    life.write(f"""
        import fcntl, struct, subprocess, sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            file = open("data")
            {takes[kind]}
        other = "import fcntl; file = open('data', 'r+'); fcntl.{{}}(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"
        call = "flock" if {kind == "flock"} else "lockf"
        print(subprocess.run([sys.executable, "-c", other.format(call)], stderr=-3).returncode)
    """)
    (life.directory / "data").write_text("data")
    assert (
        life.cold("python", "program.py")
        == life.warm("magic", "program.py")
        == life.warm("python", "program.py")
        == "1\n"
    )
    with open(life.directory / "data", "r+") as file:
        (fcntl.flock if kind == "flock" else fcntl.lockf)(file, fcntl.LOCK_EX)
        if kind == "flock":
            with life.start("magic", "program.py") as process:  # which waits for the lock, as a plain run does
                with pytest.raises(subprocess.TimeoutExpired):
                    process.communicate(timeout=1)
                process.kill()


# ---- copies ----


def test_copies_share_their_offset_and_streams_are_copied_from_the_runs_own(life):
    life.write("""
        import mmap, os
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body", flush=True)
            file = open("data", "rb", 0)
            copy, mapped, saved = os.dup(file.fileno()), mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), os.dup(1)
            file.seek(2)
        print(os.read(copy, 2), file.read(2), mapped[:3], file.tell(), flush=True)
        os.write(saved, b"saved\\n")
    """)
    (life.directory / "data").write_text("abcdefgh")
    expected = "b'cd' b'ef' b'abc' 6\nsaved\n"
    assert (
        life.cold("python", "program.py")
        == life.warm("magic", "program.py")
        == life.warm("python", "program.py")
        == expected
    )


def test_what_was_added_before_the_with_is_added_once(twins):
    both = twins(
        "pass",
        "logging.warning(word)",
        before="logging.basicConfig(filename='old', format='%(message)s'); logging.warning('start')",
    )
    both.run("1")
    assert is_warm(both.run("2", "magic"))
    ran = both.run("3", "python")
    assert not ran.has_committed and "has appended to" in ran.reason and ran.err == ""
    assert is_warm(both.run("4", "magic"))


def test_a_layer_carries_what_the_snapshot_below_it_carries(life):
    life.write("""
        import os, sys, tempfile
        from magicheap import magic_transaction
        with magic_transaction("base.magic"):
            print("body", flush=True)
            out, kept = open("out", "w"), tempfile.TemporaryDirectory()
            out.write("base\\n"); out.flush()
        with magic_transaction("layer.magic"):
            print("layer", flush=True)
            out.write("layer\\n"); out.flush()
            open(kept.name + "/f", "w").write("layer")
        out.write(sys.argv[1])
        print(open(kept.name + "/f").read())
    """)

    def left(word):
        ran = life.run("python", "program.py", word)
        assert ran.err == "" and (life.directory / "out").read_text() == f"base\nlayer\n{word}"
        return ran.out

    assert left("first run") == "body\nlayer\nlayer\n"
    (life.directory / "layer.magic").unlink()
    assert left("a layer") == "layer\nlayer\n"
    assert left("warm") == "layer\n"
