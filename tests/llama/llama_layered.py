"""magic-llama with its layers, and what it tells of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from llama_command import found_in
from llama_fixtures import write_gguf
from running import finish, start

LAUNCHER = Path(sys.executable).with_name("magic-llama")
SAMPLED = ("-n", 40, "--seed", 5, "--temp", 2)  # a text that one changed bit of a logit would soon change


class Command:
    """magic-llama with a cache directory of its own. A call runs it and returns (answer, how): `how` tells of each
    layer, from the imports on, whether it was made or resumed."""

    def __init__(self, cache):
        self.cache = cache
        self.log = ""  # of the last run

    def start(self, model, *arguments, command=(LAUNCHER,), env=(), **options):
        return start(
            [*command, "-m", model, "--timings", *arguments],
            {**os.environ, "XDG_CACHE_HOME": str(self.cache), "MAGICHEAP_LOG": "info", **dict(env)},
            **{"text": False, "stdin": subprocess.DEVNULL, **options},
        )

    def end(self, process, text=None, status=0):
        out, err = finish(process, text, status)
        self.log = err.decode()
        words = re.findall(r"magic-llama: (?:model  |prefix +\d+ tokens) (\w+)", self.log)
        words.insert(0, found_in(self.log, r"magicheap: (\w+)"))
        return out, ["resumed" if word in ("resumed", "warm") else "made" for word in words]

    def __call__(self, model, *arguments, text=None, status=0, **options):
        if text is not None:
            options["stdin"] = subprocess.PIPE
        elif "-p" not in arguments:
            arguments = (*arguments, "-p", "Say anything.")
        return self.end(self.start(model, *arguments, **options), text, status)

    def layers(self):
        """Return the snapshots of imports, model and prefix that there are, in this order."""
        found = (self.cache / "magicheap").glob("*.magic")
        return sorted(found, key=lambda path: (not path.name.startswith("llama-"), "-prefix-" in path.name))


@pytest.fixture
def ask(tmp_path):
    return Command(tmp_path / "cache")


@pytest.fixture
def tiny(tmp_path):
    return write_gguf(tmp_path / "m.gguf")
