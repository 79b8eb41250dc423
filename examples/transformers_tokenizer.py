"""Cut a text into the tokens of a language model, by a tokenizer of transformers.

    magic examples/transformers_tokenizer.py "for line in file: print(line)"

A program would say AutoTokenizer.from_pretrained; this one trains its own, so that it needs no network.
"""

import sys

from magicheap import magic_transaction

with magic_transaction():
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    print(f"training on {len(topics)} topics of Python's manual", file=sys.stderr)
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer, pairs.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    pairs.train_from_iterator(topics.values(), trainers.BpeTrainer(vocab_size=8000, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pairs)

for token in tokenizer(" ".join(sys.argv[1:]))["input_ids"]:
    print(token, repr(tokenizer.decode(token)))
