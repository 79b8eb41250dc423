"""Warnings are for the author of a program: told once, ended by nobody's filter, and not about what is nothing
wrong."""

import os
import time

import pytest

QUIET = {"MAGICHEAP_LOG": None}
PREVENTED = """
    import os, sys
    from magicheap import magic_transaction
    {before}
    with magic_transaction() as magic:
        print("body")
        kept = os.memfd_create(sys.argv[1] if len(sys.argv) > 1 else "one")
    print("went on", magic.committed)
"""


def write(life, before="pass"):
    return life.write(PREVENTED.format(before=before))


def test_a_cause_is_told_once_though_the_program_runs_often(life):
    write(life)
    errs = [life.run(how, "program.py", env=QUIET).err for how in ("python", "magic", "python")]
    assert [err.count("MagicHeapWarning") for err in errs] == [1, 0, 0]
    assert errs[0].count(str(life.cache)) == 1, "the path is told once, too"
    other = life.run("python", "program.py", "two", env=QUIET).err  # another cause
    assert other.count("MagicHeapWarning") == 1 and "two" in other
    life.write(PREVENTED.format(before="pass"), "other.py")
    assert life.run("python", "other.py", env=QUIET).err.count("MagicHeapWarning") == 1


def test_it_is_told_again_after_a_day_and_always_to_who_asks(life):
    write(life)
    life.run("python", "program.py", env=QUIET)
    assert "MagicHeapWarning" in life.run("python", "program.py", env={"MAGICHEAP_LOG": "info"}).err
    assert life.run("python", "program.py", env=QUIET).err == ""
    (mark,) = (life.cache / "warned").iterdir()
    yesterday = time.time() - 25 * 3600
    os.utime(mark, (yesterday, yesterday))
    assert "MagicHeapWarning" in life.run("python", "program.py", env=QUIET).err
    assert life.run("python", "program.py", env=QUIET).err == ""
    write(life, "import magicheap, warnings; warnings.simplefilter('always', magicheap.MagicHeapWarning)")
    assert [life.run("python", "program.py", env=QUIET).err.count("MagicHeapWarning") for _ in range(2)] == [1, 1]


def test_where_the_cache_takes_nothing_it_is_remembered_elsewhere(life, tmp_path):
    write(life)
    life.cache.parent.write_text("no directory")
    env = {**QUIET, "TMPDIR": str(tmp_path / "tmp"), "XDG_RUNTIME_DIR": None}
    (tmp_path / "tmp").mkdir()
    assert [life.run("python", "program.py", env=env).err.count("MagicHeapWarning") for _ in range(2)] == [1, 0]


def test_what_is_remembered_is_bounded(life):
    write(life)
    (life.cache / "warned").mkdir(parents=True, mode=0o700)
    for number in range(300):
        (life.cache / "warned" / f"old{number}").touch()
    life.run("python", "program.py", env=QUIET)
    assert len(os.listdir(life.cache / "warned")) <= 256
    assert life.run("python", "program.py", env=QUIET).err == ""


@pytest.mark.parametrize("how", ["environment", "option", "filter"])
def test_no_filter_makes_a_warning_of_ours_end_a_program(life, how):
    write(life, "import warnings; warnings.simplefilter('error')" if how == "filter" else "pass")
    env = {**QUIET, **({"PYTHONWARNINGS": "error"} if how == "environment" else {})}
    ran = life.run("python", *(["-W", "error"] if how == "option" else []), "program.py", env=env)
    assert ran.out == "body\nwent on False\n"
    assert ran.err.count("MagicHeapWarning") == 1 and "Traceback" not in ran.err and "program.py:5" in ran.err


def test_a_filter_that_ignores_them_is_obeyed(life):
    write(life, "import warnings; warnings.simplefilter('ignore')")
    assert life.run("python", "program.py", env=QUIET).err == ""


def test_of_many_first_runs_at_once_one_commits_and_nobody_is_warned(life):
    life.write("""
        import sys
        from magicheap import magic_transaction
        with magic_transaction() as magic:
            print("body", flush=True)
            with __import__("magicheap")._questions.pause(): sys.stdin.readline()
        print(magic.committed)
    """)
    running = [life.start(("python", "magic")[number % 2], "program.py", stdin=-1, env=QUIET) for number in range(8)]
    assert [process.stdout.readline() for process in running] == ["body\n"] * 8
    ends = [process.communicate("\n", timeout=60) for process in running]
    assert sorted(ends) == [("False\n", "")] * 7 + [("True\n", "")]
    assert [path.name for path in life.cache.glob("*.magic*")] == [life.snapshot().name]
    assert life.run("magic", "program.py").is_warm
