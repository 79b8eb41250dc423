"""Byte-level BPE on tables that need no construction: a run can use mapped tables at once.

Hugging Face's `tokenizers` cuts a text into words; merging is done here, because its BPE would first build hash maps of
every token and merge, which takes five times as long as all other work of Python for a short answer. `pack` lays the
merges out, once, so that bisection finds them:

    n_merges x uint64   left id << 32 | right id, ascending
    n_merges x uint32   rank of that merge, 0 is merged first
    n_merges x uint32   id of the resulting token
    the rest x uint32   ids of all tokens that text can become, ascending by spelling

Every number has its highest bit set, so that no word of the tables looks like an address to a scan of the heap.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from functools import lru_cache
from heapq import heapify, heappop, heappush

from llama._native import need

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HIGH_64, HIGH_32 = 1 << 63, 1 << 31
LOW_32 = HIGH_32 - 1
CACHED_WORDS = 1 << 14  # arbitrary; texts repeat their words

# How text is cut into words, by GGUF's tokenizer.ggml.pre. Patterns as in the models' own tokenizer.json.
PRE_TOKENIZERS = {
    "default": "gpt2",
    "gpt-2": "gpt2",
    "smollm": "digits",
    "llama-bpe": "llama3",
    "llama3": "llama3",
    "llama-v3": "llama3",
}
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pack(ids: dict[bytes, int], pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Return the tables. ids: {spelling: id} of tokens that text can become; pairs: (left, right) spellings, best
    first."""
    merges: dict[int, tuple[int, int]] = {}
    for rank, (left, right) in enumerate(pairs):
        merges.setdefault(ids[left] << 32 | ids[right], (rank, ids[left + right]))
    if len(merges) != len(pairs):
        raise ValueError("a merge is listed twice")
    keys = sorted(merges)
    tables = (
        array("Q", (key | HIGH_64 for key in keys)),
        array("I", (merges[key][0] | HIGH_32 for key in keys)),
        array("I", (merges[key][1] | HIGH_32 for key in keys)),
        array("I", (ids[spelling] | HIGH_32 for spelling in sorted(ids))),
    )
    return b"".join(table.tobytes() for table in tables)


class BytePairs:
    """An encoder over packed tables. spelling(id) returns a token's UTF-8 bytes as pack was given them."""

    def __init__(self, blob: Any, n_merges: int, spelling: Callable[[int], bytes], pre_tokenizer: str) -> None:
        view, n = memoryview(blob), n_merges
        self._keys: Any = view[: 8 * n].cast("Q") if n else ()
        self._ranks: Any = view[8 * n : 12 * n].cast("I") if n else ()
        self._made: Any = view[12 * n : 16 * n].cast("I") if n else ()
        self._sorted = view[16 * n :].cast("I")
        self._spelling = spelling
        self._takes_whole_words = PRE_TOKENIZERS[pre_tokenizer] == "llama3"  # as its tokenizer.json: ignore_merges
        self._cut = _word_cutter(PRE_TOKENIZERS[pre_tokenizer])
        self._unit = lru_cache(None)(self._find)
        self._word = lru_cache(CACHED_WORDS)(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text. Bytes that have no token are left out, as the reference does."""
        ids: list[int] = []
        for word, _ in self._cut(text):
            ids += self._word(word)
        return ids

    def _encode_word(self, word: str) -> list[int]:
        if self._takes_whole_words and (whole := self._find(word)) is not None:
            return [whole]
        return self._merge([unit for unit in map(self._unit, word) if unit is not None])

    def _find(self, spelling: str) -> int | None:
        """Return the id of the token with this spelling, or None."""
        wanted = spelling.encode()
        at = bisect_left(self._sorted, wanted, key=lambda i: self._spelling(i & LOW_32))
        if at < len(self._sorted):
            found = self._sorted[at] & LOW_32
            if self._spelling(found) == wanted:
                return found
        return None

    def _merge(self, ids: list[Any]) -> list[int]:
        """Merge adjacent ids, the best pair first, the leftmost of equals, until no pair is known."""
        n = len(ids)
        after, before = list(range(1, n + 1)), list(range(-1, n - 1))
        heap = [merge for i in range(n - 1) if (merge := self._merge_at(i, ids[i], ids[i + 1]))]
        heapify(heap)
        while heap:
            _, i, left, right, made = heappop(heap)
            j = after[i]
            if ids[i] != left or j == n or ids[j] != right:
                continue  # one of the two has been merged since
            ids[i], ids[j] = made, None
            after[i] = after[j]
            neighbours = [(before[i], i)] if before[i] >= 0 else []
            if after[i] < n:
                before[after[i]] = i
                neighbours.append((i, after[i]))
            for a, b in neighbours:
                if merge := self._merge_at(a, ids[a], ids[b]):
                    heappush(heap, merge)
        return [token for token in ids if token is not None]

    def _merge_at(self, i: int, left: int, right: int) -> tuple[int, int, int, int, int] | None:
        """Return (rank, i, left, right, id of the result), or None if no merge joins them."""
        key = left << 32 | right | HIGH_64
        at = bisect_left(self._keys, key)
        if at == len(self._keys) or self._keys[at] != key:
            return None
        return self._ranks[at] & LOW_32, i, left, right, self._made[at] & LOW_32


def _word_cutter(style: str) -> Callable[[str], list[tuple[str, Any]]]:
    need("tokenizers")
    from tokenizers import Regex, pre_tokenizers

    if style == "llama3":
        cuts: list[Any] = [pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated")]
    else:
        cuts = [pre_tokenizers.Digits(individual_digits=True)] if style == "digits" else []
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=style != "llama3")
    cut: Callable[[str], list[tuple[str, Any]]] = pre_tokenizers.Sequence([*cuts, spell]).pre_tokenize_str
    return cut
