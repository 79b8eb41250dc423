"""Find the page of Python's manual that a question is about: SentencePiece cuts the words, numpy compares the pages.

magic examples/numpy_sentencepiece.py how do I raise an exception
"""

import sys

from magicheap import magic_transaction

with magic_transaction():
    import io
    from pydoc_data.topics import topics

    import numpy as np
    import sentencepiece

    print(f"reading {len(topics)} topics", file=sys.stderr)
    lines = iter("\n".join(topics.values()).splitlines())
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, vocab_size=4000, minloglevel=2
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())

    counts = np.stack([np.bincount(pieces.encode(text), minlength=len(pieces)) for text in topics.values()])
    rarity = np.log(len(topics) / np.maximum(1, (counts > 0).sum(axis=0)))
    pages = np.log1p(counts) * rarity
    pages /= np.linalg.norm(pages, axis=1, keepdims=True)

question = np.bincount(pieces.encode(" ".join(sys.argv[1:])), minlength=len(pieces)) * rarity
likeness = pages @ question
for i in np.argsort(-likeness)[:3]:
    print(f"{likeness[i]:.2f} {list(topics)[i]}")
