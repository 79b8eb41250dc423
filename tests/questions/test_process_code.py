"""Code that is no file of its own, or is not read as one: a snapshot resumes it only if it is what it was."""

import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from magicheap._code import code_digest

SOURCE = (
    'from magicheap import magic_transaction\nwith magic_transaction("x.magic"):\n    print("body")\nprint("{word}")\n'
)


def test_programs_on_standard_input_are_told_apart(life):
    def run(word):
        path = life.write(SOURCE.format(word=word), f"{word}.py")
        with path.open() as text:
            return life.run("python", "-", stdin=text)

    assert run("one").has_committed and run("one").is_warm
    other = run("two")
    assert other.out == "body\ntwo\n" and not other.is_warm


RUNNERS = {
    "exec": 'exec(compile(open("part.py").read(), "part.py", "exec"))',
    "exec of a text": 'exec(open("part.py").read())',
    "runpy": 'import runpy; runpy.run_path("part.py")',
    "a function made from text": (
        'names = {}; exec("def run(): exec(" + repr(open("part.py").read()) + ")", names); names["run"]()'
    ),
}


@pytest.mark.parametrize("how", RUNNERS)
@pytest.mark.parametrize("edit", ["text", "lines", "default"])
def test_code_that_was_edited_is_not_resumed_as_it_was(life, how, edit):
    source = SOURCE.format(word="one") + "def unused(argument=1): return lambda: (argument, 2)\n"
    edited = {
        "text": source.replace("one", "two"),
        "lines": source + "\n\nassert True\n",
        "default": source.replace("2)", "3)"),
    }[edit]
    life.write(RUNNERS[how])
    life.write(source, "part.py")
    life.run("python", "-c", "import os; os.utime('part.py', (1, 1))")
    if how == "a function made from text":  # an import in a function may come at any time: the next run is watched
        life.run("python", "program.py")
    life.cold("python", "program.py")
    life.warm("python", "program.py")
    inode = life.write(edited, "part.py").stat().st_ino  # written in place, and no older than it was
    assert inode
    ran = life.run("python", "program.py")
    assert ran.out == f"body\n{'two' if edit == 'text' else 'one'}\n" and not ran.is_warm


def test_a_zip_application_that_was_edited_is_not_resumed_as_it_was(life):
    (life.directory / "app").mkdir()
    for word in ("one", "two"):
        life.write(SOURCE.format(word=word), "app/__main__.py")
        zipapp.create_archive(life.directory / "app", life.directory / "app.pyz")
        assert life.cold("python", "app.pyz") == f"{word}\n"
        assert life.warm("python", "app.pyz") == f"{word}\n"


DIGEST = """
import sys
from magicheap._code import code_digest
code = compile(open(sys.argv[1]).read(), "x", "exec")
first = code_digest(code)
names = {"__name__": "x"}
exec(code, names)
[names["hot"]() for _ in range(100)]
from magicheap import _code
_code._known.clear()
print(first, code_digest(code))
"""
HOT = """
SETS = {1, 2, "a", "bc", (1, "z")}
def hot():
    n = 0
    for i in range(100):
        if "bc" in {"a", "bc", "q", "zz", b"x", 1.5, None, ..., (1, 2)}:
            n += i
        part = [1, 2, 3][0:2]
        setattr(hot, "interned_name", "interned_name")
    return n, -0.0, 1j, 10 ** 30, "\\udcff", b"", part[::-1]
"""


def test_digests_depend_on_nothing_but_the_code(tmp_path):
    (tmp_path / "hot.py").write_text(HOT)
    found = set()
    for seed in range(4):
        done = subprocess.run(
            [sys.executable, "-P", "-c", DIGEST, tmp_path / "hot.py"],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed)},
        )
        found |= set(done.stdout.split())
    assert len(found) == 1


def compiled(text):
    return compile(text, "x", "exec")


def test_any_difference_of_the_code_makes_another_digest():
    texts = [
        "x = 1",
        "x = 2",
        "x = True",
        "x = 1.0",
        "x = '1'",
        "x = b'1'",
        "x = 1j",
        "x = None",
        "y = 1",
        "x = (1,)",
        "x = ((1,),)",
    ]
    texts += [
        "x = -0.0",
        "x = 0.0",
        "\nx = 1",
        "x[1:2]",
        "x[1:3]",
        "x[1:2:1]",
        "x in {1, 2}",
        "x in {1, 3}",
        "x in (1, 2)",
    ]
    texts += [
        "def f(): return 1",
        "def f(): return 2",
        "def g(): return 1",
        "async def f(): return 1",
        "def f(x): return 1",
        "def f(*, x): return 1",
    ]
    texts += ["try: x\nexcept A: y", "try: x\nexcept: y"]
    assert len({code_digest(compiled(text)) for text in texts}) == len(texts)


def test_a_slice_among_constants_is_told_apart():
    def with_constant(value):
        inner = compiled("f()").replace(co_consts=(value, None))
        return compiled("g()").replace(co_consts=(inner, None))

    values = [slice(1, 2), slice(1, 3), slice(1, 2, 3), (slice(1, 2),), frozenset({1}), slice("1", 2), (1, 2, None)]
    assert len({code_digest(with_constant(value)) for value in values}) == len(values)
    assert code_digest(with_constant(slice(1, 2))) == code_digest(with_constant(slice(1, 2)))


def test_what_no_compiler_makes_is_not_known(life):
    with pytest.raises(ValueError, match="unmarshallable"):
        code_digest(compiled("f()").replace(co_consts=(object(),)))
    life.write("""
        text = 'from magicheap import magic_transaction\\n'
        text += 'with magic_transaction("x.magic") as magic: pass\\nprint(magic.committed)'
        code = compile(text, "x", "exec")
        exec(code.replace(co_consts=(*code.co_consts, object())))
    """)
    ran = life.run("python", "program.py")
    assert (
        ran.out == "False\n"
        and "can't be told from other code" in ran.reason
        and not Path(life.directory, "x.magic").exists()
    )
