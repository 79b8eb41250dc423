"""A secret in the environment of the process that commits is nowhere in the file; what the program itself keeps is."""

import pytest

SECRET = "sesame-4711-open-the-door"
LONG = "sesame-" + "0123456789abcdef" * 60  # its objects come from malloc, not from Python's own allocator
COMMIT = """
import os, sys
from magicheap import magic_transaction
with magic_transaction({path!r}) as magic:
    {body}
print(magic.was_committed, os.environ["SECRET"])
"""

USES = {
    "not at all": "pass",
    "read": "os.environ['SECRET']",
    "read by getenv": "os.getenv('SECRET')",
    "read as bytes": "os.environb[b'SECRET'][1:]",
    "copied": "os.environ.copy()",
    "copied often": "copies = [os.environ.copy() for _ in range(50)]; del copies",
    "given to a child": "import subprocess; subprocess.run(['true'], env=dict(os.environ))",
    "inherited by a child": "import subprocess; subprocess.run(['true'])",
    "held and dropped": "held = [os.environ['SECRET'] for _ in range(1000)]; del held",
    "replaced": "os.environ['SECRET'] = 'another'",
    "removed": "del os.environ['SECRET']; os.environ['SECRET'] = 'another'",
}


@pytest.mark.parametrize("use", USES)
def test_a_secret_of_the_environment_is_not_in_the_file(program, tmp_path, use):
    path = tmp_path / "magic.dat"
    run = program(COMMIT.format(path=str(path), body=USES[use]))
    run(env={"SECRET": SECRET})
    assert SECRET.encode() not in path.read_bytes()
    expected = "another" if use in ("replaced", "removed") else "a new one"
    assert run(env={"SECRET": "a new one"}) == ["True", *expected.split()]


def test_a_long_secret_that_was_not_copied_is_not_in_the_file(program, tmp_path):
    path = tmp_path / "magic.dat"
    program(COMMIT.format(path=str(path), body="pass"))(env={"SECRET": LONG})
    assert LONG.encode() not in path.read_bytes()


def test_the_second_layer_holds_no_secret_of_the_first(program, tmp_path):
    first, second = tmp_path / "first.dat", tmp_path / "second.dat"
    run = program(f"""
        import os
        from magicheap import magic_transaction
        with magic_transaction({str(first)!r}): pass
        os.environ.copy()
        with magic_transaction({str(second)!r}): os.environ.copy()
        print(os.environ["SECRET"])
    """)
    for i in range(4):
        assert run(env={"SECRET": f"{SECRET}-{i}"}) == [f"{SECRET}-{i}"]
    assert first.exists() and second.exists()
    assert SECRET.encode() not in first.read_bytes() + second.read_bytes()


def test_what_the_program_keeps_of_a_secret_stays(program, tmp_path):
    run = program(f"""
        import os
        from magicheap import magic_transaction
        with magic_transaction({str(tmp_path / "magic.dat")!r}):
            text, raw, client = os.environ["SECRET"], os.environb[b"SECRET"], {{"key": os.getenv("SECRET")}}
        print(text, raw.decode(), client["key"], os.environ["SECRET"])
    """)
    run(env={"SECRET": SECRET})
    assert run(env={"SECRET": "new"}) == [SECRET, SECRET, SECRET, "new"]
