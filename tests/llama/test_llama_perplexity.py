"""What the kernels round costs SmolLM2 next to nothing: its perplexity is nearly that of float32 arithmetic
(llama_oracle.py).

The text is a piece of Python's documentation, kept here because installed copies differ between patch releases. Both
sides foretell the same tokens with the same weights, so their ratio is far steadier than a perplexity is.
"""

import numpy as np
import pytest
from llama_fixtures import real_model_path
from perplexity import TEXT, WINDOW, by_kernels, by_reference, cut, perplexity, surprises

import llama

# Of the ratio. Activations rounded to 8 bits in blocks of 32 move it by 0.001 to 0.004, with how their scales are
# rounded; minima that are 1 % off, by 0.035.
BOUND = 0.005


@pytest.fixture(scope="module")
def model():
    model = llama.load(real_model_path())
    yield model
    model.close()


@pytest.fixture(scope="module")
def windows(model):
    return cut(model.tokenizer.encode(TEXT.read_text(encoding="utf-8")), WINDOW)


@pytest.fixture(scope="module")
def reference(windows):
    return perplexity(by_reference(real_model_path()), windows, n_at_once=2)


def test_the_text_is_long_enough_and_understood(windows, reference):
    assert sum(map(len, windows)) >= 4000
    assert reference < 20


@pytest.mark.parametrize("cache_type", ["i16", "q8_0"])
def test_perplexity_is_that_of_float32(model, windows, reference, cache_type):
    assert perplexity(by_kernels(model, cache_type), windows) == pytest.approx(reference, rel=BOUND)


def test_perplexity_of_known_probabilities_is_what_it_must_be():
    """A vocabulary of four, of which the next token has 1/2 and each other 1/6."""
    tokens = [0, 1, 2, 3, 0]
    logits = np.log(np.full((5, 4), 1 / 6, np.float32))
    logits[range(5), [1, 2, 3, 0, 1]] = np.log(1 / 2)
    assert surprises(logits, tokens) == pytest.approx([np.log(2)] * 4)
    assert perplexity(lambda piece: logits[: len(piece)], cut(tokens, 4)) == pytest.approx(2)
