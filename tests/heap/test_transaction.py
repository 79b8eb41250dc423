"""A transaction: cold, then warm; and what makes a run end without a snapshot, unharmed."""

import subprocess

import pytest

from magicheap import magic_transaction

SQUARES = """
    import sys
    import numpy
    from magicheap import magic_transaction
    with magic_transaction("x.magic", process=False) as magic:
        if not magic.was_committed:
            magic.root = numpy.arange(int(sys.argv[1])) ** 2
    print("warm" if magic.was_committed else "cold", "committed" if magic.committed else "-", magic.root.sum())
"""


def test_the_second_run_gets_what_the_first_one_loaded(program):
    squares = program(SQUARES)
    assert squares(1000) == ["cold", "committed", "332833500"]
    assert squares(1000) == ["warm", "-", "332833500"]
    assert squares(5) == ["cold", "committed", "30"], "the body looks at the arguments"


def test_everybody_sees_one_address(program):
    where = program("""
        import numpy
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = numpy.zeros(100_000)
        print(magic.was_committed, magic.root.__array_interface__["data"][0])
    """)
    cold, warm = where(), where()
    assert cold[0] == "False" and warm[0] == "True"
    assert cold[1] == warm[1], "the array was copied"


def test_what_is_written_after_the_commit_stays_out_of_the_file(program, tmp_path):
    writer = program("""
        import numpy
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = numpy.zeros(100_000)
        before = open("x.magic", "rb").read()
        magic.root += 1
        print(magic.root.sum(), open("x.magic", "rb").read() == before)
    """)
    assert writer() == ["100000.0", "True"]
    assert writer() == ["100000.0", "True"], "this one writes to what it has attached"
    assert writer() == ["100000.0", "True"], "and found zeros again"


def test_an_exception_in_the_body_commits_nothing_and_passes_through(program, tmp_path):
    fails = program("""
        import numpy
        from magicheap import magic_transaction
        try:
            with magic_transaction("x.magic", process=False) as magic:
                magic.root = numpy.zeros(1000)
                raise KeyError("the body's own")
        except KeyError as error:
            print(error, magic.committed)
    """)
    assert fails() == ['"the', "body's", 'own"', "False"]
    assert not list(tmp_path.glob("x.magic*"))


def test_an_exception_in_the_body_leaves_the_snapshot_there_was(program):
    squares = program(SQUARES)
    squares(1000)
    program(
        """
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False, refresh=True, key="another") as magic:
            raise SystemExit(3)
    """,
        "fails.py",
    ).run(status=3)
    assert squares(1000) == ["warm", "-", "332833500"]


def test_refresh_replaces_the_snapshot(program):
    moments = program("""
        import sys, time
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False, refresh=len(sys.argv) > 1) as magic:
            if not magic.was_committed:
                magic.root = time.time_ns()
        print(magic.was_committed, magic.root)
    """)
    _, first = moments()
    was_committed, second = moments("refresh")
    assert was_committed == "False" and second != first
    assert moments() == ["True", second]


def test_an_unset_root_commits_nothing_and_warns(program, tmp_path):
    forgets = program("""
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            pass
        print(magic.committed)
    """)
    out, err = forgets.run()
    assert out == "False\n"
    assert err.count("MagicHeapWarning") == 1
    assert "program.py:3: MagicHeapWarning: magic.root was not set" in err, "the warning points at the program's `with`"
    assert not list(tmp_path.glob("x.magic*"))


def test_a_transaction_inside_another_runs_cold(program):
    nested = program("""
        import numpy
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as outer:
            outer.root = numpy.arange(10)
            with magic_transaction("y.magic", process=False) as inner:
                inner.root = numpy.arange(20)
        print(outer.committed, inner.committed, inner.root.sum())
    """)
    out, err = nested.run()
    assert out.split() == ["True", "False", "190"]
    assert err.count("MagicHeapWarning") == 1 and "y.magic will not be made" in err


def test_several_snapshots_are_attached_at_once(program):
    several = program("""
        import numpy
        from magicheap import magic_transaction
        roots = []
        for name in "abc":
            with magic_transaction(name + ".magic", process=False) as magic:
                if not magic.was_committed:
                    magic.root = numpy.full(1000, ord(name))
            roots.append(magic)
        print(*(f"{magic.was_committed}:{magic.root.mean():.0f}" for magic in roots))
    """)
    assert several() == ["False:97", "False:98", "False:99"]
    assert several() == ["True:97", "True:98", "True:99"]


def test_of_two_runs_at_once_one_commits(program, tmp_path):
    waits = program("""
        import sys
        import numpy
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            magic.root = numpy.arange(10)
            print("loading", flush=True)
            with __import__("magicheap")._questions.pause(): sys.stdin.readline()
        print(magic.committed)
    """)
    with waits.start() as first:
        assert first.stdout.readline() == "loading\n"
        out, err = waits.run()
        assert (out.split(), err) == (["loading", "False"], "")
        out, err = first.communicate("\n", timeout=60)
        assert (out, err) == ("True\n", "")
    assert [path.name for path in tmp_path.glob("x.magic*")] == ["x.magic"]


def test_a_run_that_is_killed_while_it_loads_leaves_nothing_in_the_way(program, tmp_path):
    loads = program("""
        import sys
        import numpy
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = numpy.arange(10)
                print("loading", flush=True)
                with __import__("magicheap")._questions.pause(): sys.stdin.readline()
        print(magic.was_committed, magic.committed)
    """)
    with loads.start() as killed:
        assert killed.stdout.readline() == "loading\n"
        killed.kill()
    assert not (tmp_path / "x.magic").exists()
    assert loads(stdin=subprocess.DEVNULL) == ["loading", "False", "True"]
    assert [path.name for path in tmp_path.glob("x.magic*")] == ["x.magic"]


def test_processes_forked_inside_and_after_have_the_memory_and_commit_nothing(program):
    forks = program("""
        import multiprocessing
        import numpy
        from magicheap import magic_transaction
        def work(array):
            array += 1
            return int(array.sum())
        fork = multiprocessing.get_context("fork")
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                array = numpy.zeros(100_000)
                with fork.Pool(2) as pool:
                    assert pool.map(work, [array, array]) == [100_000, 100_000]
                magic.root = array
        def later(_):
            magic.root[:] += 1
            return int(magic.root.sum())
        with fork.Pool(2) as pool:
            assert set(pool.map(later, range(2), chunksize=1)) <= {100_000, 200_000}
        print(magic.was_committed, magic.committed, magic.root.sum())
    """)
    assert forks() == ["False", "True", "0.0"]
    assert forks() == ["True", "False", "0.0"]


def test_a_full_disk_leaves_the_program_running(program, tmp_path):
    fills = program("""
        import resource
        import numpy
        from magicheap import magic_transaction
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with magic_transaction("x.magic", process=False) as magic:
            magic.root = numpy.ones(1_000_000)
        magic.root += 1
        print(magic.committed, magic.root.sum())
    """)
    out, err = fills.run()
    assert out.split() == ["False", "2000000.0"]
    assert err.count("MagicHeapWarning") == 1 and "was not made" in err
    assert not list(tmp_path.glob("x.magic*"))


@pytest.mark.parametrize("directory", ["/proc", "no/such/directory"])
def test_a_directory_that_takes_no_files_leaves_the_program_running(program, directory):
    out, err = program(f"""
        import numpy
        from magicheap import magic_transaction
        with magic_transaction("{directory}/x.magic", process=False) as magic:
            magic.root = numpy.ones(1000)
        print(magic.committed, magic.root.sum(), magic.reason != "")
    """).run()
    assert out.split() == ["False", "1000.0", "True"]
    assert err.count("MagicHeapWarning") == 1 and "x.magic will not be made" in err


def test_a_root_that_cannot_be_restored_makes_the_run_cold(program):
    gone = program("""
        import sys
        from magicheap import magic_transaction
        is_here = sys.argv[1] == "here"  # before the body, whose own question it would be
        if is_here:
            class Shape:
                pass
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = Shape() if is_here else "another"
        print(magic.was_committed, type(magic.root).__name__, magic.committed, magic.reason)
    """)
    assert gone("here")[:3] == ["False", "Shape", "True"]
    assert gone("here")[:3] == ["True", "Shape", "False"]
    cold = gone("gone")
    assert cold[:3] == ["False", "str", "True"]
    assert " ".join(cold[3:]).startswith("the root cannot be restored: AttributeError")
    assert gone("gone")[:3] == ["True", "str", "False"]


def test_progress_ends_with_everything_durable(program):
    progress = program("""
        import numpy
        from magicheap import magic_transaction
        magic = magic_transaction("x.magic", process=False)
        assert magic.commit_progress() == (0, 0)
        with magic:
            if not magic.was_committed:
                magic.root = numpy.ones(1_000_000)
        print(*magic.commit_progress())
    """)
    done, total = map(int, progress())
    assert done == total > 8_000_000


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"audit": "perhaps"}, "audit is 'perhaps'"),
        ({"capacity": 0}, "capacity is 0"),
        ({"key": "a\0b"}, "NUL"),
        ({"env": ["a\0b"]}, "NUL"),
        ({"path": "a\0b"}, "NUL"),
        ({"env": "HOME"}, "pass a list"),
        ({"inputs": "x.txt"}, "pass a list"),
    ],
)
def test_an_argument_that_makes_no_sense_is_a_value_error(options, what, monkeypatch):
    monkeypatch.delattr("__main__.__file__", raising=False)
    with pytest.raises(ValueError, match=what):
        magic_transaction(**{"path": "x.magic", "process": False, **options})


def test_a_transaction_is_entered_once(program):
    again = program("""
        from magicheap import magic_transaction
        magic = magic_transaction("x.magic", process=False)
        with magic:
            magic.root = 1
        try:
            with magic:
                pass
        except RuntimeError as error:
            print(error)
    """)
    assert " ".join(again()) == "a transaction is entered once: call magic_transaction again"
