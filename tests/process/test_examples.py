"""Each example runs cold, then resumed in both ways, and prints what it prints without magicheap.

A body tells on stderr that it runs, so a resumed process is one that printed no such line. Those that need large
libraries are tested by tests/libraries.
"""

import subprocess

import pytest
from conftest import ROOT
from example_runs import check_example

# name: arguments of the cold run, and of the resumed ones
EXAMPLES = {
    "minimal": (["1"], ["1000"]),
    "big_dict": (["1"], ["1357", "99999", "100000"]),
    "many_patterns": (["order 0007-b"], ["0042 and 0099-Z"]),
    "sqlite_memory": (["exception"], ["context", "manager"]),
    "numpy_sentencepiece": (["loop", "forever"], ["how do I delete an attribute"]),
}
SIZES = {"N_ENTRIES": "100000", "N_PATTERNS": "100"}  # so that they are light


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_resumes_and_says_what_it_says_without_a_snapshot(name, tmp_path):
    check_example(name, *EXAMPLES[name], tmp_path, **SIZES)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no repository")
def test_what_the_example_in_c_makes_is_ignored_by_git():
    done = subprocess.run(["git", "check-ignore", "examples/c/words"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "examples/c/words\n", done
