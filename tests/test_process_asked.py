"""What counts as a question of the body's: another answer makes the run cold; what only looks like one leaves it warm."""

import pytest

PROGRAM = """
    import os, sys
    from magicheap import magic_transaction
    with magic_transaction("x.magic"):
        print("body")
        {}
    print("end")
"""
COPIES = ["[os.environ[name] for name in os.environ]", "os.environ.copy()", "dict(os.environ)", "{**os.environ}", "list(os.environ.items())", "os.environb.copy()", "os.environ | {}"]
LOOKS = ["os.environ['NAME']", "os.environb[b'NAME']", "os.getenvb(b'NAME')", "'NAME' in os.environ", "[name for name in os.environ]; os.environ['NAME']",
         "[os.environ[name] for name in os.environ if name == 'NAME']"]  # fmt: skip


@pytest.mark.parametrize("copy", COPIES)
def test_who_copies_the_whole_environment_asks_for_no_variable(life, copy):
    life.write(PROGRAM.format(copy))
    life.cold("python", "program.py", env={"NAME": "one"})
    life.warm("python", "program.py", env={"NAME": "two"})


@pytest.mark.parametrize("look", LOOKS)
def test_who_looks_up_a_variable_asks_for_it_however_that_is_done(life, look):
    life.write(PROGRAM.format(look))
    life.cold("python", "program.py", env={"NAME": "one"})
    life.cold("python", "program.py", env={"NAME": "two"}, why="environment variable NAME has changed")
    life.warm("python", "program.py", env={"NAME": "one"})


def test_a_look_behind_a_copy_is_a_question(life):
    life.write(PROGRAM.format("copy = [os.environ.copy() for _ in range(2)]; os.environ['NAME']"))
    life.cold("python", "program.py", env={"NAME": "one"})
    life.cold("python", "program.py", env={"NAME": "two"}, why="environment variable NAME has changed")


def test_the_arguments_go_to_other_processes_as_a_plain_list(life):
    life.write(PROGRAM.format("import pickle; text = pickle.dumps(sys.argv); assert b'magicheap' not in text and pickle.loads(text) == sys.argv"))
    life.cold("python", "program.py", "a")
    life.warm("python", "program.py", "a")


def test_what_the_key_is_made_of_is_no_question_of_the_program(life):
    (life.directory / "below").mkdir()
    life.write("from magicheap import magic_transaction\nwith magic_transaction():\n    print('body')\n", "named.py")
    found = {"PYTHONPATH": str(life.directory)}
    life.cold("python", "-P", "-m", "named", env=found)
    life.warm("python", "-P", "-m", "named", env=found, cwd=life.directory / "below")


SPAWNS = """
    import os, sys
    from magicheap import magic_transaction
    def tell():
        print(os.path.basename(os.getcwd()), flush=True)
    if __name__ == "__main__":
        with magic_transaction({path!r}):
            print("body")
            {before}
            import multiprocessing
        child = multiprocessing.get_context("spawn").Process(target=tell)
        child.start()
        child.join()
"""


def test_the_import_of_multiprocessing_does_not_ask_where_its_workers_will_be(life):
    (life.directory / "below").mkdir()
    life.write(SPAWNS.format(path=str(life.directory / "x.magic"), before=""))
    assert life.cold("python", life.directory / "program.py") == f"{life.directory.name}\n"
    assert life.warm("python", life.directory / "program.py", cwd=life.directory / "below") == "below\n"
    assert life.warm("magic", life.directory / "program.py", cwd="/") == "\n"


def test_a_directory_that_the_body_went_to_is_that_of_workers(life):
    (life.directory / "below").mkdir()
    life.write(SPAWNS.format(path=str(life.directory / "x.magic"), before=f"os.chdir({str(life.directory / 'below')!r})"))
    assert life.cold("python", life.directory / "program.py").replace("body\n", "") == "below\n"
    assert life.run("python", life.directory / "program.py", cwd="/", env={"MAGICHEAP_DISABLE": "1"}).out == "body\nbelow\n"
    assert life.run("python", life.directory / "program.py", cwd="/").out.replace("body\n", "") == "below\n"
