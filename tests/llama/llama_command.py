"""magic-llama as a test runs it: without a snapshot of the model unless it asks for one, and the cache shared with
nobody."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest
from llama_fixtures import real_model_path
from running import TIMEOUT_S, start

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # users buffer


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Even --no-snapshot starts from one of the imports."""
    ENVIRONMENT["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def command(model, *arguments):
    snapshot = [] if "--snapshot" in arguments else ["--no-snapshot"]
    return [sys.executable, "-P", "-m", "llama", "-m", str(model), *snapshot, *map(str, arguments)]


def run(model, *arguments, status=0, **options):
    """Run the command to its end; return (stdout, stderr)."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if "input" not in options:
        streams["stdin"] = subprocess.DEVNULL
    done = subprocess.run(command(model, *arguments), timeout=TIMEOUT_S, **{"env": ENVIRONMENT, **streams, **options})
    assert done.returncode == status, done.stderr
    return done.stdout, (done.stderr or b"").decode()


def found_in(text, pattern):
    """Return what the group of a pattern matches in a text, where it must be."""
    found = re.search(pattern, text)
    assert found, text
    return found[1]


class Terminal:
    """The command with a terminal as stdin; stdout and stderr are pipes."""

    def __init__(self, *arguments, model=None):
        self.screen, keyboard = pty.openpty()
        words = command(model or real_model_path(), "-i", "--temp", 0, *arguments)
        self.process = start(words, ENVIRONMENT, stdin=keyboard, text=False, start_new_session=True)
        os.close(keyboard)

    def type(self, text):
        os.write(self.screen, text.encode())

    def wait_for_prompt(self):
        """Read stderr up to the next prompt and return what came before it."""
        seen = b""
        deadline = time.monotonic() + TIMEOUT_S
        while not seen.endswith(b"> "):
            assert time.monotonic() < deadline
            byte = os.read(self.process.stderr.fileno(), 1)
            assert byte, f"ended without a prompt: {seen!r}"
            seen += byte
        return seen[:-2].decode()

    def end(self):
        """Close the terminal's input, return what was answered and the exit status."""
        self.type("\x04")
        out, _ = self.process.communicate(timeout=TIMEOUT_S)
        os.close(self.screen)
        return out.decode(), self.process.returncode
