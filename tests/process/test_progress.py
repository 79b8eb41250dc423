"""progress=: how far a commit has come, while it runs, for both kinds of snapshot."""

import pytest

PROGRAM = """
    import sys, threading
    from magicheap import magic_transaction
    seen = []
    def show(done, total):
        seen.append((done, total))
        {extra}
    with magic_transaction("x.magic", process={process}, progress=show) as magic:
        print("body")
        block = bytes(range(256)) * (300 << 12)
        if not {process}:
            import numpy
            magic.root = numpy.ones(30_000_000)
    import os
    if magic.committed:
        size = os.stat("x.magic").st_size
        assert seen[-1] == (size * (1 + {process}),) * 2, (seen[-1], size)
        assert all(0 <= done <= total for done, total in seen)
    print(magic.committed, len(seen) > 0, threading.active_count())
"""


@pytest.mark.parametrize("process", [True, False])
def test_a_function_hears_of_a_commit_and_of_none_when_warm(life, process):
    life.write(PROGRAM.format(process=process, extra="pass"))
    ran = life.run("python", "program.py")
    assert ran.out == "body\nTrue True 1\n" and ran.err == "", ran
    ran = life.run("python", "program.py")
    assert ran.out == ("" if process else "body\n") + "False False 1\n", ran


def test_a_function_that_fails_prevents_nothing_and_is_told(life):
    life.write("""
        from magicheap import magic_transaction
        def show(done, total):
            raise ValueError("no bar")
        with magic_transaction("x.magic", progress=show):
            print("body")
    """)
    ran = life.run("python", "program.py")
    assert "body\n" in ran.out and ran.has_committed
    assert ran.err.count("MagicHeapWarning") == 1 and "raised ValueError: no bar" in ran.err
    assert life.run("magic", "program.py").is_warm


def test_what_is_no_function_is_refused(program):
    out, _ = program("""
        from magicheap import magic_transaction
        try:
            magic_transaction("x.magic", progress=7)
        except ValueError as error:
            print(error)
    """).run()
    assert out == "progress is 7, expected a function of two numbers, or None\n"
