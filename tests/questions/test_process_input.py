"""What is read from where each run has something of its own, before the end of the body, is no later run's: there is no
snapshot, and it says why."""

import os

import pytest

PROGRAM = """
import os, sys
{before}
from magicheap import magic_transaction
with magic_transaction():
    {body}
print(repr(said))
"""

WAYS = {
    "Python's stream": "said = sys.stdin.read()",
    "its descriptor": "said = os.read(0, 9).decode()",
    "a copy": "said = os.fdopen(os.dup(0)).read()",
    "its name": "said = open('/dev/stdin').read()",
    "several pieces": "b = bytearray(9); n = os.readv(0, [b]); said = b[:n].decode()",
    "C's descriptor": (
        "import ctypes; b = ctypes.create_string_buffer(9); ctypes.CDLL(None).read(0, b, 9); said = b.value.decode()"
    ),
    "C's stream": "import ctypes; c = ctypes.CDLL(None); said = chr(c.getchar()) + chr(c.getchar())",
    "a stream that C opens": "import ctypes; c = ctypes.CDLL(None); c.fopen.restype = p = ctypes.c_void_p; f = "
    "c.fopen(b'/dev/stdin', b'r'); "
    "c.fgetc.argtypes = c.fclose.argtypes = [p]; said = chr(c.fgetc(f)) + chr(c.fgetc(f)); c.fclose(f)",
}


def check_refused(life, run, subject):
    for text in ("1\n", "2\n"):
        out, err = run(text)
        assert out == f"{text!r}\n" and "committed" not in err
    assert f"{subject} was read from" in err


@pytest.mark.parametrize("how", ["magic", "python"])
@pytest.mark.parametrize("is_file", [False, True], ids=["pipe", "file"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_the_body_read_from_standard_input_is_no_later_runs(life, how, is_file, way):
    life.write(PROGRAM.format(before="", body=way))

    def run(text):
        if is_file:
            (life.directory / "input").write_text(text)
            with open(life.directory / "input") as file, life.start(how, "program.py", stdin=file) as process:
                return process.communicate(timeout=60)
        with life.start(how, "program.py", stdin=-1) as process:
            return process.communicate(text, timeout=60)

    check_refused(life, run, "standard input")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_nor_is_what_was_read_before_the_with_where_magic_would_not_read_it_again(life, way):
    life.write(PROGRAM.format(before=way, body="pass"))
    for text in ("1\n", "2\n"):
        with life.start("magic", "program.py", stdin=-1) as process:
            out, err = process.communicate(text, timeout=60)
        assert out == f"{text!r}\n" and "committed" not in err


def test_what_an_inherited_descriptor_brings_is_no_later_runs(life):
    life.write(PROGRAM.format(before="", body="said = open(sys.argv[1]).read()"))

    def run(text):
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        with life.start("magic", "program.py", f"/dev/fd/{reader}", pass_fds=[reader]) as process:
            os.close(reader)
            return process.communicate(timeout=60)

    check_refused(life, run, "a file, pipe or socket that the process was started with")


def test_what_a_named_pipe_brings_is_no_later_runs(life):
    life.write(PROGRAM.format(before="", body="said = open('pipe').read()"))
    os.mkfifo(life.directory / "pipe")

    def run(text):
        with life.start("magic", "program.py") as process:
            (life.directory / "pipe").write_text(text)
            return process.communicate(timeout=60)

    check_refused(life, run, "a named pipe")


LOOKS = {
    "select": "import select; said = bool(select.select([0], [], [], 0)[0])",
    "poll": "import select; poll = select.poll(); poll.register(0, select.POLLIN); said = bool(poll.poll(0))",
    "epoll": (
        "import select; wait = select.epoll(); wait.register(0, select.EPOLLIN); said = bool(wait.poll(0)); "
        "wait.close()"
    ),
    "FIONREAD": "import fcntl, termios; said = fcntl.ioctl(0, termios.FIONREAD, bytes(4)) != bytes(4)",
}


@pytest.mark.parametrize("how", ["magic", "python"])
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_whether_there_is_something_to_read_is_an_answer_too(life, how, look):
    life.write(PROGRAM.format(before="", body=look))
    for text in (b"", b"1"):
        reader, writer = os.pipe()
        os.write(writer, text)
        with life.start(how, "program.py", stdin=reader) as process:
            os.close(reader)
            out, err = process.communicate(timeout=60)
        os.close(writer)
        assert out == f"{bool(text)!r}\n" and "committed" not in err


@pytest.mark.parametrize("how", ["magic", "python"])
def test_what_the_process_makes_and_reads_itself_prevents_nothing(life, how):
    life.write(
        PROGRAM.format(
            before="",
            body=(
                "print('body'); r, w = os.pipe(); os.write(w, b'1'); said = os.read(r, 1); os.close(r); "
                "os.close(w); open(os.devnull).read()"
            ),
        )
    )
    assert life.cold(how, "program.py") == life.warm(how, "program.py") == "b'1'\n"
