"""A program whose beginning nobody watched makes no snapshot, but a mark by which its next run is watched."""

import os
import sys
import zipfile

import pytest

LIBRARY = """
    import json
    try:
        SETTING = json.load(open("setting.json"))
    except OSError:
        SETTING = None
"""
TOOL = """
    import library
    from magicheap import magic_transaction
    with magic_transaction("x.magic"):
        print("body")
    print(library.SETTING)
"""


def by_module(life):
    return ["python", "-m", "tool"]


def by_package(life):
    (life.directory / "package").mkdir()
    (life.directory / "package" / "__main__.py").write_text("import runpy; runpy.run_module('tool')")
    return ["python", "-m", "package"]


def by_command(life):
    life.write(f"#!{sys.executable}\nimport tool\n", "command").chmod(0o755)
    return ["./command"]


def by_zipapp(life):
    with zipfile.ZipFile(life.directory / "tool.pyz", "w") as file:
        file.writestr("__main__.py", "import tool")
    return ["python", "tool.pyz"]


def by_another_module(life):
    life.write("import tool", "main.py")
    return ["python", "main.py"]


def by_directory(life):
    life.write("import tool", "__main__.py")
    return ["python", "."]


@pytest.mark.parametrize("way", [by_module, by_package, by_command, by_zipapp, by_another_module, by_directory])
def test_what_a_library_was_told_before_anybody_watched_is_never_later_runs(life, way):
    life.write(LIBRARY, "library.py")
    life.write(TOOL, "tool.py")
    env = {"PYTHONPATH": str(life.directory)}
    command = way(life)
    for setting in ("1", "2", "3"):
        (life.directory / "setting.json").write_text(setting)
        for _ in range(3):
            ran = life.run(*command, env=env)
            assert ran.out.replace("body\n", "") == f"{setting}\n" and ran.err == "", ran
        assert ran.is_warm, ran


def test_a_run_that_makes_none_says_that_the_next_will(life):
    life.write(LIBRARY, "library.py")
    life.write(TOOL, "tool.py")
    life.write("import tool", "main.py")
    assert "the next run is watched from its first instruction" in life.run("python", "main.py").reason
    life.cold("python", "main.py")
    assert life.warm("magic", "main.py") == "None\n"


ALONE = """
import sys
assert type(sys.argv) is list and not any(name.startswith("magic" "heap.") for name in sys.modules)
print("ran")
"""


def test_a_script_that_only_has_the_word_is_left_alone(life):
    life.write("# about magicheap\n" + ALONE, "other.py")
    assert life.run("python", "other.py").out == "ran\n"
    assert life.run("python", "-c", ALONE).out == "ran\n"


def test_a_named_pipe_that_is_a_script_is_left_to_python(life):
    os.mkfifo(life.directory / "other.py")
    with life.start("python", "other.py") as process:
        (life.directory / "other.py").write_text(ALONE)
        assert process.communicate(timeout=60)[0] == "ran\n"
