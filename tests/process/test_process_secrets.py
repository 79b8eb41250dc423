"""A secret in the environment of the process that commits is nowhere in the file; what the program itself keeps is."""

import os

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


# so that another secret is another run
ASKS = {"read", "read by getenv", "read as bytes", "held and dropped", "removed"}


@pytest.mark.parametrize("use", USES)
def test_a_secret_of_the_environment_is_not_in_the_file(program, tmp_path, use):
    path = tmp_path / "magic.dat"
    run = program(COMMIT.format(path=str(path), body=USES[use]))
    run(env={"SECRET": SECRET})
    assert SECRET.encode() not in path.read_bytes()
    is_replaced = use in ("replaced", "removed")
    assert run(env={"SECRET": SECRET}) == ["True", "another" if is_replaced else SECRET]
    assert run(env={"SECRET": "a-new-one"}) == [str(use not in ASKS), "another" if is_replaced else "a-new-one"]
    files = list(tmp_path.glob("magic.dat*"))
    assert not any(text in file.read_bytes() for file in files for text in (SECRET.encode(), b"a-new-one"))


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
    for size in range(140, 740, 60):  # bytes of another variable: it depends on them what becomes of a freed block
        env = {**dict.fromkeys(os.environ), "SECRET": f"{SECRET}-{size}", "OTHER": "x" * size}
        assert run(env=env) == [f"{SECRET}-{size}"]
        assert SECRET.encode() not in first.read_bytes() + second.read_bytes()
        second.unlink()  # so that the next run makes it, as a process that was resumed itself


def test_what_the_program_keeps_of_a_secret_stays(program, tmp_path):
    run = program(f"""
        import os
        from magicheap import magic_transaction
        with magic_transaction({str(tmp_path / "magic.dat")!r}):
            text, raw, client = os.environ["SECRET"], os.environb[b"SECRET"], {{"key": os.getenv("SECRET")}}
        print(text, raw.decode(), client["key"], os.environ["SECRET"])
    """)
    for secret in (SECRET, "new"):  # a secret that was asked for makes the runs two
        for _ in range(2):
            assert run(env={"SECRET": secret}) == [secret] * 4
    assert SECRET.encode() in (tmp_path / "magic.dat").read_bytes()
