"""Each thing that a process snapshot depends on: change it, and the next run is cold, says so, and commits anew."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from snapshot_bytes import Snapshot

import magicheap as installed

PROGRAM = """
    import sys
    sys.path.insert(0, ".")
    from magicheap import magic_transaction
    import helper
    with magic_transaction("x.magic", env=["MY_SETTING"], inputs=["named.txt"], key="a key"):
        print("body")
        import package.part
        data = open("data.txt").read()
    print(helper.VALUE, package.part.VALUE, data, sys.argv[1:])
"""


@pytest.fixture
def loaded(life):
    """A directory whose program has every kind of input, committed."""
    for name, text in {"data.txt": "data", "named.txt": "named", "helper.py": "VALUE = 1\n"}.items():
        (life.directory / name).write_text(text)
    (life.directory / "package").mkdir()
    (life.directory / "package/__init__.py").write_text("")
    (life.directory / "package/part.py").write_text("VALUE = 2\n")
    life.write(PROGRAM)
    life.env = {name: value for name, value in life.env.items() if not name.startswith(("LC_", "LANG", "OMP_", "MKL_"))}
    life.cold("python", "program.py")
    return life


def expect_cold_once(life, why, how="magic", **options):
    """The next run is cold because of `why`; those after it are warm, however they start."""
    out = life.cold(how, "program.py", why=why, **options)
    assert life.warm("magic", "program.py", **options) == life.warm("python", "program.py", **options) == out
    return out


@pytest.mark.parametrize("how", ["python", "magic"])
@pytest.mark.parametrize("name", ["data.txt", "named.txt", "helper.py", "package/part.py", "program.py"])
def test_an_edited_file_makes_the_run_cold_and_is_named(loaded, name, how):
    with open(loaded.directory / name, "a") as file:
        file.write("VALUE = 7\n" if name.endswith(".py") else "more")
    out = expect_cold_once(loaded, str(loaded.directory / name), how)
    assert out != "1 2 data []\n" or name in ("named.txt", "program.py")


def test_an_upgraded_package_makes_the_run_cold(loaded):
    shutil.rmtree(loaded.directory / "package")
    (loaded.directory / "package").mkdir()
    (loaded.directory / "package/__init__.py").write_text("VERSION = 2\n")
    (loaded.directory / "package/part.py").write_text("VALUE = 3\n")
    assert expect_cold_once(loaded, str(loaded.directory / "package")) == "1 3 data []\n"


def test_a_file_replaced_by_one_of_the_same_size_and_time_makes_the_run_cold(loaded):
    old = os.stat(loaded.directory / "data.txt")
    (loaded.directory / "new.txt").write_text("DATA")
    os.utime(loaded.directory / "new.txt", ns=(old.st_atime_ns, old.st_mtime_ns))
    os.replace(loaded.directory / "new.txt", loaded.directory / "data.txt")
    assert expect_cold_once(loaded, str(loaded.directory / "data.txt")) == "1 2 DATA []\n"


def test_a_file_that_is_gone_makes_the_run_cold(loaded):
    (loaded.directory / "package/__init__.py").unlink()  # what remains is a namespace package
    expect_cold_once(loaded, "__init__.py no longer exists")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LC_ALL", "C"),
        ("LANG", "C.UTF-8"),
        ("OMP_NUM_THREADS", "1"),
        ("MKL_DYNAMIC", "FALSE"),
        ("PYTHONNODEBUGRANGES", "1"),
        ("MY_SETTING", "on"),
    ],
)
def test_a_variable_that_was_set_makes_the_run_cold(loaded, name, value):
    out = expect_cold_once(loaded, name, env={name: value})
    # each has its own
    assert loaded.warm("magic", "program.py") == loaded.warm("magic", "program.py", env={name: value}) == out


def test_a_variable_that_means_nothing_leaves_the_run_warm(loaded):
    loaded.warm("magic", "program.py", env={"UNRELATED": "1"})


def test_another_key_makes_the_run_cold_and_is_named(loaded):
    text = (loaded.directory / "program.py").read_text()
    (loaded.directory / "program.py").write_text(text.replace('"a key"', '"b key"'))
    loaded.cold("python", "program.py", why="the key is 'b key', the snapshot's is 'a key'")


def test_another_interpreter_makes_the_run_cold(loaded):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", loaded.directory / "env"], check=True)
    (site_packages,) = (loaded.directory / "env").glob("lib/python*/site-packages")
    where = {sysconfig.get_path("platlib"), str(Path(installed.__file__).parent.parent)}
    (site_packages / "same.pth").write_text("\n".join(f"import site; site.addsitedir({path!r})" for path in where))
    loaded.cold(loaded.directory / "env/bin/python", "program.py", why="env/bin")


@pytest.mark.parametrize("how", ["python", "magic"])
def test_a_cpu_without_a_feature_makes_the_run_cold(loaded, how):
    Snapshot(loaded.directory / "x.magic").replace(b"sse4_2", b"ssz4_2")
    loaded.cold(how, "program.py", why="lacks ssz4_2")


def test_another_c_library_makes_the_run_cold(loaded):
    version = str(os.confstr("CS_GNU_LIBC_VERSION")).split()[1].encode()
    Snapshot(loaded.directory / "x.magic").replace(b"\0" + version + b"\0", b"\0" + b"9" * len(version) + b"\0")
    loaded.cold("python", "program.py", why="glibc")


@pytest.mark.parametrize("how", ["python", "magic"])
def test_a_replaced_library_makes_the_run_cold(loaded, how):
    Snapshot(loaded.directory / "x.magic").replace_library("/libc.so.6")
    loaded.cold(how, "program.py", why="libc.so.6 has changed")


def test_an_input_that_changes_while_it_is_loaded_prevents_the_commit(life):
    (life.directory / "data.txt").write_text("one")
    life.write("""
        import os
        from magicheap import magic_transaction
        with magic_transaction("x.magic") as magic:
            print("body")
            data = open("data.txt").read()
            os.system("echo two > data.txt")  # somebody else's edit
        print(data, magic.committed)
    """)
    ran = life.run("python", "program.py")
    assert (
        ran.out == "body\none False\n"
        and ran.err.count("MagicHeapWarning") == 1
        and "data.txt changed while" in ran.err
    )


# ---- layers ----

LAYERS = """
    import sys
    from magicheap import magic_transaction
    with magic_transaction("base.magic"):
        print("body")
        import decimal
        base = list(range(1_500_000))
    with magic_transaction("layer.magic") as magic:
        print("body of the layer")
        layer = open("data.txt").read()
    print(len(base), layer, magic.was_committed, sys.argv[1:])
"""


@pytest.fixture
def layers(life):
    """A directory with a base and a layer on it."""
    (life.directory / "data.txt").write_text("data")
    life.write(LAYERS)
    life.cold("python", "program.py")  # commits the base, and a first snapshot of the layer that holds everything
    (life.directory / "layer.magic").unlink()
    ran = life.run("python", "program.py")
    assert ran.out == "body of the layer\n1500000 data False []\n" and ran.has_committed and ran.err == ""
    return life


def test_a_layer_holds_only_what_was_written_on_top_of_its_parent(layers, magicheap):
    base, layer = (os.stat(layers.directory / name).st_blocks for name in ("base.magic", "layer.magic"))
    assert layer < base / 4, (base, layer)
    for how in ("python", "magic"):
        ran = layers.run(how, "program.py", "x")
        assert (ran.out, ran.err) == ("1500000 data True ['x']\n", "")
    report = json.loads(magicheap("info", layers.directory / "layer.magic", "--json"))
    assert report["parent"] == str(layers.directory / "base.magic")
    assert magicheap("verify", layers.directory / "base.magic", layers.directory / "layer.magic").count(": ok\n") == 2


def test_a_layer_is_stale_once_its_parent_was_replaced(layers):
    with open(layers.directory / "program.py", "a") as program:
        program.write("# edited\n")
    ran = layers.run("python", "program.py")
    assert ran.out.startswith("body\nbody of the layer\n") and "program.py" in ran.reason
    assert layers.run("magic", "program.py").out == "1500000 data True []\n"


def test_a_layer_whose_parent_is_gone_is_cold_without_an_error(layers):
    (layers.directory / "base.magic").unlink()
    ran = layers.run("python", "program.py")
    assert ran.out.startswith("body\nbody of the layer\n") and ran.err == ""


def test_what_only_the_layer_depends_on_leaves_the_parent_alone(layers):
    (layers.directory / "data.txt").write_text("other")
    ran = layers.run("magic", "program.py")
    assert ran.out == "body of the layer\n1500000 other False []\n" and ran.has_committed
    assert layers.run("magic", "program.py").out == "1500000 other True []\n"


def test_three_layers_lie_on_each_other(life, magicheap):
    life.write("""
        from magicheap import magic_transaction
        held = []
        while len(held) < 3:
            with magic_transaction(f"{len(held)}.magic", key=str(len(held))):
                print("body", len(held))
                held.append([0] * 1_000_000)  # which the layer above has no need to hold
        print([len(each) for each in held])
    """)
    for n in range(4):  # the first run commits them all, each as a whole
        for i in range(max(n, 1), 3):
            (life.directory / f"{i}.magic").unlink(missing_ok=True)
        assert (
            life.run("python", "program.py").out
            == "".join(f"body {i}\n" for i in range(n, 3)) + "[1000000, 1000000, 1000000]\n"
        )
    parents = [json.loads(magicheap("info", life.directory / f"{i}.magic", "--json"))["parent"] for i in range(3)]
    assert parents == ["", str(life.directory / "0.magic"), str(life.directory / "1.magic")]
