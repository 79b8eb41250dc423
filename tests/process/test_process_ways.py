"""Every way to start a program, and every place in it where a transaction may stand."""

import pytest
from process_fixtures import LAUNCHER

PROGRAM = """
    import sys
    from magicheap import magic_transaction
    with magic_transaction() as magic:
        print("body")
        loaded = list(range(1000))
    print(sum(loaded), magic.was_committed, magic.committed, *sys.argv)
"""


def test_python_and_the_launcher_resume_what_either_has_committed(life):
    life.write(PROGRAM)
    assert life.cold("python", "program.py", "a") == "499500 False True program.py a\n"
    assert life.warm("python", "program.py", "b") == "499500 True False program.py b\n"
    assert life.warm("magic", "program.py", "c", "-d") == "499500 True False program.py c -d\n"
    life.snapshot().unlink()
    assert life.cold("magic", "program.py", why="there is no snapshot") == "499500 False True program.py\n"
    assert life.warm("magic", "program.py") == life.warm("python", "program.py") == "499500 True False program.py\n"


def test_a_script_resumes_by_other_spellings_of_its_path(life):
    path = life.write(PROGRAM)
    life.cold("python", "program.py")
    assert life.warm("magic", path).endswith(f" {path}\n")
    (life.directory / "below").mkdir()
    assert life.warm("magic", "../program.py", cwd=life.directory / "below").endswith(" ../program.py\n")


@pytest.mark.parametrize("how", ["python", "magic"])
def test_a_module_resumes_with_its_path_and_arguments(life, how):
    (life.directory / "package").mkdir()
    life.write("", "package/__init__.py")
    life.write(PROGRAM, "package/__main__.py")
    path = life.directory / "package/__main__.py"
    assert life.cold(how, "-m", "package", "a") == f"499500 False True {path} a\n"
    assert life.warm(how, "-m", "package", "b") == f"499500 True False {path} b\n"


def test_a_launcher_that_is_named_after_a_module_runs_it(life):
    (life.directory / "bin").mkdir()
    (life.directory / "bin/magic-program").symlink_to(LAUNCHER)
    life.write(PROGRAM)
    named = life.directory / "bin/magic-program"
    path = life.directory / "program.py"
    assert life.cold(named, "a", env={"PYTHONPATH": "."}) == f"499500 False True {path} a\n"
    assert life.warm(named, "b", env={"PYTHONPATH": "."}) == f"499500 True False {path} b\n"


def test_a_command_given_as_text_resumes(life):
    text = (
        "from magicheap import magic_transaction as begin\nwith begin('x.magic'):\n    print('body')\n"
        "import sys\nprint(sys.argv)\n"
    )
    assert life.cold("python", "-c", text, "a") == "['-c', 'a']\n"
    assert life.warm("python", "-c", text, "b") == "['-c', 'b']\n"


def test_a_transaction_inside_a_function_keeps_locals_and_callers(life):
    life.write("""
        import sys
        from magicheap import magic_transaction
        def load(n):
            kept = [n] * 3
            try:
                with magic_transaction():
                    print("body")
                    kept.append(n + 1)
                return kept
            finally:
                print("finally")
        class Loader:
            def __init__(self):
                self.loaded = load(5)
        print(Loader().loaded, len(sys.argv))
    """)
    assert life.cold("python", "program.py") == "finally\n[5, 5, 5, 6] 1\n"
    assert life.warm("magic", "program.py", "x") == "finally\n[5, 5, 5, 6] 2\n"


def test_a_transaction_may_stand_deep_in_a_recursion(life):
    life.write("""
        import sys
        from magicheap import magic_transaction
        sys.setrecursionlimit(5000)
        def descend(n):
            if n:
                return 1 + sum(map(descend, [n - 1]))  # through C, so that the C stack is deep too
            with magic_transaction():
                print("body")
            return 0
        print(descend(800))
    """)
    assert life.cold("python", "program.py") == "800\n"
    assert life.warm("magic", "program.py") == "800\n"


def test_a_transaction_may_stand_in_a_generator(life):
    life.write("""
        from magicheap import magic_transaction
        def numbers():
            yield 1
            with magic_transaction():
                print("body")
                two = 2
            yield two
            yield 3
        print(*numbers())
    """)
    assert life.cold("python", "program.py") == "1 2 3\n"
    assert life.warm("magic", "program.py") == "1 2 3\n"


def test_several_transactions_of_one_program_all_resume(life):
    life.write("""
        import sys
        from magicheap import magic_transaction
        with magic_transaction("one.magic") as one:
            print("body")
            first = "first"
        if "two" in sys.argv:
            with magic_transaction("two.magic") as two:
                print("second body")
                second = first + " second"
            first = second
        print(first, sys.argv[1:])
    """)
    assert life.cold("python", "program.py") == "first []\n"
    assert life.warm("python", "program.py", "x") == "first ['x']\n"
    ran = life.run("python", "program.py", "two")
    assert ran.out == "second body\nfirst second ['two']\n" and ran.has_committed and ran.err == ""
    for how in ("python", "magic"):
        ran = life.run(how, "program.py", "two", "y")
        assert (ran.out, ran.err) == ("first second ['two', 'y']\n", ""), ran
    assert life.run("magic", "program.py").out == "first []\n"


def test_a_relative_path_means_the_working_directory_however_a_run_starts(life):
    life.write("""
        import os
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            loaded = os.path.basename(os.getcwd())
        print(loaded)
    """)
    places = [life.directory / "a", life.directory / "b"]
    for place in places:
        place.mkdir()
        assert life.cold("python", "../program.py", cwd=place, why="no snapshot") == f"{place.name}\n"
    for place in places * 2:
        assert (
            life.warm("magic", "../program.py", cwd=place)
            == life.warm("python", "../program.py", cwd=place)
            == f"{place.name}\n"
        )
    (places[0] / "x.magic").unlink()
    assert life.cold("magic", "../program.py", cwd=places[0]) == "a\n"
    assert life.warm("magic", "../program.py", "x", cwd=places[0]) == "a\n"
    (life.directory / "c").mkdir()
    assert life.cold("magic", "../program.py", cwd=life.directory / "c", why="no snapshot") == "c\n"


def test_an_absolute_path_is_found_from_any_directory(life):
    (life.directory / "below").mkdir()
    life.write(f"""
        from magicheap import magic_transaction
        with magic_transaction({str(life.directory / "x.magic")!r}):
            print("body")
    """)
    life.cold("python", "program.py")
    life.warm("magic", "../program.py", "x", cwd=life.directory / "below")


def test_a_nested_transaction_runs_cold_and_only_the_outer_one_commits(life):
    life.write("""
        from magicheap import magic_transaction
        with magic_transaction("outer.magic") as outer:
            print("body")
            with magic_transaction("inner.magic") as inner:
                print("inner", inner.was_committed)
            print("inner", inner.committed, inner.reason)
        print("end", outer.committed)
    """)
    out = life.cold("python", "program.py")
    assert out.startswith("inner False\ninner False the body of another transaction, ") and out.endswith("end True\n")
    assert life.warm("magic", "program.py") == "end False\n"
    assert not (life.directory / "inner.magic").exists()


def test_two_places_with_one_path_never_resume_each_other(life):
    life.write("""
        import sys
        from magicheap import magic_transaction
        if sys.argv[1] == "a":
            with magic_transaction("x.magic"):
                print("body")
            print("came out at a")
        else:
            with magic_transaction("x.magic"):
                print("body")
            print("came out at b")
    """)
    for place, why in (("a", "no snapshot"), ("b", "run with other arguments")):
        assert life.cold("python", "program.py", place, why=why) == f"came out at {place}\n"
    for place in "abba":
        for how in ("python", "magic"):  # the launcher evaluates no arguments, and leaves the choice to Python
            assert life.warm(how, "program.py", place) == f"came out at {place}\n"


@pytest.mark.parametrize(
    ("ending", "status"), [("raise ValueError('no')", 1), ("sys.exit(3)", 3), ("raise KeyboardInterrupt", -2)]
)
def test_an_exception_in_the_body_commits_nothing(life, ending, status):
    life.write(f"""
        import sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            {ending}
    """)
    for how in ("python", "magic"):
        ran = life.run(how, "program.py", status=status)
        assert ran.out == "body\n" and not ran.has_committed
    assert not list(life.directory.glob("x.magic*"))


def test_a_refresh_runs_cold_and_replaces(life):
    life.write("""
        import os
        from magicheap import magic_transaction
        from magicheap._native import lib
        with magic_transaction("x.magic", refresh=(lib.mh_pause(True), os.read(0, 5),
            lib.mh_pause(False))[1] == b"again"):
            print("body")
            loader = os.getpid()
        print(loader)
    """)
    (life.directory / "again.txt").write_text("again")
    first = life.cold("python", "program.py")
    assert life.warm("python", "program.py") == first
    with open(life.directory / "again.txt") as wish:
        second = life.cold("python", "program.py", stdin=wish)
    assert life.warm("python", "program.py") == second != first
    assert [path.name for path in life.directory.glob("x.magic.v*")] == []


def test_a_variable_makes_every_run_load(life):
    life.write(PROGRAM)
    life.cold("python", "program.py")
    for how in ("python", "magic"):
        ran = life.run(how, "program.py", env={"MAGICHEAP_DISABLE": "1"})
        assert ran.out == "body\n499500 False False program.py\n" and "MAGICHEAP_DISABLE" in ran.reason
    life.warm("magic", "program.py")


def test_interpreters_with_other_options_take_turns(life):
    life.write(PROGRAM)
    life.cold("python", "program.py")
    for options in (["-X", "utf8"], ["-O"], ["-W", "error"], ["-su"]):
        life.cold("python", *options, "program.py", "a", why="run with the interpreter's option ")
        assert life.warm("python", *options, "program.py", "b") == "499500 True False program.py b\n"
        assert life.warm("python", "program.py", "c") == "499500 True False program.py c\n"


def test_many_resumes_succeed_in_a_row_and_sixteen_at_a_time(life):
    life.write(PROGRAM)
    life.cold("python", "program.py")
    for i in range(200):
        assert life.warm("magic", "program.py", i) == f"499500 True False program.py {i}\n"
    running = [life.start("magic", "program.py", i) for i in range(16)]
    assert [process.communicate(timeout=60)[0] for process in running] == [
        f"499500 True False program.py {i}\n" for i in range(16)
    ]
    assert [process.returncode for process in running] == [0] * 16


def test_a_program_that_has_closed_its_output_is_resumed_all_the_same(life):
    life.write("""
import sys
if sys.argv[1:]:
    sys.stdout.close()
from magicheap import magic_transaction
with magic_transaction("x.magic", compare=False):
    print("body")
""")
    life.cold("python", "program.py")
    assert life.warm("python", "program.py", "closed") == ""
