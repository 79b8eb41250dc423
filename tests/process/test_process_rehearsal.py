"""The child of the commit does what every resumed process does first, and nobody notices."""

import json

PROGRAM = """
import os, sys
from magicheap import magic_transaction
def tell():
    if os.readlink("/proc/self/fd/1") == "/dev/null":
        {rehearsal}
    os.write(1, b"forked\\n")
    print("forked, too", flush=True)
with magic_transaction("x.magic"):
    print("body", flush=True)
    os.register_at_fork(after_in_child=tell)
print(sys.argv[1:], os.environ.get("MINE"))
"""
TOLD = "forked\nforked, too\n['a'] yours\n"


def touched_bytes(life):
    shown = life.run("python", "-m", "magicheap", "info", "x.magic", "--json")
    return json.loads(shown.out)["process"]["touched_bytes"]


def check(life, rehearsal):
    life.write(PROGRAM.format(rehearsal=rehearsal))
    arguments = ("magic", "program.py", "a")
    assert life.cold(*arguments, env={"MINE": "yours"}) == "['a'] yours\n"
    assert life.warm(*arguments, env={"MINE": "yours"}) == TOLD
    assert life.warm("python", *arguments[1:], env={"MINE": "yours"}) == TOLD


def test_a_fork_handler_is_heard_in_resumed_processes_only(life):
    check(life, "pass")
    assert 100_000 < touched_bytes(life) < 3_000_000


def test_a_fork_handler_that_ends_the_rehearsal_prevents_nothing(life):
    check(life, "os._exit(3)")
    assert touched_bytes(life) == 0


def test_a_fork_handler_that_crashes_the_rehearsal_prevents_nothing(life):
    check(life, "os.abort()")
    assert touched_bytes(life) == 0


def test_what_fails_in_the_rehearsal_would_fail_in_each_run_and_refuses_the_commit(life):
    life.write("""
    import os, sys
    from magicheap import magic_transaction
    with magic_transaction("x.magic"):
        print("body")
        import tempfile
        tempfile.mktemp()
        os.register_at_fork(after_in_child=lambda: sys.modules.pop("tempfile"))
    print("done")
    """)
    ran = life.run("magic", "program.py")
    assert ran.out == "body\ndone\n" and not (life.directory / "x.magic").exists()
    assert "no later run could be resumed: the process cannot be resumed: ReseedError: tempfile" in ran.err
