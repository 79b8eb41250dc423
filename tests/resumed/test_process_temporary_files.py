"""Files and directories that are temporary as a process is committed: each later run has its own, made anew, and leaves
none."""

import os
import shutil

import pytest
from file_twins import FRAME, is_warm, twins  # noqa: F401

TEMPORARY = {
    "directory": (
        "kept = tempfile.TemporaryDirectory(); path = kept.name + '/file'; os.makedirs(kept.name + '/a/b'); "
        "open(path, 'w').write('built')"
    ),
    "mkdtemp": (
        "name = tempfile.mkdtemp(); path = name + '/file'; open(path, 'w').write('built'); import atexit; "
        "atexit.register(shutil.rmtree, name)"
    ),
    "named": "kept = tempfile.NamedTemporaryFile('w+'); kept.write('built'); kept.flush(); path = kept.name",
    "named-and-lost": (
        ""
        "path = (lambda kept: (kept.write('built'), kept.flush(), globals().update(also=kept), "
        "kept.name)[-1])(tempfile.NamedTemporaryFile('w+'))"
    ),
    "mkstemp": "fd, path = tempfile.mkstemp(); os.write(fd, b'built'); import atexit; atexit.register(os.unlink, path)",
    "open-inside": (
        "kept = tempfile.TemporaryDirectory(); path = kept.name + '/f'; out = open(path, 'w'); "
        "out.write('built'); out.flush(); "
        "back = open(path)"
    ),
    "multiprocessing": (
        "import multiprocessing.util as util; path = util.get_temp_dir() + '/file'; open(path, 'w').write('built')"
    ),
    "unpacked": (
        "kept = tempfile.TemporaryDirectory(); path = kept.name + '/old'; shutil.copy('old', path); open(path).read(); "
        "open(path, 'w').write('built')"
    ),
}


@pytest.mark.parametrize("name", TEMPORARY)
def test_what_is_temporary_is_there_in_every_run_and_gone_behind_it(life, tmp_path, name):
    tail = "print(open(path).read(), word); open(path, 'a').write('x')"
    life.write(FRAME.format(before="", body=f"print('body'); {TEMPORARY[name]}", tail=tail))
    (life.directory / "old").write_text("old")
    place = tmp_path / "tmp"
    place.mkdir()
    env = {"TMPDIR": str(place)}
    assert life.cold("python", "program.py", "0", env=env) == "built 0\n"
    for number, how in enumerate(("magic", "python", "magic")):
        assert life.warm(how, "program.py", number, env=env) == f"built {number}\n"
        assert os.listdir(place) == []


@pytest.mark.parametrize(
    "kind", ["tempfile.TemporaryFile('w+')", "tempfile.SpooledTemporaryFile(1, 'w+')", "unlinked()"]
)
def test_a_deleted_file_is_private_to_each_run(life, kind):
    helper = "def unlinked():\n    file = open('gone', 'w+')\n    os.unlink('gone')\n    return file"
    body = f"print('body'); out = {kind}; out.write('built'); out.flush(); out.seek(2)"
    life.write(
        FRAME.format(
            before=helper, body=body, tail="print(out.read()); out.write(word); out.seek(0); print(out.read())"
        )
    )
    for how, number in (("python", 0), ("magic", 1), ("python", 2)):
        run = life.cold if number == 0 else life.warm
        assert run(how, "program.py", number) == f"ilt\nbuilt{number}\n"


def test_two_runs_at_once_never_share_what_is_temporary(life):
    life.write(
        FRAME.format(
            before="",
            body=(
                "print('body', flush=True); kept = tempfile.TemporaryDirectory(); open(kept.name + '/n', "
                "'w').write('0')"
            ),
            tail=(
                "open(kept.name + '/n', 'a').write(word); print(kept.name, flush=True); sys.stdin.readline(); "
                "print(open(kept.name + '/n').read())"
            ),
        )
    )
    life.run("python", "program.py", "1")
    with life.start("magic", "program.py", "1", stdin=-1) as one:
        first = one.stdout.readline()
        ran = life.run("magic", "program.py", "2")
        assert (
            "in use by another run" in ran.reason
            and ran.out.endswith("\n02\n")
            and not ran.has_committed
            and ran.err == ""
        )
        out, _ = one.communicate("\n")
        assert out == "01\n" and first not in ran.out
    assert life.run("magic", "program.py", "3").is_warm


def test_what_nobody_removes_is_told_once_a_second_snapshot_did_not_help(life):
    life.write(
        FRAME.format(
            before="", body="print('body'); name = tempfile.mkdtemp()", tail="print(name); open(name + '/' + word, 'w')"
        )
    )
    ran = life.run("magic", "program.py", "1")
    assert ran.has_committed
    again = life.run("magic", "program.py", "2")
    assert again.has_committed and "left by an earlier run" in again.reason
    ran = life.run("magic", "program.py", "3")
    assert not ran.has_committed and ran.err.count("MagicHeapWarning") == 1 and "left by an earlier run" in ran.err
    names = {run.out.split()[-1] for run in (again, ran)}
    assert len(names) == 2 and all(len(os.listdir(name)) == 1 for name in names)
    for name in names:
        shutil.rmtree(name)


def test_after_a_run_that_was_killed_the_next_commits_anew(life):
    life.write(
        FRAME.format(
            before="",
            body="print('body', flush=True); kept = tempfile.TemporaryDirectory()",
            tail="print(kept.name, flush=True); sys.stdin.readline()",
        )
    )
    life.run("python", "program.py", "1")
    with life.start("magic", "program.py", "1", stdin=-1) as one:
        name = one.stdout.readline().strip()
        one.kill()
    assert os.path.isdir(name)
    ran = life.run("magic", "program.py", "2")
    assert ran.has_committed and "left by an earlier run" in ran.reason
    assert life.run("magic", "program.py", "2").is_warm
    os.rmdir(name)


@pytest.mark.parametrize("made", ["os.makedirs('work/in', exist_ok=True)", "open('made', 'w').write('x')"])
def test_what_the_body_made_and_somebody_removed_makes_the_run_cold(life, made):
    life.write(
        FRAME.format(
            before="", body=f"print('body'); {made}", tail="print(os.path.exists('work/in') or open('made').read())"
        )
    )
    (life.directory / "work").mkdir()
    life.cold("python", "program.py", "1")
    life.warm("magic", "program.py", "1")
    shutil.rmtree(life.directory / "work/in", ignore_errors=True)
    (life.directory / "made").unlink(missing_ok=True)
    life.cold("magic", "program.py", "1", why="which the body made, is gone")
    life.warm("magic", "program.py", "1")


def test_what_is_made_before_the_with_is_made_once_though_python_comes_there_itself(twins):
    both = twins(
        "pass",
        "out.write(word); out.close(); os.unlink('out')",
        before="out = open('out', 'x'); kept = tempfile.TemporaryDirectory()",
    )
    both.run("1")
    assert is_warm(both.run("1", "python")) and is_warm(both.run("1", "magic"))
