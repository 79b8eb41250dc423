"""SmolLM2's answers, from weights that meet float32 activations, are those of a float32 computation (llama_oracle.py).

This judges everything but the rounding of activations to 8 bits, which test_llama_perplexity.py does.
"""

import numpy as np
import pytest
from llama_fixtures import real_model_path
from llama_oracle import Oracle, exact_activations

import llama

N_TOKENS = 64
# Largest difference of a logit. Logits span 69 here; sums in another order moved one by 1.3e-4 at most. The closest
# decision among these 1280 is one of 2.5e-3, so equal text is not luck.
BOUND = 5e-4

PROMPTS = (
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "1, 2, 3, 4, 5, 6, 7,",
    "Q: What is the boiling point of water in Celsius?\nA:",
    "To be, or not to be, that is",
    "<html>\n<head>\n<title>",
    "SELECT name, age FROM users WHERE",
    "La tour Eiffel se trouve à",
    "Die Hauptstadt von Deutschland ist",
    "The three laws of motion state that",
    "Ingredients:\n- 2 eggs\n- 200 g flour\n-",
    "Dear Sir or Madam,\n\nI am writing to",
    "In the beginning God created",
    "The square root of 144 is",
    "import numpy as np\n\nx = np.zeros((3, 4))\nprint(",
    "A haiku about the autumn wind:\n",
    "日本の首都は",
    "   indented text, with  double  spaces\tand tabs",
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
)


@pytest.fixture(scope="module")
def oracle():
    return Oracle.read(real_model_path())


@pytest.fixture(scope="module")
def model():
    model = llama.load(real_model_path())
    with exact_activations():
        yield model
    model.close()


def greedy(model, prompt):
    """Return (prompt and N_TOKENS greedy tokens, the logits each of those was picked from)."""
    sampler = llama.Sampler(temperature=0)
    with llama.Session(model, n_ctx=512, cache_type="f32") as session:
        session.feed(prompt)
        picked_from = []
        for _ in range(N_TOKENS):
            picked_from.append(np.frombuffer(session.logits, np.float32).copy())
            session.feed([sampler.pick(session)])
        return session.tokens, np.array(picked_from)


@pytest.mark.parametrize("text", PROMPTS)
def test_greedy_text_equals_the_oracles_token_by_token(model, oracle, text):
    prompt = model.tokenizer.encode(text, special=True, bos=True)
    tokens, found = greedy(model, prompt)
    expected = oracle.logits(tokens[:-1])[len(prompt) - 1 :]
    assert np.abs(found - expected).max() < BOUND
    assert expected.argmax(axis=1).tolist() == tokens[len(prompt) :]
