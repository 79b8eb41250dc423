"""What decides where a snapshot goes, whether there is one, and what is said about it."""

import os
import stat
import subprocess
import sys

import pytest

from magicheap import magic_transaction

BY_DEFAULT = """
    import sys
    from magicheap import magic_transaction
    with magic_transaction(process=False) as magic:
        if not magic.was_committed:
            magic.root = "{0}"
    print(magic.path, magic.was_committed, magic.root)
"""


def test_each_script_has_a_snapshot_in_the_users_cache(program, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    one, two = program(BY_DEFAULT.format("one"), "one.py"), program(BY_DEFAULT.format("two"), "two.py")
    path, was_committed, root = one(env=cache)
    assert (was_committed, root) == ("False", "one")
    assert os.path.dirname(path) == str(tmp_path / "cache/magicheap") and os.path.basename(path).startswith("one-")
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert one(env=cache) == [path, "True", "one"]
    assert two(env=cache)[1:] == ["False", "two"]


def test_the_default_path_serves_one_transaction(program, tmp_path):
    two = program("""
        from magicheap import magic_transaction
        with magic_transaction(process=False) as magic:
            magic.root = 1
        try:
            magic_transaction(process=False)
        except ValueError as error:
            print(error)
    """)
    assert "pass each further transaction a path" in " ".join(two(env={"XDG_CACHE_HOME": str(tmp_path)}))


@pytest.mark.parametrize("disabled", ["", "1"])
@pytest.mark.parametrize("process", [False, True])
def test_where_no_script_is_that_could_name_the_snapshot_the_run_is_cold_and_says_so(disabled, process, tmp_path):
    lines = f"""
from magicheap import magic_transaction
with magic_transaction(process={process}) as magic:
    magic.root = 1
print(repr(magic.path), magic.reason)
"""
    done = subprocess.run(
        [sys.executable, "-c", lines],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MAGICHEAP_DISABLE": disabled},
    )
    reason = (
        "MAGICHEAP_DISABLE is set"
        if disabled
        else "there is no script to name the snapshot after: pass magic_transaction a path"
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"'' {reason}\n", "", 0)


def test_a_path_that_is_empty_is_refused():
    with pytest.raises(ValueError, match="path is empty"):
        magic_transaction("")


def test_a_function_that_loads_from_the_default_path_may_be_called_again(program, tmp_path):
    calls = program("""
        from magicheap import magic_transaction
        def load():
            with magic_transaction(process=False) as magic:
                if not magic.was_committed:
                    magic.root = [1]
            return magic.was_committed
        print(load(), load())
    """)
    assert calls(env={"XDG_CACHE_HOME": str(tmp_path)}) == ["False", "True"]


def test_another_line_does_not_get_the_default_snapshot_of_this_one(program, tmp_path):
    either = program("""
        import sys
        from magicheap import magic_transaction
        if sys.argv[1] == "a":
            magic = magic_transaction(process=False)
        else:
            magic = magic_transaction(process=False)
        with magic:
            if not magic.was_committed:
                magic.root = sys.argv[1]
        print(magic.was_committed, magic.root)
    """)
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    assert either("a", env=cache) == ["False", "a"]
    assert either("b", env=cache) == ["False", "b"]
    assert either("b", env=cache) == ["True", "b"]


NUMBERS = """
    import numpy
    from magicheap import magic_transaction
    with magic_transaction("x.magic", process=False) as magic:
        if not magic.was_committed:
            magic.root = numpy.arange(10)
            import json
            json.loads(open("/proc/self/stat").read().split()[0])
    print(magic.was_committed, magic.committed)
"""


def test_disabled_runs_are_cold_and_commit_nothing(program, tmp_path):
    numbers = program(NUMBERS)
    assert numbers(env={"MAGICHEAP_DISABLE": "1"}) == ["False", "False"]
    assert not (tmp_path / "x.magic").exists()
    numbers()
    assert numbers(env={"MAGICHEAP_DISABLE": "1"}) == ["False", "False"]
    assert numbers() == ["True", "False"]


def test_the_log_says_why_a_run_is_cold_and_otherwise_nothing(program, tmp_path):
    numbers = program(NUMBERS)
    lines = numbers.run(env={"MAGICHEAP_LOG": "info"})[1].splitlines()
    assert lines[0].startswith("magicheap: cold: ") and lines[1] == f"magicheap: committed {tmp_path}/x.magic"
    assert len(lines) == 2
    assert numbers.run(env={"MAGICHEAP_LOG": "info"})[1] == f"magicheap: warm: {tmp_path}/x.magic\n"
    numbers.path.write_text(numbers.path.read_text() + "# edited\n")
    _out, err = numbers.run(env={"MAGICHEAP_LOG": "info"})
    assert err.startswith("magicheap: cold: ") and str(numbers.path) in err.splitlines()[0]


def test_debug_names_every_input(program):
    numbers = program(NUMBERS)
    inputs = [
        line
        for line in numbers.run(env={"MAGICHEAP_LOG": "debug"})[1].splitlines()
        if line.startswith("magicheap: input: ")
    ]
    assert f"magicheap: input: {numbers.path}" in inputs
    assert any("numpy" in line for line in inputs) and not any(
        "/json/" in line or ": /proc/" in line for line in inputs
    )


def test_the_programs_own_logging_receives_the_reason(program):
    logs = program("""
        import logging, sys
        from magicheap import magic_transaction
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(message)s")
        with magic_transaction("x.magic", process=False) as magic:
            magic.root = 1
    """)
    assert logs()[:2] == ["magicheap", "cold:"]
    out, err = logs.run(env={"MAGICHEAP_LOG": "info"})
    assert (out, err.count("warm:")) == ("", 1), "each line once"
