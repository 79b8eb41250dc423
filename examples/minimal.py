"""The body runs once; every later run of this file begins after it, with all objects of the body.

magic examples/minimal.py 1000
"""

import sys

from magicheap import magic_transaction

with magic_transaction():
    from itertools import compress

    print("looking for primes", file=sys.stderr)
    limit = 10_000_000
    is_prime = bytearray([0, 0]) + bytearray([1]) * (limit - 2)
    for n in range(2, int(limit**0.5) + 1):
        if is_prime[n]:
            is_prime[n * n :: n] = bytes(len(range(n * n, limit, n)))
    primes = list(compress(range(limit), is_prime))

# Arguments are read here: code before this line does not run again, but sys.argv is that of each run.
nth = int(sys.argv[1]) if sys.argv[1:] else 1000
print(f"prime number {nth} is {primes[nth - 1]}")
