"""The frame of the programs that are resumed: load modules, commit, and go on only in a process that did not load them.

The pid of the process that ran the body is part of the image, so that a resumed process knows that it is another one.
"""

import importlib
import os
import sys

NOT_RESUMED = 97  # arbitrary: no exit status of regrtest or pytest
ONLY_SAY = "--only-say-whether-resumed"  # the only argument of a run that is to end here


def resume_after(modules, use=lambda: None):
    """Return in a resumed process, with `modules` imported and `use` called; exit with NOT_RESUMED in one that had to
    do that."""
    from magicheap import magic_transaction

    with magic_transaction() as magic:
        for name in modules:
            importlib.import_module(name)
        use()
        loader = os.getpid()
    if os.getpid() == loader:
        print(f"not resumed: {magic.reason}", file=sys.stderr)
        sys.exit(NOT_RESUMED)
    if sys.argv[1:] == [ONLY_SAY]:
        sys.exit()
