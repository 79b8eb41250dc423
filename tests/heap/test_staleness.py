"""Each thing that a load depends on: change it, and the next run is cold and says so. Nothing else does that."""

import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import pytest

import magicheap

PROGRAM = """
    import os, sys
    sys.path.insert(0, ".")
    from magicheap import magic_transaction
    import helper
    with magic_transaction("x.magic", process=False, env=["MY_SETTING"], inputs=["named.txt"],
        key=sys.argv[1]) as magic:
        if not magic.was_committed:
            import package.part
            os.makedirs("out", exist_ok=True)
            open("out/written.txt", "w").write("first written")
            open("out/temporary.txt", "w").close()
            magic.root = [open("data.txt").read(), open("out/written.txt").read(), open("out/temporary.txt").read(),
                          len(open("/proc/self/maps").read()), open("/dev/null").read(), helper.VALUE,
                          package.part.VALUE]
            os.unlink("out/temporary.txt")
            if os.path.exists("consumed.txt"):
                magic.root.append(open("consumed.txt").read())
                os.unlink("consumed.txt")
            open("never-there.txt").close() if os.path.exists("never-there.txt") else None
    print(magic.was_committed, magic.reason)
"""
UNSET = (
    "LC_ALL",
    "LC_NUMERIC",
    "LANG",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_DYNAMIC",
    "PYTHONOPTIMIZE",
    "PYTHONDONTWRITEBYTECODE",
)
# Python sets LC_CTYPE by itself otherwise
VARIABLES = {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "1", **dict.fromkeys(UNSET)}


@pytest.fixture
def load(program, tmp_path):
    """A program with every kind of input; it has run twice, cold and warm."""
    (tmp_path / "data.txt").write_text("data")
    (tmp_path / "named.txt").write_text("named")
    (tmp_path / "consumed.txt").write_text("read and removed")
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    (tmp_path / "package/part.py").write_text("VALUE = 2\n")
    written = program(PROGRAM)

    def run(key="key", env=(), **options):
        was_committed, *reason = written(key, env={**VARIABLES, **dict(env)}, **options)
        return was_committed == "True", " ".join(reason)

    assert run()[0] is False
    assert run() == (True, "")
    return run


def expect_cold_once(load, what, **settings):
    """The next run is cold because of `what`, and the one after it warm again."""
    was_committed, reason = load(**settings)
    assert not was_committed and what in reason, reason
    assert load(**settings) == (True, "")


@pytest.mark.parametrize(
    "name", ["data.txt", "named.txt", "helper.py", "package/__init__.py", "package/part.py", "program.py"]
)
def test_an_edited_file_makes_the_heap_stale(load, tmp_path, name):
    with open(tmp_path / name, "a") as file:
        file.write("# more\n" if name.endswith(".py") else "more")
    expect_cold_once(load, str(tmp_path / name))


def test_a_file_of_the_same_size_and_time_in_its_place_makes_the_heap_stale(load, tmp_path):
    old = os.stat(tmp_path / "data.txt")
    (tmp_path / "new.txt").write_text("DATA")
    os.utime(tmp_path / "new.txt", ns=(old.st_atime_ns, old.st_mtime_ns))
    os.replace(tmp_path / "new.txt", tmp_path / "data.txt")
    expect_cold_once(load, str(tmp_path / "data.txt"))


def test_a_named_input_that_is_gone_is_an_error(load, program, tmp_path):
    (tmp_path / "named.txt").unlink()
    err = program(PROGRAM).run("key", status=1)[1]
    assert "FileNotFoundError" in err and "named.txt" in err


def test_a_file_that_was_opened_and_is_gone_makes_the_heap_stale(load, tmp_path):
    (tmp_path / "package/__init__.py").unlink()  # what remains is a namespace package
    expect_cold_once(load, str(tmp_path / "package/__init__.py"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LC_ALL", "C"),
        ("LANG", "C.UTF-8"),
        ("OMP_NUM_THREADS", "1"),
        ("MKL_DYNAMIC", "FALSE"),
        ("OPENBLAS_NUM_THREADS", "1"),
        ("PYTHONNODEBUGRANGES", "1"),
        ("MY_SETTING", "on"),
    ],
)
def test_a_variable_that_was_set_makes_the_heap_stale(load, name, value):
    expect_cold_once(load, name, env={name: value})
    expect_cold_once(load, name, env={name: value + " "})
    assert load() == load(env={name: value}) == (True, "")  # each has its own


def test_a_variable_that_means_nothing_leaves_the_heap_fresh(load):
    assert load(env={"UNRELATED": "1"}) == (True, "")


def test_another_key_makes_the_heap_stale(load):
    expect_cold_once(load, "key", key="another")


def test_another_option_of_the_interpreter_makes_the_heap_stale(load):
    expect_cold_once(
        load, "run with the interpreter's option optimize=1, the snapshot was made with optimize=0", flags=["-O"]
    )
    assert load() == load(flags=["-O"]) == (True, "")


def test_another_interpreter_makes_the_heap_stale(load, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (site_packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    where = {sysconfig.get_path("platlib"), str(Path(magicheap.__file__).parent.parent)}
    (site_packages / "same.pth").write_text("\n".join(where))  # another interpreter that finds the same packages
    expect_cold_once(load, "env/bin", python=tmp_path / "env/bin/python")


def test_bytecode_is_no_input(load, tmp_path):
    (tmp_path / "data.txt").write_text("more data")
    expect_cold_once(load, "data.txt")  # this one imports from the bytecode that the first one wrote
    cached = list(tmp_path.rglob("*.pyc"))
    assert {path.name.split(".")[0] for path in cached} >= {"helper", "part"}
    for path in cached:
        path.unlink()
    assert load() == (True, "")


def test_what_the_body_wrote_is_no_input(load, tmp_path):
    (tmp_path / "out/written.txt").write_text("something else")
    (tmp_path / "out/temporary.txt").write_text("there again")
    assert load() == (True, "")


def test_a_touched_file_is_the_same_as_long_as_its_content_is(load, tmp_path):
    os.utime(tmp_path / "helper.py", (1, 1))
    (tmp_path / "data.txt").replace(tmp_path / "moved.txt")
    (tmp_path / "data.txt").write_bytes((tmp_path / "moved.txt").read_bytes())
    assert load() == (True, "")


def test_an_input_that_changes_while_it_is_loaded_prevents_the_commit(program, tmp_path):
    (tmp_path / "data.txt").write_text("one")
    races = program("""
        import subprocess, sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            magic.root = open("data.txt").read()
            subprocess.run(["/bin/sh", "-c", "echo two > data.txt"], check=True)  # somebody else's edit
        print(magic.committed, magic.root)
    """)
    out, err = races.run()
    assert out.split() == ["False", "one"]
    assert err.count("MagicHeapWarning") == 1 and f"{tmp_path}/data.txt changed while it was being loaded" in err
    assert not list(tmp_path.glob("x.magic*"))


def test_a_module_inside_an_archive_makes_the_archive_an_input(program, tmp_path):
    def pack(value):
        with zipfile.ZipFile(tmp_path / "modules.zip", "w") as archive:
            archive.writestr("zipped.py", f"VALUE = {value}\n")

    pack(1)
    zipped = program("""
        import sys
        sys.path.insert(0, "modules.zip")
        import zipped
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = zipped.VALUE
        print(magic.was_committed, magic.root)
    """)
    assert zipped() + zipped() == ["False", "1", "True", "1"]
    pack(22)
    assert zipped() + zipped() == ["False", "22", "True", "22"]


def test_a_file_in_shared_memory_is_an_input(program):
    with tempfile.NamedTemporaryFile("w", dir="/dev/shm") as shared:
        shared.write("one")
        shared.flush()
        reads = program("""
            import sys
            from magicheap import magic_transaction
            with magic_transaction("x.magic", process=False) as magic:
                if not magic.was_committed:
                    magic.root = open(sys.argv[1]).read()
            print(magic.was_committed, magic.root)
        """)
        assert reads(shared.name) + reads(shared.name) == ["False", "one", "True", "one"]
        shared.write(" more")
        shared.flush()
        assert reads(shared.name) == ["False", "one", "more"]


def test_files_that_threads_open_are_inputs(program, tmp_path):
    (tmp_path / "data.txt").write_text("one")
    threads = program("""
        import threading
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                read = []
                thread = threading.Thread(target=lambda: read.append(open("data.txt", "rb").read()))
                thread.start()
                thread.join()
                magic.root = read
        print(magic.was_committed, magic.root[0].decode())
    """)
    assert threads() + threads() == ["False", "one", "True", "one"]
    (tmp_path / "data.txt").write_text("three")
    assert threads() == ["False", "three"]


def test_the_hook_is_silent_after_the_transaction(program, tmp_path):
    (tmp_path / "data.txt").write_text("one")
    later = program("""
        from magicheap import _questions, magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = 1
                for odd in (b"never-there", "a\\0b", "x" * 5000, -1):
                    try:
                        open(odd).close()
                    except (OSError, ValueError):
                        pass
        open("data.txt").read()
        print(magic.was_committed, magic.committed, _questions._is_noting)
    """)
    assert later() == ["False", "True", "False"]
    (tmp_path / "data.txt").write_text("three")
    assert later() == ["True", "False", "False"]
