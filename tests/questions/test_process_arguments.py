"""What a program makes of its arguments is what it finds in each later run."""

import pytest

PROGRAM = """
    import sys
    {before}
    from magicheap import magic_transaction
    with magic_transaction("x.magic", compare={compare}):
        print("body")
        {body}
    print(sys.argv[1:], sys.orig_argv[-1])
"""

CHANGES = {
    "a slice": "sys.argv[1:] = [each for each in sys.argv[1:] if each != '-v']",
    "pop": "sys.argv.pop(1)",
    "insert": "sys.argv.insert(1, 'more')",
    "append": "sys.argv.append('more')",
    "remove": "sys.argv.remove('-v')",
    "del": "del sys.argv[1:]",
    "sort": "sys.argv.sort()",
    "another list": "sys.argv = ['name', 'one']",
    "argparse": "import argparse; parser = argparse.ArgumentParser(); parser.add_argument('-v', action='store_true'); "
    "sys.argv[1:] = parser.parse_known_args()[1]",
}


@pytest.mark.parametrize("compare", [True, False])
@pytest.mark.parametrize("is_before", [False, True], ids=["in the body", "before the with"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_the_program_made_of_its_arguments_stays(life, change, is_before, compare):
    source = {"before": change if is_before else "", "body": "pass" if is_before else change, "compare": compare}
    life.write(PROGRAM.format(**source))
    for arguments in (["-v", "f"], ["-v", "g", "h"]):
        plain = life.run("python", "program.py", *arguments, env={"MAGICHEAP_DISABLE": "1"}).out.replace("body\n", "")
        assert life.cold("python", "program.py", *arguments) == plain
        for how in ("python", "magic", "python"):
            assert life.warm(how, "program.py", *arguments) == plain


def test_a_name_that_the_program_gave_itself_stays(life):
    life.write("""
        import sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            sys.argv[0] = "tool"
        print(sys.argv)
    """)
    assert life.cold("python", "program.py", "a") == "['tool', 'a']\n"
    assert life.warm("magic", "program.py", "b") == "['tool', 'b']\n"


@pytest.mark.parametrize("left", ["del sys.argv", "sys.argv = None", "sys.argv = ()"])
def test_a_program_that_leaves_nothing_of_its_arguments_goes_on(life, left):
    life.write(f"""
        import sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            {left}
        print(getattr(sys, "argv", "none"))
    """)
    expected = life.run("python", "program.py", "a", env={"MAGICHEAP_DISABLE": "1"}).out
    for how in ("python", "magic", "python"):
        assert life.run(how, "program.py", "a").out == expected


def test_sys_argv_stays_the_same_list(life):
    life.write("""
        from sys import argv
        import sys
        from magicheap import magic_transaction
        before = sys.argv
        with magic_transaction("x.magic"):
            print("body")
            from sys import argv as inner
        print(argv is sys.argv is before is inner, type(sys.argv) is list, type(sys.orig_argv) is list)
        argv.pop(0)
        before.append("end")
        print(sys.argv)
    """)
    assert life.cold("magic", "program.py", "a") == "True True True\n['a', 'end']\n"
    for how in ("magic", "python"):
        assert life.warm(how, "program.py", "b", "c") == "True True True\n['b', 'c', 'end']\n"
