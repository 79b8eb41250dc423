"""Search Python's own manual in an SQLite database that was never on a disk.

magic examples/sqlite_memory.py context manager
"""

import sys

from magicheap import magic_transaction

with magic_transaction():
    import sqlite3
    from pydoc_data.topics import topics

    print(f"indexing {len(topics)} topics", file=sys.stderr)
    manual = sqlite3.connect(":memory:")
    manual.execute("CREATE VIRTUAL TABLE page USING fts5(topic, text, tokenize = 'porter')")
    manual.executemany("INSERT INTO page VALUES (?, ?)", topics.items())
    manual.commit()

QUERY = "SELECT topic, snippet(page, 1, '', '', '...', 8) FROM page WHERE page MATCH ? ORDER BY rank LIMIT 3"
for topic, excerpt in manual.execute(QUERY, [" ".join(sys.argv[1:])]):
    print(f"{topic}: {' '.join(excerpt.split())}")
