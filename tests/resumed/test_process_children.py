"""How a resumed process ends, and what it may start: children, threads, event loops; and open files go on where they
were."""

import os
import pty
import signal

import pytest
from process_fixtures import LAUNCHER
from running import TIMEOUT_S

START = """
import asyncio, atexit, multiprocessing, os, signal, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from magicheap import magic_transaction
{before}
with magic_transaction("x.magic"):
    print("body")
    {body}
{after}
"""


def program(after, body="loaded = list(range(1000))", before=""):
    return START.format(after=after, body=body, before=before)


# ---- exits ----


@pytest.mark.parametrize(
    ("after", "status", "errors"),
    [
        ("sys.exit(0)", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('a reason')", 1, "a reason\n"),
        ("os._exit(5)", 5, ""),
        ("raise ValueError('wrong')", 1, "ValueError: wrong\n"),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("os.abort()", -signal.SIGABRT, ""),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT, "KeyboardInterrupt\n"),
    ],
)
def test_exit_status_and_errors_are_those_of_a_plain_run(life, after, status, errors):
    life.write(program(f"print('flushed', flush=True)\n{after}"))
    plain = life.run("python", "program.py", status=status)
    assert plain.has_committed
    for how in ("python", "magic"):
        ran = life.run(how, "program.py", status=status)
        assert ran.is_warm and ran.out == "flushed\n" and ran.err == plain.err and ran.err.endswith(errors)


def test_ctrl_c_reaches_a_resumed_process(life):
    life.write(
        program(
            "try:\n    print('waits', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('caught')"
        )
    )
    with life.start("python", "program.py") as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["body\n", "waits\n"]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=TIMEOUT_S)[0] == "caught\n"
    with life.start("magic", "program.py") as process:
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=TIMEOUT_S)[0] == "caught\n" and process.returncode == 0


def test_output_that_nobody_reads_any_more_ends_it_as_a_plain_run(life):
    life.write(program("for i in range(100_000):\n    print(i)"))
    life.cold("python", "program.py")
    results = []
    for env in ({"MAGICHEAP_DISABLE": "1"}, {}):
        with life.start("magic", "program.py", env=env) as process:
            process.stdout.readline()
            process.stdout.close()
            results.append((process.stderr.read().splitlines()[-2:], process.wait(timeout=TIMEOUT_S)))
    assert (
        results[0][1] == results[1][1] == 1
        and results[0][0][-1] == results[1][0][-1] == "BrokenPipeError: [Errno 32] Broken pipe"
    )


def test_what_was_to_be_done_at_exit_is_done_once_in_each_run(life):
    life.write(
        program("atexit.register(print, 'second')\nprint('unflushed', end=' ')", body="atexit.register(print, 'first')")
    )
    assert life.cold("python", "program.py") == life.warm("magic", "program.py") == "unflushed second\nfirst\n"


def test_the_end_of_a_transaction_closes_no_descriptor_of_a_resumed_process(life):
    life.write("""
        import os
        from magicheap import magic_transaction
        with magic_transaction("x.magic") as magic:
            print("body")
        opened = [os.open("/", os.O_RDONLY) for _ in range(9)]
        if magic.was_committed:
            del magic._tx
        print([fd for fd in opened if not os.path.exists(f"/proc/self/fd/{fd}")])
    """)
    life.cold("python", "program.py")
    assert life.warm("magic", "program.py") == "[]\n"


# ---- what it starts ----


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_start_in_every_way(life, method):
    life.write(f"""
        import multiprocessing
        from magicheap import magic_transaction
        def square(n):
            return n * n
        if __name__ == "__main__":
            with magic_transaction("x.magic"):
                print("body")
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                print(pool.map(square, range(5)))
    """)
    assert life.cold("python", "program.py") == life.warm("magic", "program.py") == "[0, 1, 4, 9, 16]\n"


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("print(subprocess.run(['/bin/echo', 'hello'], capture_output=True, text=True).stdout.strip())", "hello\n"),
        ("print(subprocess.run([sys.executable, '-c', 'import sys; sys.exit(4)']).returncode)", "4\n"),
        ("print(os.waitstatus_to_exitcode(os.system('exit 6')))", "6\n"),
        (
            (
                "child = os.fork()\nif not child:\n    os._exit(len(loaded) // 200)\n"
                "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
            ),
            "5\n",
        ),
        ("print(list(ThreadPoolExecutor(4).map(loaded.__getitem__, range(5))))", "[0, 1, 2, 3, 4]\n"),
        ("threading.Timer(0.01, print, ['timer']).start()", "timer\n"),
        (
            (
                "async def main():\n    await asyncio.sleep(0.001)\n    return await asyncio.to_thread(sum, loaded)\n"
                "print(asyncio.run(main()))"
            ),
            "499500\n",
        ),
        (
            (
                "async def main():\n    child = await asyncio.create_subprocess_exec('/bin/echo', 'x', stdout=-1)\n"
                "    return (await child.communicate())[0]\nprint(asyncio.run(main()))"
            ),
            "b'x\\n'\n",
        ),
    ],
    ids=["capture", "python", "system", "fork", "threads", "timer", "asyncio", "asyncio-child"],
)
def test_what_a_resumed_process_starts_works_as_in_a_plain_run(life, after, expected):
    life.write(program(after))
    assert life.cold("python", "program.py") == life.warm("magic", "program.py") == expected


def test_threads_of_the_body_that_have_ended_leave_nothing_behind(life):
    body = "pool = ThreadPoolExecutor(4); total = sum(pool.map(abs, range(100))); pool.shutdown()"
    life.write(program("print(total, threading.active_count(), len(os.listdir('/proc/self/task')))", body=body))
    assert life.cold("python", "program.py") == life.warm("magic", "program.py") == "4950 1 1\n"


# ---- standard streams ----


def test_input_and_output_are_those_of_each_run(life):
    life.write(program("print(sys.stdin.read().upper(), end='', flush=True)\nprint('errors', file=sys.stderr)"))
    life.cold("python", "program.py")
    (life.directory / "in.txt").write_text("from a file\n")
    with open(life.directory / "in.txt") as file, open(life.directory / "out.txt", "w+") as out:
        ran = life.run("magic", "program.py", stdin=file, stdout=out)
        out.seek(0)
        assert (out.read(), ran.err) == ("FROM A FILE\n", "errors\n")
    with life.start("magic", "program.py", stdin=-1) as process:
        out, err = process.communicate("from a pipe\n", timeout=TIMEOUT_S)
    assert out == "FROM A PIPE\n" and err.endswith("errors\n")


@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "012"])
def test_streams_that_are_closed_are_missing_as_in_a_plain_run(life, closed):
    life.write(
        program(
            "open('seen', 'w').write(repr([name for name in ('stdin', 'stdout', 'stderr') if getattr(sys, "
            "name) is None]))"
        )
    )
    life.cold("python", "program.py")
    closing = " ".join(f"{number}>&-" for number in closed)
    seen = []
    for disabled in ("1", "0"):
        life.run(
            "/bin/sh",
            "-c",
            f"exec {LAUNCHER} program.py {closing}",
            env={"MAGICHEAP_DISABLE": disabled, "MAGICHEAP_LOG": ""},
        )
        seen.append((life.directory / "seen").read_text())
    assert seen[0] == seen[1] and seen[0].count("std") == len(closed)


def test_a_terminal_is_a_terminal_in_each_run(life):
    life.write(
        program(
            "print(sys.stdin.isatty(), sys.stdout.isatty(), sys.stdout.line_buffering, "
            "os.get_terminal_size().columns >= 0, input('? '))"
        )
    )
    (life.directory / "in.txt").write_text("answer\n")
    outputs = []
    for _ in range(2):  # cold, then warm
        controller, terminal = pty.openpty()
        with life.start("magic", "program.py", stdin=terminal, stdout=terminal) as process:
            os.close(terminal)
            os.write(controller, b"answer\n")
            errors = process.stderr.read()
            process.wait(timeout=TIMEOUT_S)
        outputs.append(os.read(controller, 65536).decode().replace("\r\n", "\n").replace("body\n", ""))
        os.close(controller)
    assert "warm: " in errors and outputs[0] == outputs[1] and outputs[1].endswith("True True True True answer\n"), (
        outputs
    )


# ---- open files ----


def test_open_files_go_on_where_they_were(life):
    (life.directory / "read.txt").write_text("0123456789")
    life.write(
        program(
            (
                "print(reads.read(3), reads.tell())\nlog.write('again\\n'); log.close()\n"
                "print(os.get_inheritable(reads.fileno()))"
            ),
            body=(
                "reads = open('read.txt'); start = reads.read(4); log = open('log.txt', 'a'); "
                "log.write('body\\n'); log.flush()"
            ),
        )
    )
    assert (
        life.cold("python", "program.py")
        == life.warm("magic", "program.py")
        == life.warm("python", "program.py")
        == "456 7\nFalse\n"
    )
    assert (life.directory / "log.txt").read_text() == "body\nagain\n" * 3, "as after three plain runs"
