"""A script that names the package is watched from its first instruction, also by `python`: what libraries asked before
its import of ours counts."""

import pytest

LIBRARY = """
    import os
    SETTING = open(os.path.join(os.path.dirname(__file__), "setting.txt")).read() if os.environ.get("USES") else ""
"""
PROGRAM = """
    import sys
    import library
    from magicheap import magic_transaction
    if len(sys.argv) > 9:
        sys.exit()
    with magic_transaction("x.magic", compare={compare}):
        print("body")
        loaded = library.SETTING
    print(loaded)
"""


@pytest.mark.parametrize("compare", [True, False])
def test_a_run_by_python_makes_a_snapshot_for_magic_whatever_was_imported_first(life, compare):
    life.write(LIBRARY, "library.py")
    life.write(PROGRAM.format(compare=compare))
    (life.directory / "setting.txt").write_text("one")
    env = {"USES": "1"}
    assert life.cold("python", "program.py", env=env) == "one\n"
    assert life.warm("magic", "program.py", env=env) == "one\n"
    (life.directory / "setting.txt").write_text("three")
    assert life.cold("python", "program.py", env=env, why="setting.txt has changed") == "three\n"
    assert life.warm("magic", "program.py", env=env) == "three\n"
    assert life.cold("magic", "program.py", why="environment variable USES has changed") == "\n"


def test_arguments_that_were_looked_at_before_the_with_make_no_difference_where_nothing_is_compared(life):
    for name, compare in (("program.py", False), ("compares.py", True)):
        life.write(LIBRARY, "library.py")
        life.write(PROGRAM.format(compare=compare).replace("x.magic", name + ".magic"), name)
    life.cold("python", "program.py", "a")
    life.warm("python", "program.py", "b")
    life.cold("python", "compares.py", "a")
    life.cold("python", "compares.py", "b", why="run with other arguments")
    life.warm("magic", "compares.py", "a")


def test_other_programs_start_without_the_package(life):
    life.write(
        "import sys; print([name for name in sys.modules if name.startswith(('magic' + 'heap', 'cffi', '_cffi'))])",
        "other.py",
    )
    assert life.run("python", "other.py").out == "['magicheap_start']\n"
