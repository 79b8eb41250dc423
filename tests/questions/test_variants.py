"""Several snapshots of one path: runs that differ in an answer each keep their own, and each finds it."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from process_fixtures import LAUNCHER, PYTHON

import magicheap as installed

PROGRAM = """\
import sys
from magicheap import magic_transaction
with magic_transaction() as magic:
    print("body")
    loaded = list(range(1000))
print(sum(loaded), *sys.argv[1:])
"""
PLACES = ["", *(f".v{i}" for i in range(1, 8))]  # of native/snapshot/variants.h


@pytest.fixture
def bare(life):
    """A life without locale, as cron has it, and a program."""
    life.env = {name: value for name, value in life.env.items() if not name.startswith(("LC_", "LANG"))}
    life.write(PROGRAM)
    return life


def variants(life):
    """The suffixes of what there is."""
    (first,) = {path.name.partition(".magic")[0] for path in life.cache.glob("*.magic*")}
    return [path.name.removeprefix(f"{first}.magic") for path in sorted(life.cache.glob("*.magic*"))]


WAYS = {
    "locale": [{}, {"LANG": "C"}, {"LANG": "C.UTF-8"}, {"LC_ALL": "C.UTF-8"}],
    "buffering": [{}, {"PYTHONUNBUFFERED": "1"}],
    "threads": [{"OMP_NUM_THREADS": str(n)} for n in range(8)],
}


@pytest.mark.parametrize("way", WAYS)
def test_runs_that_take_turns_in_different_environments_all_stay_warm(bare, way):
    for env in WAYS[way]:
        bare.cold("python", "program.py", env=env)
    for env in [*WAYS[way], *reversed(WAYS[way])]:
        for how in ("magic", "python"):
            assert bare.warm(how, "program.py", how, env=env) == f"499500 {how}\n"
    assert variants(bare) == PLACES[: len(WAYS[way])]


def test_options_of_the_interpreter_take_turns(bare):
    ways = [[], ["-O"], ["-OO"], ["-W", "error"], ["-X", "utf8"], ["-u"], ["-Eu"]]
    for options in ways:
        bare.cold("python", *options, "program.py")
    for options in ways * 2:
        bare.warm("python", *options, "program.py")
    assert bare.warm("magic", "program.py", "x") == "499500 x\n"


def test_two_environments_of_one_script_each_keep_their_own(bare):
    environment = bare.directory / "environment"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", environment], check=True)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    where = {sysconfig.get_path("platlib"), str(Path(installed.__file__).parent.parent)}
    (site_packages / "same.pth").write_text("\n".join(f"import site; site.addsitedir({path!r})" for path in where))
    shutil.copy(LAUNCHER, environment / "bin/magic")
    other = environment / "bin/python"
    bare.cold("python", "program.py")
    bare.cold(other, "program.py", why=f"run by {environment}/bin, the snapshot was made by {PYTHON.parent}")
    for _ in range(2):
        for how in ("python", other, "magic", environment / "bin/magic"):
            bare.warm(how, "program.py")


def test_a_module_run_from_several_directories_takes_turns(bare):
    places = [bare.directory / name for name in "abc"]
    for place in places:
        place.mkdir()
    there = {"PYTHONPATH": str(bare.directory)}
    for place in places:
        bare.cold(
            "python",
            "-m",
            "program",
            cwd=place,
            env=there,
            why=f"run from {place}, the snapshot was made in " if place.name > "a" else "no snapshot",
        )
    for place in places * 2:
        for how in ("python", "magic"):
            bare.warm(how, "-m", "program", cwd=place, env=there)


def test_a_script_that_is_run_as_a_module_too_says_so(bare):
    bare.cold("python", "program.py")
    why = "the program is run by -m, that of the snapshot is run as a script"
    bare.cold("python", "-m", "program", why=why)
    for words in ["program.py"], ["-m", "program"]:
        bare.warm("python", *words)


def test_the_log_names_the_variant_that_was_resumed(bare):
    bare.cold("python", "program.py")
    bare.cold("python", "-O", "program.py")
    for way in "python", "magic":
        assert bare.run(way, "program.py").log == [f"warm: {bare.snapshot()}"]
    assert bare.run("python", "-O", "program.py").log == [f"warm: {bare.snapshot()}.v1"]


def test_a_heap_has_variants_too(program):
    run = program("""
        import sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False, key=sys.argv[1]) as magic:
            if not magic.was_committed:
                magic.root = sys.argv[1] * 3
        print(magic.was_committed, magic.root)
    """)
    assert [run(key) for key in "abcabc"] == [[str(i > 2), key * 3] for i, key in enumerate("abcabc")]
    _, logged = run.run("b", env={"MAGICHEAP_LOG": "info"})
    assert logged == f"magicheap: warm: {run.path.parent}/x.magic.v1\n"


def test_two_variants_of_a_heap_are_attached_in_one_process(program):
    run = program("""
        from magicheap import magic_transaction
        def load(key):
            with magic_transaction("x.magic", process=False, key=key) as magic:
                if not magic.was_committed:
                    magic.root = key * 3
            return magic
        both = load("a"), load("b")
        print(*(each.was_committed for each in both), *(each.root for each in both))
    """)
    assert run() == ["False", "False", "aaa", "bbb"]
    assert run() == ["True", "True", "aaa", "bbb"]


# ---- which is replaced ----


def test_an_edited_source_is_committed_in_the_place_of_its_old_snapshot(bare):
    for i in range(3):
        bare.write(PROGRAM + f"# {'x' * i}\n" if i else PROGRAM)
        bare.cold("python", "program.py", why="program.py has changed" if i else "no snapshot")
        bare.warm("python", "program.py")
    bare.write("pass\n" + PROGRAM)  # the transaction moves
    bare.cold("python", "program.py", why="program.py has changed")
    bare.warm("magic", "program.py")
    assert variants(bare) == [""]


def test_what_no_run_will_take_any_more_is_replaced_before_a_name_is_added(bare):
    envs = [{"OMP_NUM_THREADS": str(n)} for n in range(4)]
    for env in envs[:3]:
        bare.cold("python", "program.py", env=env)
        bare.warm("python", "program.py", env=env)
    bare.write(PROGRAM + "# edited\n")
    for env in reversed(envs):
        bare.cold("python", "program.py", env=env)
    assert variants(bare) == PLACES[:4]
    for env in envs:
        bare.warm("magic", "program.py", env=env)


def age(path, days):
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns - days * 86_400 * 10**9, found.st_mtime_ns - days * 86_400 * 10**9))


def test_the_least_recently_used_variant_makes_room(bare):
    envs = [{"OMP_NUM_THREADS": str(n)} for n in range(9)]
    for env in envs[:8]:
        bare.cold("python", "program.py", env=env)
        bare.warm("python", "program.py", env=env)
    (first,) = bare.cache.glob("*.magic")
    age(first.with_name(first.name + ".v5"), days=1)
    ran = bare.run("python", "program.py", env=envs[8])
    assert not ran.has_committed and "every run is another variant" in ran.log[-1]  # until it comes again
    bare.cold("python", "program.py", env=envs[8])
    for env in envs[:5] + envs[6:]:
        bare.warm("magic", "program.py", env=env)
    assert not bare.run("python", "program.py", env=envs[5]).is_warm


def test_a_file_that_only_has_the_name_of_a_variant_is_left_alone(bare):
    bare.cold("python", "program.py")
    foreign = bare.snapshot().with_name(bare.snapshot().name + ".v1")
    foreign.write_text("notes")
    bare.cold("python", "program.py", env={"LANG": "C"}, why="LANG has changed")
    bare.warm("magic", "program.py", env={"LANG": "C"})
    assert foreign.read_text() == "notes" and variants(bare) == ["", ".v1", ".v2"]


def test_first_runs_at_once_commit_once_and_take_no_second_place(bare):
    running = [bare.start("python", "program.py", i) for i in range(8)]
    done = [process.communicate(timeout=60) for process in running]
    assert all(out.endswith(f"499500 {i}\n") for i, (out, _) in enumerate(done))
    assert variants(bare) == [""]


# ---- use ----


def test_a_snapshot_tells_when_a_run_has_taken_it(bare):
    bare.cold("python", "program.py")
    path = bare.snapshot()
    made = path.stat()
    assert made.st_atime_ns == 0, "no run has taken it"
    path.read_bytes()
    os.utime(path, ns=(0, made.st_mtime_ns))  # which counted as a use
    for how in ("magic", "python"):
        os.utime(path, ns=(0, made.st_mtime_ns))
        bare.warm(how, "program.py")
        assert path.stat().st_atime_ns > made.st_mtime_ns and path.stat().st_mtime_ns == made.st_mtime_ns


def test_looking_at_a_snapshot_is_no_use(bare, magicheap):
    bare.cold("python", "program.py")
    magicheap("info", bare.snapshot())
    magicheap("verify", bare.snapshot())
    assert bare.snapshot().stat().st_atime_ns == 0


# ---- sources that are edited again and again ----


def edit(life, n):
    life.write(PROGRAM + f"# {n:06}\n")


def test_a_source_that_is_edited_before_every_run_is_not_committed_every_time(bare):
    outcomes = []
    for n in range(6):
        edit(bare, n)
        outcomes.append(bare.run("python", "program.py").has_committed)
    assert outcomes == [True, True, False, False, False, False]
    said = bare.run("python", "program.py")
    assert said.has_committed, "it has not been edited since the last run"
    bare.warm("magic", "program.py")
    edit(bare, 7)
    bare.cold("python", "program.py")  # what was replaced had been used
    bare.warm("magic", "program.py")


def test_a_commit_that_is_not_made_is_told_with_its_reason(bare):
    for n in range(3):
        edit(bare, n)
        ran = bare.run("python", "program.py")
    assert ran.log[-1].startswith("not committed: ") and "program.py has changed" in ran.log[-1]
    assert "the next run that finds the same commits" in ran.log[-1] and ran.err == ""


def test_a_refresh_commits_whatever_was_wasted_before(bare):
    bare.write(PROGRAM.replace("magic_transaction()", "magic_transaction(refresh='again' in sys.argv)"))
    for _ in range(4):
        bare.cold("python", "program.py", "again")
