"""What stands before the package is imported: understood is only what asks nothing, or asks in a way that is known; and
what a program brings is compared by value."""

import os
import subprocess
import sys
from typing import Any

import pytest

from magicheap import _brought, _prefix

END = "\nimport magicheap\n"


def asked(directory, source, **modules):
    """Read a program up to its import of magicheap; `modules`: that it has imported, with their sources."""
    path = directory / "program.py"
    path.write_text(source + END)
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(text)
        module = sys.modules[f"read_{name}"] = type(sys)(name)
        module.__file__ = str(directory / f"{name}.py")
    try:
        return _prefix.asked([(code, source.count("\n") + 2)], [f"read_{name}" for name in modules])
    finally:
        for name in modules:
            del sys.modules[f"read_{name}"]


@pytest.mark.parametrize(
    ("source", "variables", "arguments", "place"),
    [
        ("", set(), False, False),
        ('"""Words."""\nfrom __future__ import annotations\nimport os, sys\nimport numpy as np', set(), False, False),
        ("import os\nA, B = 1, os.environ.get('ONE', '2')", {"ONE"}, False, False),
        (
            "import os\nA = os.environ['ONE'] if 'TWO' in os.environ else os.getenv('THREE')",
            {"ONE", "TWO", "THREE"},
            False,
            False,
        ),
        ("import os\nos.environ['OMP_NUM_THREADS'] = '1'", {"OMP_NUM_THREADS"}, False, False),
        ("import sys\nname = sys.argv[1] if len(sys.argv) > 1 else 'x'", set(), True, False),
        ("import sys\nname = sys.orig_argv[1:]", set(), True, False),
        ("import os\nhere = os.getcwd()", set(), False, True),
        ("import os, sys\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))", set(), False, False),
        ("import os, sys\nsys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))", set(), False, False),
        ("from pathlib import Path\nHERE = Path('data') / 'x'", set(), False, False),
        ("def f(x: int = 1, *rest: str) -> list[int]:\n    return open('f')", set(), False, False),
        ("class Failure(Exception):\n    def __init__(self):\n        open('f')", set(), False, False),
        ("if 1 < 2:\n    X = f'{1}'\nelse:\n    X = [*range(3)]", set(), False, False),
        ("try:\n    import magicheap\nexcept ImportError:\n    magicheap = None", set(), False, False),
    ],
)
def test_what_is_understood_tells_what_it_asks(tmp_path, source, variables, arguments, place):
    line = source.splitlines().index("    import magicheap") + 1 if "    import magicheap" in source else None
    if line is None:
        found = asked(tmp_path, source)
    else:
        path = tmp_path / "program.py"
        path.write_text(source)
        found = _prefix.asked([(compile(source, str(path), "exec", dont_inherit=True), line)], [])
    assert found == (variables, arguments, place)


@pytest.mark.parametrize(
    "source",
    [
        "x = open('f').read()",
        "f()",
        "import os\nx = os.path.exists('f')",
        "import os\nx = os.path.realpath('f')",
        "import os\nx = os.environ[name]",
        "import os\nx = os.environ.copy()",
        "import os\ne = os.environ\nx = e['ONE']",
        "import os as o\nx = o.environ['ONE']",
        "import sys\ne = sys.modules['os'].environ\nx = e['ONE']",
        "import posix\nx = posix.environ[b'ONE']",
        "from os import environ\nx = environ['ONE']",
        "from sys import argv\nx = argv[1]",
        "from os import *\nx = getenv('ONE')",
        "import sys\nx = sys.stdout.isatty()",
        "import sys\nx = sys.stdin",
        "import time\nx = time.tzname",
        "from time import tzname",
        # calls of what has a builtin's name
        "def str(x):\n    return open(x).read()\nx = str('f')",
        "from helper import len\nx = len('f')",
        "import helper as os\nx = os.getcwd()",
        "class Path:\n    def __init__(self, x):\n        open(x)\nx = Path('f')",
        "for print in (open,):\n    pass\nprint('f')",
        # calls that look like none
        "def f(x):\n    return open('f')\nx = sorted([1], key=f)",
        "def f(x=open('f')):\n    pass",
        "def f(x: open('f')):\n    pass",
        "def f() -> open('f'):\n    pass",
        "x: open('f') = 1",
        "@f\ndef g():\n    pass",
        "@f\nclass A:\n    pass",
        "class A(metaclass=M):\n    pass",
        "class A:\n    x = open('f')",
        "class A:\n    def __init_subclass__(cls):\n        open('f')\nclass B(A):\n    pass",
        "class A:\n    def __class_getitem__(cls, key):\n        return open(key)\nx = A['f']",
        "from enum import Enum\nclass A(Enum):\n    X = 'f'\n    def __init__(self, name):\n        open(name)",
        "x = [open(name) for name in ['f']]",
        "x = (lambda: open('f'))()",
        "x = yes and open('f')",
        "with open('f') as x:\n    pass",
        "for x in open('f'):\n    pass",
        "assert open('f')",
        "import os\nos.environ[open('f').read()] = '1'",
        "import os\ndel os.environ['ONE']",
        "exec('x = 1')",
        "print(1, file=f)",
    ],
)  # fmt: skip
def test_what_calls_unknown_code_is_not_understood(tmp_path, source):
    assert asked(tmp_path, source) is None


def test_what_was_imported_is_read_too(tmp_path):
    assert asked(tmp_path, "import helper", helper="import os\nX = os.environ.get('ONE')") == ({"ONE"}, False, False)
    assert asked(tmp_path, "import helper", helper="X = open('f').read()") is None
    assert (
        asked(tmp_path, "import helper\nX = helper.thing", helper="def __getattr__(name):\n    return open(name)")
        is None
    )
    assert asked(tmp_path, "import helper", helper="X = (") is None


def test_names_are_of_the_module_that_has_them(tmp_path):
    assert asked(tmp_path, "x = str(1)", helper="def str(x):\n    return open(x)") == (set(), False, False)


def test_a_module_that_shadows_the_standard_librarys_is_not_trusted(tmp_path):
    (tmp_path / "colorsys.py").write_text("X = open('f').read()")
    module = type(sys)("colorsys")
    module.__file__ = str(tmp_path / "colorsys.py")
    before, sys.modules["colorsys"] = sys.modules.get("colorsys"), module
    try:
        path = tmp_path / "program.py"
        path.write_text("import colorsys" + END)
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        assert _prefix.asked([(code, 2)], []) is not None and _prefix.asked([(code, 2)], ["colorsys"]) is None
    finally:
        del sys.modules["colorsys"]
        if before is not None:
            sys.modules["colorsys"] = before


def test_a_source_that_was_edited_since_it_was_compiled_is_not_understood(tmp_path):
    path = tmp_path / "program.py"
    path.write_text("import os\nx = os.getenv('ONE')" + END)
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    assert _prefix.asked([(code, 3)], []) == ({"ONE"}, False, False)
    path.write_text("import os\nx = os.getenv('TWO')" + END)
    assert _prefix.asked([(code, 3)], []) is None


# ---- what is brought ----


def brought(value):
    """The digest of one value."""
    return _brought._Digester(None).digest(value)


def cycle(length, end=None):
    first = [end]
    last = first
    for _ in range(length - 1):
        last = [last]
    first[0] = last if end is None else end
    return last


VALUES = [
    None, True, 1, 1.0, 1j, "1", b"1", bytearray(b"1"), (1,), [1], {1}, frozenset((1,)), {1: 2}, {2: 1}, [[1], [2]],
    [[2], [1]], [1, [2]], {"a": [1]}, {"a": [2]}, float("nan"), float("inf"), -0.0, 0.0, "ä", "a\0", "\ud800", range(3),
    range(4), len, os.path.join, int, os, list(range(100_000)), [*range(99_999), 0], "x" * 1_000_000,
    "x" * 999_999 + "y", cycle(1), cycle(2), slice(1, 2), slice(1, 3),
]  # fmt: skip


def test_values_that_differ_are_told_apart():
    described = [brought(value) for value in VALUES]
    assert len(set(described)) == len(VALUES), [
        VALUES[i] for i in range(len(VALUES)) if described.count(described[i]) > 1
    ]


def test_values_that_are_equal_are_not_told_apart():
    shared = [1]
    alike = [
        ([shared, shared], [[1], [1]]),
        ({"b": 1, "a": 2}, {"b": 1, "a": 2}),
        ({"a", "b", "c"}, {"c", "b", "a"}),
        (cycle(3), cycle(3)),
    ]
    for one, other in alike:
        assert brought(one) == brought(other)


DESCRIBE = """
import sys, decimal, pathlib, re, datetime, collections, fractions
from magicheap import _brought
values = [
    {"one", "two", "three"}, frozenset("abc"), {"k": {1.5, "x"}}, decimal.Decimal("1.10"), pathlib.Path("a"),
    re.compile("a+"), object(), datetime.date(2020, 1, 1), collections.OrderedDict(a=1), collections.Counter("abca"),
    fractions.Fraction(1, 3), lambda: 1, print, sys, (each for each in ()), open("/dev/null"), {1: None, None: 1},
    Exception("x"),
]
a = []; a.append(a)
print(*_brought.describe(sys._getframe(), True))
"""


def test_a_description_is_the_same_in_every_process_whatever_its_hashes():
    env = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    runs = [
        subprocess.run(
            [sys.executable, "-P", "-c", DESCRIBE],
            env={**env, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("0", "1", "random")
    ]
    assert len({run.stdout for run in runs}) == 1, [run.stdout for run in runs]


def test_what_is_nested_too_deeply_is_never_the_same_and_ends_no_program():
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    assert brought(nested) != brought(nested)
    while nested:  # not by recursion
        nested = nested.pop()
