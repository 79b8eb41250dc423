"""What the body sets in the environment, or removes from it, is set and removed in each later run, though it made no
difference in the first."""

import pytest

PROGRAM = """
    import ctypes, os, subprocess
    from magicheap import magic_transaction
    libc = ctypes.CDLL(None)
    clear = libc.clearenv
    with magic_transaction("x.magic"):
        print("body")
        {}
    print(os.environ.get("NAME"), os.environ.get("MORE"), flush=True)
    subprocess.run(["/bin/sh", "-c", 'echo "$NAME,$MORE,$LAST"'])
"""
CHANGES = {
    "set to the same": "os.environ['NAME'] = 'one'",
    "set in bytes": "os.environb[b'NAME'] = b'one'",
    "updated": "os.environ.update(NAME='one')",
    "set and removed": "os.environ['MORE'] = 'x'; del os.environ['MORE']",
    "set and popped": "os.environ['MORE'] = 'x'; os.environ.pop('MORE')",
    "unset": "os.unsetenv('MORE')",
    "put and unset": "os.putenv('MORE', 'x'); os.unsetenv('MORE')",
    "put the same": "os.putenv('NAME', 'one')",
    "C unsetenv": "libc.unsetenv(b'MORE')",
    "C setenv": "libc.setenv(b'NAME', b'one', 1)",
    "C putenv": "entry = ctypes.create_string_buffer(b'NAME=one'); libc.putenv(entry)",
    "C putenv without a value": "libc.putenv(b'MORE')",
    "C clearenv": "clear()",
    "C clearenv and setenv": "libc.setenv(b'MORE', b'', 1); clear(); libc.setenv(b'LAST', b'x', 1)",
    "names that are none": "libc.unsetenv(b''); libc.unsetenv(None); libc.setenv(b'a=b', b'', 1); "
    "libc.unsetenv(b'MORE')",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_the_body_sets_or_removes_is_so_in_each_later_run(life, change):
    life.write(PROGRAM.format(change))
    life.cold("python", "program.py", env={"NAME": "one"})
    for how, env in [
        ("python", {"NAME": "two", "MORE": "more"}),
        ("magic", {}),
        ("magic", {"MORE": "x", "LAST": "y"}),
        ("python", {"NAME": "one"}),
    ]:
        plain = life.run("python", "program.py", env={**env, "MAGICHEAP_DISABLE": "1"}).out
        assert "body\n" + life.warm(how, "program.py", env=env) == plain


def test_what_the_body_set_is_so_in_a_layer_too(life):
    life.write("""
        import os
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            os.environ["NAME"] = "one"
            os.unsetenv("MORE")
        with magic_transaction("y.magic"):
            pass
        print(os.environ["NAME"], flush=True)
        os.system('echo "$NAME,$MORE"')
    """)
    life.run("python", "program.py", env={"NAME": "one"})
    (life.directory / "y.magic").unlink()
    life.run("magic", "program.py", env={"NAME": "two"})
    assert (life.directory / "y.magic").exists()
    for how in ("python", "magic"):
        assert life.warm(how, "program.py", env={"NAME": "three", "MORE": "more"}) == "one\none,\n"


@pytest.mark.parametrize("replaces", [0, 1])
def test_who_sets_a_variable_unless_it_is_set_asks_for_it(life, replaces):
    life.write(PROGRAM.format(f"libc.setenv(b'NAME', b'one', {replaces})"))
    life.cold("python", "program.py", env={"NAME": None})
    (life.warm if replaces else life.cold)("python", "program.py", env={"NAME": "two"})
    assert life.warm("python", "program.py", env={"NAME": "two"}).endswith("one,,\n" if replaces else "two,,\n")


def test_a_value_that_the_body_asked_for_and_set_again_is_in_no_file(life):
    secret = "sesame-4711-open"
    life.write(
        PROGRAM.format("os.environ['NAME'] = os.environ.get('NAME', 'none'); os.putenv('NAME', os.environ['NAME'])")
    )
    life.cold("python", "program.py", env={"NAME": secret})
    assert life.warm("python", "program.py", env={"NAME": secret}) == f"{secret} None\n{secret},,\n"
    assert secret.encode() not in (life.directory / "x.magic").read_bytes()


def test_what_keeps_pools_from_starting_is_not_taken_for_the_bodys(life):
    program = PROGRAM.replace('echo "$NAME', 'echo "$TOKENIZERS_PARALLELISM')
    life.write(program.format("subprocess.run(['true'])"))
    life.cold("python", "program.py")
    assert life.warm("python", "program.py", env={"TOKENIZERS_PARALLELISM": "true"}).endswith("\ntrue,,\n")
