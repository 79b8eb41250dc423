"""What the interpreter and this package rely on may be replaced by the body: then the run goes on as a plain one, and
its snapshot is either resumed rightly in every environment, or refused with the reason."""

import pytest

PROGRAM = """
    import os, posix, sys, time
    from magicheap import magic_transaction
    found = os.environ
    with magic_transaction("x.magic"):
        print("body")
        {}
    print(getattr(sys, "argv", "no argv"), getattr(os, "environ", "none") is found, found.get("NAME"), os.path.sep)
    print(sorted(os.environ) if isinstance(getattr(os, "environ", None), dict) else "")
    print(isinstance(os.environb, dict), type(sys.meta_path), type(sys.orig_argv))
"""
RESUMED = {
    "os.environ": "os.environ = {'NAME': 'own'}",
    "os.environb": "os.environb = {}",
    "sys.argv": "sys.argv = tuple(sys.argv)",
    "sys.argv, to no name": "sys.argv = []",
    "sys.stdout": "class Writer:\n            write = sys.stdout.write\n            flush = sys.stdout.flush\n"
    "        sys.stdout = Writer()",
    "time.tzset": "time.tzset = None",
}
REFUSED = {
    "os.environ, to nothing": ("os.environ = None", "was not made: "),
    "os.environ, deleted": ("del os.environ", "was not made: "),
    "what os.environ holds": (
        "os.environ._data = {b'NAME': b'own'}",
        "it does not hold any more that os.environ keeps",
    ),
    "posix.environ": ("posix.environ = {}", "it does not hold any more that os.environ keeps"),
    "how os.environ iterates": ("type(os.environ).__iter__ = lambda self: iter(())", "it does not hold any more that"),
    "sys.orig_argv": ("sys.orig_argv = tuple(sys.orig_argv)", "it does not hold any more that sys.orig_argv is a list"),
    "sys.orig_argv, emptied": ("sys.orig_argv.clear()", "it does not hold any more that sys.orig_argv is a list"),
    "sys.meta_path": ("sys.meta_path = sys.meta_path[1:]", "has replaced sys.meta_path"),
    "sys.meta_path, a tuple": ("sys.meta_path = tuple(sys.meta_path)", "has replaced sys.meta_path"),
    "what a resume calls": (
        "import tempfile; tempfile.mktemp(); os.register_at_fork(after_in_child=lambda: sys.modules.pop('tempfile'))",
        "no later run could be resumed: the process cannot be resumed: ReseedError: tempfile",
    ),
}
STARTS: list[tuple[list[str], dict[str, str | None]]] = [
    ([], {"NAME": "one"}),
    ([], {"NAME": "longer", "MORE": "", "TZ": "UTC"}),
    (["a"], {"NAME": None}),
]


def plain(life, *arguments, env):
    return life.run("python", "program.py", *arguments, env={**env, "MAGICHEAP_DISABLE": "1"}).out


@pytest.mark.parametrize("change", RESUMED.values(), ids=RESUMED)
def test_what_the_body_replaced_is_so_in_each_later_run_and_nothing_else(life, change):
    life.write(PROGRAM.format(change))
    for arguments, env in STARTS:
        wanted = plain(life, *arguments, env=env)
        first = life.run("python", "program.py", *arguments, env=env)
        assert first.out.removeprefix("body\n") == wanted.removeprefix("body\n")
        assert first.is_warm or first.has_committed, first
        assert "body\n" + life.warm("magic", "program.py", *arguments, env=env) == wanted


@pytest.mark.parametrize(("change", "why"), REFUSED.values(), ids=REFUSED)
def test_what_no_later_run_could_build_on_refuses_the_commit_by_name(life, change, why):
    life.write(PROGRAM.format(change))
    for name in ("one", "longer"):
        env = {"NAME": name, "XDG_CACHE_HOME": str(life.directory / name)}
        ran = life.run("python", "program.py", env=env)
        assert ran.out == plain(life, env=env)
        assert why in ran.err and not (life.directory / "x.magic").exists(), ran
