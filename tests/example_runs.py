"""An example as a user runs it: cold, then resumed in both ways, and each time as without snapshots."""

import os
import subprocess
import sys

from conftest import ROOT
from process_fixtures import LAUNCHER
from running import TIMEOUT_S


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
    for how in LAUNCHER, sys.executable:
        out, body, err = run(how, second)
        assert out == plain[0]
        assert body == [], err
        assert "magicheap: warm: " in err
