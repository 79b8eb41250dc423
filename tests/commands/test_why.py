"""`magicheap why`: it says what the next run does, and the next run does it."""

import subprocess

import pytest
from conftest import COMMAND
from process_fixtures import LAUNCHER, PYTHON

PROGRAM = """\
import sys
from magicheap import magic_transaction
with magic_transaction() as magic:
    print("body")
print(magic.was_committed)
"""


@pytest.fixture
def why(life, magicheap):
    """Ask about a command in the directory of a life; return the lines of the answer."""
    life.write(PROGRAM)

    def ask(*words, env=(), status=0):
        wanted = {**life.env, **dict(env)}
        found = subprocess.run(
            [*COMMAND, "why", *map(str, words)],
            cwd=life.directory, env={name: value for name, value in wanted.items() if value is not None},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert found.returncode == status, found
        return found.stdout.splitlines() if status == 0 else found.stderr

    return ask


COMMANDS = {
    "magic": ["magic", "program.py"],
    "its path": [LAUNCHER, "program.py"],
    "the script": ["program.py", "x", "-m"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_without_a_snapshot_runs_cold(why, words):
    assert why(*words) == ["runs cold: there is no snapshot that this command leads to"]


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_it_names_the_snapshot_that_would_be_resumed_and_runs_nothing(why, life, words):
    life.cold("python", "program.py")
    link, last = why(*words)
    assert link.startswith(f"{life.cache}/commands/") and link.endswith(f" leads to {life.snapshot()}")
    assert last == f"resumes {life.snapshot()}"
    assert life.snapshot().stat().st_atime_ns == 0


def test_of_each_variant_that_does_not_answer_it_names_the_first_difference(why, life):
    life.env.pop("LANG", None)
    life.cold("python", "program.py")
    life.cold("python", "program.py", env={"LANG": "C"})
    _, other, last = why("magic", "program.py", env={"LANG": "C"})
    assert (
        other
        == f"passes over {life.snapshot()}: another variant: environment variable LANG has changed: it was not set"
    )
    assert last == f"resumes {life.snapshot()}.v1"
    assert life.run("magic", "program.py", env={"LANG": "C"}).is_warm
    *_, last = why("magic", "program.py", env={"LANG": "C.UTF-8"})
    assert last.startswith("runs cold: no variant of ") and "LANG has changed" in last
    assert not life.run("magic", "program.py", env={"LANG": "C.UTF-8"}).is_warm


def test_it_names_the_file_that_has_changed(why, life):
    life.cold("python", "program.py")
    life.write(PROGRAM + "# edited\n")
    _, stale, last = why("magic", "program.py")
    assert stale.startswith(f"passes over {life.snapshot()}: stale: {life.directory}/program.py has changed")
    assert last.startswith(f"runs cold: {life.directory}/program.py has changed")


@pytest.mark.parametrize(
    "words",
    [["-m", "program"], ["magic", "-m", "program", "x"], [PYTHON, "-m", "program"]],
    ids=["-m", "magic -m", "python -m"],
)
def test_a_module_may_be_named_in_any_way(why, life, words):
    life.cold("magic", "-m", "program")
    assert why(*words)[-1] == f"resumes {life.snapshot()}"


def test_the_launcher_of_a_module_is_understood_as_the_module(why, life):
    named = life.directory / "magic-program"
    named.symlink_to(LAUNCHER)
    env = {"PYTHONPATH": "."}
    life.cold(named, env=env)
    assert (
        why(named, "x", env=env)[-1] == why(PYTHON, "-P", "-m", "program", env=env)[-1] == f"resumes {life.snapshot()}"
    )


def test_of_python_it_says_what_only_the_run_can_tell(why, life):
    life.cold("python", "program.py")
    answer = why(PYTHON, "program.py")
    assert "only the run can tell" in answer[0] and answer[-1] == f"resumes {life.snapshot()}"


@pytest.mark.parametrize(
    "words",
    [["nothing-like-that"], [PYTHON, "-O", "program.py"], [PYTHON, "-c", "pass"], ["/no/such/python", "x.py"]],
    ids=str,
)
def test_what_can_not_be_asked_is_said(why, words):
    assert why(*words, status=2).startswith("magicheap: ")


def test_where_no_interpreter_is_found_it_says_what_to_do(why, tmp_path):
    said = why("python", "program.py", env={"PATH": str(tmp_path)}, status=2)
    assert said == f"magicheap: there is no python on PATH: name an interpreter by its path, such as {PYTHON}\n"


def test_a_question_without_a_command_is_wrong(why):
    assert "usage: magicheap" in why(status=2)


def test_what_disables_snapshots_is_the_answer(why, life):
    life.cold("python", "program.py")
    assert why("magic", "program.py", env={"MAGICHEAP_DISABLE": "1"}) == ["runs cold: MAGICHEAP_DISABLE is set"]
