"""What every test may use: programs that are run as a user would run them, once cold and again warm.

A warm run is another process by definition, so most tests are about short programs in files of their own. Each is
written once: a program that changes is a stale input of its own snapshot.
"""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from process_fixtures import life  # noqa: F401  # for every test of process snapshots
from running import TIMEOUT_S, finish, start

ROOT = Path(__file__).parent.parent
# the source tree has no compiled half
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

# as a shell starts what runs in the background, and nohup with it: programs here inherit it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Program:
    """A Python program in a file. Calling it runs it in its own directory and returns what it printed."""

    def __init__(self, path, source):
        self.path = path
        path.write_text(textwrap.dedent(source))

    def start(self, *arguments, env=(), flags=(), python=sys.executable, **options):
        """Start it, with pipes as its streams; `env`: variables to set, or to unset where the value is None."""
        wanted = {**os.environ, "XDG_CACHE_HOME": str(self.path.parent / "cache"), **dict(env)}
        return start([python, *flags, self.path, *arguments], wanted, cwd=self.path.parent, **options)

    def run(self, *arguments, status=0, **options):
        """Run it to its end, which must be `status`; return (stdout, stderr)."""
        return finish(self.start(*arguments, **options), status=status)

    def __call__(self, *arguments, **options):
        """Run it; nothing may be printed to stderr. Return the words of its stdout."""
        out, err = self.run(*arguments, **options)
        assert err == ""
        return out.split()


@pytest.fixture
def program(tmp_path):
    """Write a program: program(source) or program(source, name)."""
    return lambda source, name="program.py": Program(tmp_path / name, source)


COMMAND = [sys.executable, "-P", "-m", "magicheap"]  # -P: not from the directory we are in


@pytest.fixture(scope="session")
def magicheap():
    """Run the command `magicheap` to its end, which must be `status`; return what it printed to stdout,
    or to stderr if `errors` says so; the other one must be empty."""

    def run(*arguments, status=0, env=(), errors=False):
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={**os.environ, **dict(env)},
        )
        assert done.returncode == status, (
            f"exit status {done.returncode}, expected {status}\n{done.stdout}\n{done.stderr}"
        )
        assert (done.stdout if errors else done.stderr) == ""
        return done.stderr if errors else done.stdout

    return run
