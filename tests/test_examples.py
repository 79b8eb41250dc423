"""Each example runs cold, then resumed in both ways, and prints what it prints without magicheap.

A body tells on stderr that it runs, so a resumed process is one that printed no such line. Those that need large
libraries are tested by tests/libraries.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TIMEOUT_S

MAGIC = Path(sys.executable).with_name("magic")

# name: arguments of the cold run, and of the resumed ones
EXAMPLES = {
    "minimal": (["1"], ["1000"]),
    "big_dict": (["1"], ["1357", "99999", "100000"]),
    "many_patterns": (["order 0007-b"], ["0042 and 0099-Z"]),
    "sqlite_memory": (["exception"], ["context", "manager"]),
    "numpy_sentencepiece": (["loop", "forever"], ["how do I delete an attribute"]),
}
SIZES = {"N_ENTRIES": "100000", "N_PATTERNS": "100"}  # so that they are light


def check_example(name, first, second, directory, **env):
    """Run the example with arguments `first`, then again with `second`; it must be resumed, and equal a run without
    snapshots."""
    script = str(ROOT / "examples" / f"{name}.py")

    def run(how, arguments, **more):
        done = subprocess.run(
            [how, script, *arguments],
            env={**os.environ, "XDG_CACHE_HOME": str(directory), "MAGICHEAP_LOG": "info", **env, **more},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, f"{how} {name}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        body = [line for line in done.stderr.splitlines() if not line.startswith("magicheap: ")]
        return done.stdout, body, done.stderr

    plain = run(sys.executable, second, MAGICHEAP_DISABLE="1")
    assert plain[1], "the body tells on stderr that it runs"
    cold = run(sys.executable, first)
    assert cold[:2] == run(sys.executable, first, MAGICHEAP_DISABLE="1")[:2]
    assert "magicheap: committed" in cold[2]
    for how in MAGIC, sys.executable:
        out, body, err = run(how, second)
        assert out == plain[0]
        assert body == [], err
        assert "magicheap: warm: " in err


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_resumes_and_says_what_it_says_without_a_snapshot(name, tmp_path):
    check_example(name, *EXAMPLES[name], tmp_path, **SIZES)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no repository")
def test_what_the_example_in_c_makes_is_ignored_by_git():
    done = subprocess.run(["git", "check-ignore", "examples/c/words"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "examples/c/words\n", done
