"""A file that the body brings into its place by another name is one that it has made."""

import pytest

WAYS = {
    "os.replace": "open('c.tmp', 'w').write('1'); os.replace('c.tmp', 'c.txt')",
    "os.rename": "open('c.tmp', 'w').write('1'); os.rename('c.tmp', 'c.txt')",
    "Path.replace": "pathlib.Path('c.tmp').write_text('1'); pathlib.Path('c.tmp').replace('c.txt')",
    "mkstemp": "fd, name = tempfile.mkstemp(dir='.'); os.write(fd, b'1'); os.close(fd); os.replace(name, 'c.txt')",
    "os.link": "open('c.tmp', 'w').write('1'); os.link('c.tmp', 'c.txt'); os.unlink('c.tmp')",
    "a directory": "os.mkdir('d'); open('d/c.txt', 'w').write('1'); shutil.move('d', 'e'); "
    "os.replace('e/c.txt', 'c.txt'); os.rmdir('e')",
}


@pytest.mark.parametrize("how", ["magic", "python"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_file_that_was_renamed_into_place_and_is_gone_makes_the_run_cold(life, way, how):
    life.write(f"""
        import os, pathlib, shutil, tempfile
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            {way}
        print(open("c.txt").read())
    """)
    assert life.cold("python", "program.py") == "1\n"
    assert life.warm(how, "program.py") == "1\n"
    (life.directory / "c.txt").unlink()
    assert life.cold(how, "program.py", why="c.txt, which the body made, is gone") == "1\n"
    assert life.warm(how, "program.py") == "1\n"


def test_what_was_read_by_a_plus_is_an_input(life):
    (life.directory / "state").write_text("1")
    life.write("""
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            file = open("state", "a+")
            file.seek(0)
            text = file.read()
            file.close()
        print(text)
    """)
    assert life.cold("python", "program.py") == "1\n"
    assert life.warm("magic", "program.py") == "1\n"
    (life.directory / "state").write_text("two")
    assert life.cold("magic", "program.py", why="state has changed") == "two\n"
