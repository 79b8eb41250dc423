"""Cut Chinese text into words, by jieba's dictionary of 350,000.

magic examples/jieba_cut.py 我来到北京清华大学
"""

import sys

from magicheap import magic_transaction

with magic_transaction():
    import logging

    import jieba

    print("reading the dictionary", file=sys.stderr)
    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()

print("/".join(jieba.cut("".join(sys.argv[1:]))))
