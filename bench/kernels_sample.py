"""One sample of bench_kernels.py, of a model in a process snapshot, as magic-llama has it: what bench_llama_cpp.py runs
in turns with others.

    magic bench/kernels_sample.py MODEL THREADS N_PROMPT N_GENERATED

Prints tokens per second of a prompt and of a generation, after a prompt that warms up. The snapshot is in the user's
cache directory, and of the MODEL that it was first run for.
"""

from magicheap import magic_transaction

with magic_transaction():
    import sys

    from bench_kernels import rates

    import llama

    model = llama.load(sys.argv[1])

n_threads, n_prompt, n_generated = map(int, sys.argv[2:])
rates(model, n_threads, n_prompt, 1)
print(*rates(model, n_threads, n_prompt, n_generated))
