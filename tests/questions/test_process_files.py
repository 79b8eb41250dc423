"""Files that C code opens by itself in the body of a process transaction: what was read is watched, what was written is
not."""

import io
import os
import sqlite3

import pytest
import sentencepiece

TOKENIZER = """
    import sys
    from magicheap import magic_transaction
    with magic_transaction():
        print("body")
        import sentencepiece
        pieces = sentencepiece.SentencePieceProcessor(model_file="m.model")
    print(len(pieces))
"""

# Programs that print what a library has read from data.txt or data.db; {0}: the rest of the body.
READERS = {
    "zlib": """
        import ctypes, os, sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            zlib, text = ctypes.CDLL("libz.so.1"), ctypes.create_string_buffer(100)
            zlib.gzopen.restype = ctypes.c_void_p
            file = ctypes.c_void_p(zlib.gzopen(b"data.txt", b"rb"))
            zlib.gzread(file, text, 99)
            zlib.gzclose(file)
            {0}
        print(text.value.decode())
    """,
    "libc": """
        import ctypes
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            libc, text = ctypes.CDLL(None), ctypes.create_string_buffer(100)
            libc.fopen.restype = ctypes.c_void_p
            file = ctypes.c_void_p(libc.fopen(b"data.txt", b"r"))
            libc.fgets(text, 99, file)
            libc.fclose(file)
        print(text.value.decode())
    """,
    "sqlite": """
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            import sqlite3
            with sqlite3.connect("file:data.db?mode=ro", uri=True) as database:
                text, = database.execute("select text from data").fetchone()
            database.close()
        print(text)
    """,
}


def write_data(directory, text):
    """Let the readers find this text."""
    (directory / "data.txt").write_text(text)
    with sqlite3.connect(directory / "data.db") as database:
        database.execute("create table if not exists data (text)")
        database.execute("delete from data")
        database.execute("insert into data values (?)", (text,))
    database.close()


def train(directory, vocab_size):
    """Put a new model in the place of the one that is there, as a download does."""
    model = io.BytesIO()
    lines = iter(f"word {i} of {i % 7} words" for i in range(500))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, vocab_size=vocab_size, minloglevel=2
    )
    (directory / "new.model").write_bytes(model.getvalue())
    os.replace(directory / "new.model", directory / "m.model")


@pytest.mark.parametrize("how", ["python", "magic"])
def test_a_replaced_model_that_cpp_opened_makes_the_run_cold(life, how):
    life.write(TOKENIZER)
    train(life.directory, 40)
    assert life.cold(how, "program.py") == life.warm("magic", "program.py") == "40\n"
    train(life.directory, 35)
    assert life.cold(how, "program.py", why=f"{life.directory}/m.model has changed") == "35\n"
    assert life.warm("magic", "program.py") == life.warm("python", "program.py") == "35\n"


@pytest.mark.parametrize("reader", READERS)
def test_an_edited_file_that_a_library_read_makes_the_run_cold(life, reader):
    life.write(READERS[reader].format(""))
    write_data(life.directory, "data")
    assert life.cold("python", "program.py") == life.warm("magic", "program.py") == "data\n"
    write_data(life.directory, "other")
    assert life.cold("magic", "program.py", why=f"{life.directory}/data.") == "other\n"
    assert life.warm("magic", "program.py") == "other\n"


def test_a_file_counts_as_it_was_when_the_library_opened_it(life):
    # somebody else's edit
    life.write(READERS["zlib"].format("os.system('test -e edited || echo other > data.txt; touch edited')"))
    write_data(life.directory, "data")
    ran = life.run("python", "program.py")
    assert (
        ran.out == "body\ndata\n" and not ran.has_committed and "data.txt changed while it was being loaded" in ran.err
    )
    assert life.cold("python", "program.py") == life.warm("python", "program.py") == "other\n\n"


def test_what_the_body_writes_is_output_though_libraries_read_it(life):
    life.write("""
        import tempfile
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            import sentencepiece
            files = tempfile.TemporaryDirectory()  # which goes when the program ends
            by_cpp, by_python = f"{files.name}/m.model", f"{files.name}/copy.model"
            lines = iter(f"word {i} of {i % 7} words" for i in range(500))
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_prefix=f"{files.name}/m",
                vocab_size=40, minloglevel=2)
            trained = sentencepiece.SentencePieceProcessor(model_file=by_cpp)
            with open(by_python, "wb") as file:
                file.write(trained.serialized_model_proto())
            pieces = sentencepiece.SentencePieceProcessor(model_file=by_python)
        print(len(pieces))
    """)
    assert (
        life.cold("python", "program.py")
        == life.warm("magic", "program.py")
        == life.warm("python", "program.py")
        == "40\n"
    )


def test_only_what_is_read_inside_a_transaction_belongs_to_it(life):
    life.write("""
        import ctypes, sys
        from magicheap import magic_transaction
        zlib = ctypes.CDLL("libz.so.1")
        zlib.gzopen.restype = ctypes.c_void_p
        def read(name):
            zlib.gzclose(ctypes.c_void_p(zlib.gzopen(name, b"rb")))
        try:
            with magic_transaction("fails.magic"):
                read(b"fails.txt")
                raise ValueError
        except ValueError:
            read(b"between.txt")
        with magic_transaction("base.magic"):
            print("body")
            read(b"base.txt")
        read(b"between.txt")
        with magic_transaction("layer.magic"):
            print("layer")
            read(b"layer.txt")
    """)
    names = ("fails.txt", "between.txt", "layer.txt", "base.txt")
    for name in names:
        (life.directory / name).write_text("data")
    life.run("python", "program.py")
    (life.directory / "layer.magic").unlink()  # the first holds everything; this one is on the base
    assert life.run("python", "program.py").out == "layer\n"
    outs = []
    for name in names:
        (life.directory / name).write_text("other")
        outs.append(life.run("python", "program.py").out)
        assert life.run("python", "program.py").out == ""
    assert outs == ["", "", "layer\n", "body\nlayer\n"]


def test_a_heap_inside_a_process_stays_ordinary_and_its_files_are_the_processs(life):
    life.write("""
        import ctypes, warnings
        from magicheap import magic_transaction
        zlib = ctypes.CDLL("libz.so.1")
        zlib.gzopen.restype = ctypes.c_void_p
        with magic_transaction("x.magic"):
            print("body")
            with warnings.catch_warnings(record=True) as caught:
                with magic_transaction("heap.magic", process=False) as heap:
                    heap.root = b"root"
                    zlib.gzclose(ctypes.c_void_p(zlib.gzopen(b"data.txt", b"rb")))
        print(heap.root, *(each.message for each in caught))
    """)
    (life.directory / "data.txt").write_text("data")
    assert "another transaction is active" in life.cold("python", "program.py")
    assert life.warm("magic", "program.py").startswith("b'root'")
    (life.directory / "data.txt").write_text("other")
    life.cold("magic", "program.py", why="data.txt has changed")


def test_what_is_buffered_at_the_commit_is_written_once_by_each_run(life):
    life.write("""
        import os, sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic"):
            print("body")
            log = open("log", "a")
            log.write("from the body\\n")
        log.write(f"{sys.argv[1]}\\n")
    """)
    life.cold("python", "program.py", "1")
    life.warm("magic", "program.py", "2")
    life.warm("python", "program.py", "3")
    assert (life.directory / "log").read_text() == "".join(f"from the body\n{n}\n" for n in (1, 2, 3))
