"""Programs that commit their own process, run as a user would: by python, by the launcher, with any environment.

The body of each transaction prints a line "body", so that a run which resumed shows by its output that it did not load.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from running import finish, start

LOG = "magicheap: "
PYTHON = Path(sys.executable)
LAUNCHER = PYTHON.with_name("magic")  # where pip puts it


class Run(NamedTuple):
    """What a program did."""

    status: int
    out: str
    err: str  # without what magicheap logs
    log: list[str]

    @property
    def is_warm(self):
        return "body\n" not in self.out and any(line.startswith("warm: ") for line in self.log)

    @property
    def has_committed(self):
        return any(line.startswith("committed ") for line in self.log)

    @property
    def reason(self):
        """Why the first transaction is cold, or ""."""
        return next((line[len("cold: ") :] for line in self.log if line.startswith("cold: ")), "")


class Life:
    """A directory with programs, and a cache of its own."""

    def __init__(self, directory):
        self.directory = directory
        self.cache = directory / "cache" / "magicheap"
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "MAGICHEAP_"))
        }
        self.env |= {"XDG_CACHE_HOME": str(directory / "cache"), "MAGICHEAP_LOG": "info"}

    def write(self, source, name="program.py"):
        path = self.directory / name
        path.write_text(textwrap.dedent(source))
        return path

    def start(self, *command, env=(), **options):
        """Start it, with pipes as its streams; `env`: variables to set, or to unset where the value is None."""
        names = {"python": PYTHON, "magic": LAUNCHER}
        words = [names.get(command[0], command[0]), *command[1:]]
        return start(
            words, {**self.env, **dict(env)}, **{"cwd": self.directory, "stdin": subprocess.DEVNULL, **options}
        )

    def run(self, *command, status=0, **options):
        """Run it to its end, which must be `status`."""
        out, err = finish(self.start(*command, **options), status=status)
        lines = (err or "").splitlines(keepends=True)
        log = [line[len(LOG) :].rstrip("\n") for line in lines if line.startswith(LOG)]
        return Run(status, out or "", "".join(line for line in lines if not line.startswith(LOG)), log)

    def cold(self, *command, why="", **options):
        """Run it; it must load, because of `why`, and commit. Return its output without the body's."""
        ran = self.run(*command, **options)
        assert "body\n" in ran.out and ran.has_committed and why in ran.reason, ran
        return ran.out.replace("body\n", "")

    def warm(self, *command, **options):
        """Run it; it must resume. Return its output."""
        ran = self.run(*command, **options)
        assert ran.is_warm and (ran.err == "" or options.get("status")), ran
        return ran.out

    def snapshot(self):
        """The only snapshot in the cache."""
        (path,) = self.cache.glob("*.magic")
        return path


@pytest.fixture
def life(tmp_path):
    """An empty directory for programs."""
    return Life(tmp_path)
