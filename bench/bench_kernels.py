"""How many tokens per second the kernels evaluate: a prompt at once, and one token after another.

    python bench/bench_kernels.py MODEL [--threads 1 2] [--runs N]

Tokens are arbitrary and the context starts empty, as in llama-bench's pp and tg. Median and best: on a shared machine
the best says more about the kernels, the median about the machine.
"""

import argparse
import statistics
import time

import llama

N_PROMPT, N_GENERATED = 512, 64


def rates(
    model: llama.Model, n_threads: int, n_prompt: int = N_PROMPT, n_generated: int = N_GENERATED
) -> tuple[float, float]:
    """Return tokens per second of one prompt and of one generation."""
    tokens = [at % model.config.n_vocab for at in range(max(n_prompt, n_generated + 1))]
    with llama.Session(model, n_ctx=len(tokens), n_threads=n_threads) as session:
        start = time.perf_counter()
        session.feed(tokens[:n_prompt])
        prompt = n_prompt / (time.perf_counter() - start)
    with llama.Session(model, n_ctx=len(tokens), n_threads=n_threads) as session:
        session.feed(tokens[:1])
        start = time.perf_counter()
        for token in tokens[1 : n_generated + 1]:
            session.feed([token])
        return prompt, n_generated / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the llama kernels.")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    model = llama.load(args.model)
    found = {n: [rates(model, n) for _ in range(args.runs)] for n in args.threads}
    print(f"{'threads':>7} {'prompt tok/s':>20} {'generation tok/s':>20}   median (best)")
    for n, runs in found.items():
        columns = [f"{statistics.median(column):.0f} ({max(column):.0f})" for column in zip(*runs, strict=True)]
        print(f"{n:>7} {columns[0]:>20} {columns[1]:>20}")


if __name__ == "__main__":
    main()
