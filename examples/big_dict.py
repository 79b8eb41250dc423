"""Look words up in a dict of five million entries.

    magic examples/big_dict.py 1357 99 4711

N_ENTRIES in the environment sets their number. The body depends on it, so `env=` names it: another number, another
load.
"""

import os
import sys

from magicheap import magic_transaction

with magic_transaction(env=["N_ENTRIES"]):
    n_entries = int(os.environ.get("N_ENTRIES", "5_000_000"))
    print(f"building {n_entries} entries", file=sys.stderr)
    squares = {f"{n} squared": n * n for n in range(n_entries)}

for word in sys.argv[1:]:
    print(word, "squared is", squares.get(f"{word} squared", "not here"))
