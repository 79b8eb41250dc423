"""What the standard streams are is what a plain run has."""

import json
from typing import NamedTuple

from descriptors import Descriptors

PROGRAM = """
    import ctypes, fcntl, io, json, os, sys
    from magicheap import magic_transaction
    def tried(ask):
        try:
            return repr(ask())
        except Exception as error:
            return type(error).__name__
    c = ctypes.CDLL(None)
    {before}
    with magic_transaction() as magic:
        answer = tried(lambda: {ask})
    {behind}
    with open(os.environ["REPORT"], "w") as report:
        json.dump([answer, magic.was_committed, magic.committed, magic.reason], report)
"""


class Told(NamedTuple):
    answer: str
    is_warm: bool
    has_committed: bool
    reason: str


class Teller:
    """A program that tells what it was answered, in any streams."""

    def __init__(self, life, ask="None", before="pass", behind="pass", how="magic"):
        life.write(PROGRAM.format(ask=ask, before=before, behind=behind))
        self.life, self.how = life, how

    def run(self, *kinds, how="", **env):
        """kinds: of the three; fewer: pipes follow."""
        report = self.life.directory / "report"
        env |= {"REPORT": str(report), "MAGICHEAP_LOG": None}
        with Descriptors(self.life.directory, (*kinds, *("pipe",) * (3 - len(kinds)))) as streams:
            process = self.life.start(how or self.how, "program.py", env=env, **streams.options())
            assert process.wait(timeout=60) == 0
        return Told(*json.loads(report.read_text()))

    def plain(self, *kinds):
        return self.run(*kinds, how="python", MAGICHEAP_DISABLE="1").answer


def test_what_a_closed_stream_leaves_free_is_free_in_each_run(life):
    teller = Teller(life, behind="answer = os.open('/dev/null', os.O_RDONLY)")
    assert teller.plain("closed") == 0
    assert [teller.run("closed").answer for _ in range(2)] == [0, 0]
    assert teller.run("closed").is_warm
