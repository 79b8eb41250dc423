"""Where somebody watches a process, or works inside it, it is neither exchanged nor committed."""

import os
import pty
import subprocess
import sys
import textwrap

import pytest

WHY = "from magicheap._surroundings import why_not"
ASK = f"{WHY}; print(why_not(), flush=True)"


def answer(*command, stdin=subprocess.DEVNULL, env=()):
    environ = {**os.environ, **dict(env)}
    done = subprocess.run([*map(str, command)], stdin=stdin, capture_output=True, text=True, timeout=60, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ask(source, *flags, **options):
    return answer(sys.executable, "-P", *flags, "-c", textwrap.dedent(source), **options)


@pytest.fixture
def script(tmp_path):
    def write(source, name="script.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return path

    return write


def test_a_plain_run_is_fine(script):
    assert answer(sys.executable, script(ASK)) == ""
    assert ask(ASK) == ""


REASONS = {
    "interactive": ["import sys; sys.ps1 = '>>> '", "environ: PYTHONINSPECT", "flag: -i"],
    "a debugger or coverage is tracing": ["import sys; sys.settrace(lambda *_: None)"],
    "a profiler is active": [
        "import cProfile; cProfile.Profile().enable()",
        "import sys; sys.setprofile(lambda *_: None)",
    ],
    "standard input has been read from": [
        "input()",
        "import sys; sys.stdin.buffer.read(1)",
        "import sys; sys.stdin.detach()",
    ],
}


@pytest.mark.parametrize(
    ("reason", "source"), [(reason, source) for reason, sources in REASONS.items() for source in sources]
)
def test_the_reason_is_told(tmp_path, reason, source):
    kind, _, value = source.partition(": ")
    flags, env, before = [], {}, ""
    if kind == "flag":
        flags = [value]
    elif kind == "environ":
        env = {value: "1"}
    else:
        before = source
    (tmp_path / "in").write_text("first\nsecond\n")
    with open(tmp_path / "in") as stdin:
        assert reason in ask(
            f"{before}\n{ASK}\nimport os; os._exit(0)" if env or flags else f"{before}\n{ASK}",
            *flags,
            env=env,
            stdin=stdin,
        )


@pytest.mark.parametrize("before", ["", "import sys; sys.stdin.reconfigure(errors='replace')"])
def test_input_that_is_not_there_yet_is_not_waited_for(before):
    read, write = os.pipe()
    assert ask(f"{before}\n{ASK}", stdin=read) == ""
    os.write(write, b"first\nsecond\n")
    assert ask(f"{before}\n{ASK}; print(input())", stdin=read) == "first"
    os.close(read)
    os.close(write)


def test_input_from_a_terminal_is_not_waited_for():
    own, terminal = pty.openpty()
    assert ask(ASK, stdin=terminal) == ""
    os.close(own)
    os.close(terminal)


@pytest.mark.parametrize("closed", ["os.close(0)", "sys.stdin.close()", "sys.stdin = sys.__stdin__ = None"])
def test_no_input_is_fine(closed):
    assert ask(f"import os, sys; {closed}; {ASK}") == ""


RUNNERS = {
    "pytest": ("-m", "pytest", "-sq", "-p", "no:cacheprovider"),
    "unittest": ("-m", "unittest"),
    "doctest": ("-m", "doctest", "-v"),
    "a profiler": ("-m", "cProfile"),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_under_a_runner_it_is_told_which(script, runner):
    source = f'''
    {WHY}
    def test_one():
        """
        >>> print(why_not())
        """
        print("why:", why_not())
    import unittest
    class Test(unittest.TestCase):
        def test_two(self):
            print("why:", why_not())
    if __name__ == "__main__": test_one()
    '''
    done = subprocess.run(
        [sys.executable, *RUNNERS[runner], script(source, "test_it.py")],
        capture_output=True,
        text=True,
        cwd=script("").parent,
    )
    assert f"{runner} runs the program" in done.stdout or (
        runner == "a profiler" and "why: a profiler" in done.stdout
    ), done.stdout


def test_a_program_that_only_imports_pytest_is_fine():
    assert ask(f"import pytest, unittest, doctest, pdb, cProfile; {ASK}") == ""


@pytest.mark.parametrize("tool", ["pdb", "trace"])
def test_a_tracer_of_the_standard_library_is_seen(script, tool):
    flags = ["-c", "continue"] if tool == "pdb" else ["--count", "--no-report"]
    out = subprocess.run(
        [sys.executable, "-m", tool, *flags, script(ASK)], input="q\n", capture_output=True, text=True
    ).stdout
    assert "a debugger" in out or "a profiler runs" in out


def test_an_interactive_console_is_seen():
    assert "an interactive prompt" in ask(f"import code; code.InteractiveInterpreter().runsource({ASK!r})")


def test_a_running_loop_is_seen():
    assert "an asyncio loop" in ask(f"import asyncio\nasync def main():\n    {ASK}\nasyncio.run(main())")


def test_another_thread_is_refused():
    assert "not the main thread" in ask(
        f"import threading; {WHY}; threading.Thread(target=lambda: print(why_not())).start()"
    )


def test_a_subinterpreter_is_refused():
    code = "import magicheap._surroundings as s; import os; os.write(1, s.why_not().encode())"
    source = f"""
    try: import _xxsubinterpreters as interpreters
    except ImportError: import _interpreters as interpreters
    interpreters.run_string(interpreters.create(), {code!r})
    """
    assert "main interpreter" in ask(source)


def test_a_forked_child_is_refused():
    assert "was forked" in ask(f"import os; {WHY}; os.fork() or (print(why_not(), flush=True), os._exit(0)); os.wait()")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_of_multiprocessing_is_refused(script, method):
    source = f"""
    {WHY}
    import multiprocessing
    def work(): print(why_not(), flush=True)
    if __name__ == "__main__": multiprocessing.get_context({method!r}).Process(target=work).start()
    """
    out = answer(sys.executable, script(source))
    assert "a worker of multiprocessing" in out or "was forked" in out


def test_a_traced_process_is_refused():
    source = f"""
    import ctypes, os, signal, types
    {WHY}
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).ptrace(0, 0, 0, 0)  # PTRACE_TRACEME
        from magicheap import _surroundings
        _surroundings.lib = types.SimpleNamespace(mh_first_id=os.getpid)
        print(why_not(), flush=True)
        os._exit(0)
    os.wait()
    """
    assert "is tracing" in ask(source)


def test_an_embedded_interpreter_is_refused():
    assert "is embedded" in ask(f"import sys; sys.executable = '/bin/sh'; {ASK}")
    assert ask(f"import sys; sys.executable = '/bin/sh'; {WHY}; print(why_not(is_resumed=True))") == ""
