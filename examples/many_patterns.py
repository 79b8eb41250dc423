"""Tell which of ten thousand regular expressions match a text: a filter whose rules take seconds to compile.

    magic examples/many_patterns.py "order 4711-b, then call 0042"

N_PATTERNS in the environment sets their number.
"""

import os
import sys

from magicheap import magic_transaction

with magic_transaction(env=["N_PATTERNS"]):
    import re

    n_patterns = int(os.environ.get("N_PATTERNS", "10_000"))
    print(f"compiling {n_patterns} patterns", file=sys.stderr)
    rules = [re.compile(rf"\b{n:04d}(?:-(?P<revision>[a-z]))?\b", re.IGNORECASE) for n in range(n_patterns)]

text = " ".join(sys.argv[1:])
for rule in rules:
    if match := rule.search(text):
        print(match[0], match["revision"])
