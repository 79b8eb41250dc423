"""How well a model foretells a text: by the kernels, and by float32 arithmetic on the same dequantised weights.

    python bench/perplexity.py MODEL.gguf [--text FILE] [--window 512] [--cache-type i16] [--threads N] [--reference]

Perplexity is exp(mean of -log p(token | those before it in its window)). Windows lie end to end; each begins with an
empty context, so that its first token only serves the others. --reference adds numpy's float32 arithmetic on the same
weights (tests/llama/llama_oracle.py; needs gguf), so that the ratio of the two is what the kernels' rounding costs.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import llama

TESTS = Path(__file__).parent.parent / "tests/llama"
TEXT = TESTS / "data/python_reference.txt"
WINDOW = 512  # tokens, as llama-perplexity's default

Scorer = Callable[[list[int]], np.ndarray]  # tokens -> (n_tokens, n_vocab) float32 logits after each


def cut(tokens: list[int], window: int) -> list[list[int]]:
    """Return windows of the text, without a last one too short to foretell anything."""
    pieces = [tokens[at : at + window] for at in range(0, len(tokens), window)]
    return [piece for piece in pieces if len(piece) > 1]


def surprises(logits: np.ndarray, tokens: list[int]) -> np.ndarray:
    """Return -log p of every token but the first, by the logits after the one before it."""
    scores = logits[:-1] - logits[:-1].max(axis=1, keepdims=True)
    foretold = scores[np.arange(len(scores)), tokens[1:]]
    return np.log(np.exp(scores, out=scores).sum(axis=1, dtype=np.float64)) - foretold


def perplexity(score: Scorer, windows: list[list[int]], n_at_once: int = 1) -> float:
    """Return the perplexity of all windows together; n_at_once of them are computed side by side."""
    # BLAS's own threads spin, and a window is work enough
    with threadpool_limits(1), ThreadPoolExecutor(n_at_once) as pool:
        found = pool.map(lambda tokens: surprises(score(tokens), tokens), windows)
        return math.exp(np.concatenate(list(found)).mean())


def by_kernels(model: llama.Model, cache_type: str = "i16", n_threads: int | None = None) -> Scorer:
    """Return the logits of a session that begins anew with each window."""

    def score(tokens: list[int]) -> np.ndarray:
        with llama.Session(model, len(tokens), n_threads, cache_type) as session:
            return np.frombuffer(session.feed_all(tokens), np.float32).reshape(len(tokens), -1)

    return score


def by_reference(path: str | Path) -> Scorer:
    """Return the logits of numpy's arithmetic on the dequantised weights of a GGUF file."""
    sys.path.append(str(TESTS))
    from llama_oracle import Oracle

    return Oracle.read(path).logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument(
        "--text", type=Path, default=TEXT, help="a UTF-8 file (default: a piece of Python's documentation)"
    )
    parser.add_argument("--window", type=int, default=WINDOW, help="tokens (default %(default)s)")
    parser.add_argument(
        "--cache-type", choices=("i16", "q8_0", "f32"), default="i16", help="of the kernels (default %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(default %(default)s)")
    parser.add_argument("--reference", action="store_true", help="compute it in float32, too")
    options = parser.parse_args()
    if options.window < 2:
        parser.error("a window needs a token to foretell and one before it")
    model = llama.load(options.model)
    windows = cut(model.tokenizer.encode(options.text.read_text(encoding="utf-8")), options.window)
    if not windows:
        parser.error(f"{options.text} is too short")
    n_foretold = sum(len(tokens) - 1 for tokens in windows)
    print(f"{n_foretold} tokens foretold in {len(windows)} windows of at most {options.window}")
    kernels = perplexity(by_kernels(model, options.cache_type, options.threads), windows)
    print(f"kernels {kernels:10.4f}", flush=True)
    if options.reference:
        reference = perplexity(by_reference(options.model), windows, options.threads)
        print(f"float32 {reference:10.4f}\nratio   {kernels / reference:10.6f}")


if __name__ == "__main__":
    main()
