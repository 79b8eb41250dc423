"""Tokens from a model: a session is one timeline of tokens, a sampler picks the next one."""

from __future__ import annotations

import os

from llama._kernels import ffi, lib
from llama._native import check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from llama._kernels import CData, mk_timeline, mk_workspace
    from llama._model import Model

CACHE_TYPES = {"i16": lib.MK_I16, "q8_0": lib.MK_Q8_0, "f32": lib.MK_F32}
CONTEXT_DEFAULT = 4096  # tokens, where the model was trained for more: bounds the KV cache unless a user asks for more
SCORES_NOT_FINITE = (
    "the scores of the next token are not finite: the model's weights are damaged, or too large to compute with"
)
PIECE = 128  # tokens evaluated per call, which bounds the delay of Ctrl-C; the pieces change no bit of the result


def context_of(model: Model, n_ctx: int | None) -> int:
    """Return the number of tokens that a session of this n_ctx holds."""
    return min(model.config.n_ctx_train, CONTEXT_DEFAULT) if n_ctx is None else n_ctx


class Sampler:
    """The settings by which the next token is drawn, and a random generator. Defaults are llama.cpp's.

    temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 are off. The same seed draws the same tokens.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.8,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        seed: int | None = None,
    ) -> None:
        self.seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
        fields = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        self._state = ffi.new("mk_sampler *", {**fields, "rng": self.seed})

    def pick(self, session: Session) -> int:
        """Return the id of the next token. Raises ModelError if the model's scores are not finite."""
        token = ffi.new("int32_t *")
        logits = ffi.from_buffer("float[]", session.logits)
        check(lib.mk_sample(self._state, logits, len(logits), token), SCORES_NOT_FINITE)
        return int(token[0])


class Session:
    """The KV cache of one conversation, and the threads that fill it. Close it before its Model.

    n_ctx: most tokens it can hold, at most what the model was trained for unless given.
    n_threads: as many as this process may use CPUs, unless fewer are wanted. Results do not depend on it. They start
        with the next feed(), and run until rest() or close().
    cache_type: how keys and values are kept: "i16" (16 bits, no less exact than halves), "q8_0" (little more than half
        as large), or "f32" (exact).
    """

    def __init__(
        self, model: Model, n_ctx: int | None = None, n_threads: int | None = None, cache_type: str = "i16"
    ) -> None:
        if cache_type not in CACHE_TYPES:
            raise ValueError(f"cache_type is {cache_type!r}, expected one of {', '.join(CACHE_TYPES)}")
        self._timeline: mk_timeline = ffi.NULL
        self._workspace: mk_workspace = ffi.NULL
        self._pool = ffi.NULL
        self.model = model
        self.tokens: list[int] = []  # in the KV cache
        timeline, workspace = ffi.new("mk_timeline **"), ffi.new("mk_workspace **")
        n_ctx = context_of(model, n_ctx)
        check(lib.mk_timeline_new(timeline, model.pointer, n_ctx, CACHE_TYPES[cache_type]))
        self._timeline = timeline[0]
        check(lib.mk_workspace_new(workspace, model.pointer, n_ctx))
        self._workspace = workspace[0]
        self._logits = ffi.new("float[]", model.config.n_vocab)
        self.n_ctx = n_ctx
        self.n_threads = n_threads
        self.stop_reason: str | None = None  # of the last generate(): "end", "length" or "context"

    @property
    def room(self) -> int:
        """How many more tokens fit."""
        return self.n_ctx - len(self.tokens)

    @property
    def logits(self) -> Any:
        """Buffer of n_vocab float32, the scores of the next token; the next call overwrites it."""
        return ffi.buffer(self._logits)

    def feed(self, tokens: list[int]) -> None:
        """Append tokens. Raises ContextError if they do not all fit, ValueError for one that does not exist."""
        pieces = self._pieces(tokens)
        for piece in pieces:
            self._append(lib.mk_eval, piece, self._logits if piece is pieces[-1] else ffi.NULL)

    def feed_all(self, tokens: list[int]) -> Any:
        """Append tokens as feed() does; return a buffer of (n_tokens, n_vocab) float32, the scores after each of
        them."""
        pieces = self._pieces(tokens)
        n_vocab = self.model.config.n_vocab
        logits = at = ffi.new("float[]", len(tokens) * n_vocab)
        for piece in pieces:
            self._append(lib.mk_eval_all, piece, at)
            at += len(piece) * n_vocab
            ffi.memmove(self._logits, at - n_vocab, ffi.sizeof(self._logits))
        return ffi.buffer(logits)

    def _pieces(self, tokens: list[int]) -> list[list[int]]:
        if len(tokens) > self.room:
            check(lib.MK_ERR_CONTEXT)
        return [tokens[at : at + PIECE] for at in range(0, len(tokens), PIECE)]

    def _append(self, evaluate: Callable[..., int], piece: list[int], logits: CData) -> None:
        timeline = self._open()
        if not self._pool:
            self._start_threads()
        check(evaluate(timeline, self._workspace, self.model.pointer, self._pool, piece, len(piece), logits))
        self.tokens += piece

    def rewind_to(self, tokens: list[int]) -> list[int]:
        """Keep the common beginning of the cache and `tokens`; return the rest, at least one token, to feed."""
        shared = 0
        while shared < min(len(self.tokens), len(tokens) - 1) and self.tokens[shared] == tokens[shared]:
            shared += 1
        check(lib.mk_timeline_truncate(self._open(), shared))
        del self.tokens[shared:]
        return tokens[shared:]

    @property
    def state_bytes(self) -> int:
        """Bytes that save_state() writes."""
        return lib.mk_timeline_state_bytes(self._open(), len(self.tokens))

    def save_state(self, buffer: memoryview) -> None:
        """Copy the cache of all `tokens` into a writable buffer of state_bytes, for load_state() of another session."""
        check(lib.mk_timeline_save(self._open(), ffi.from_buffer(buffer, require_writable=True), self.state_bytes))

    def load_state(self, tokens: list[int], buffer: bytes | memoryview) -> None:
        """Become a session that was fed `tokens`, of the same model, n_ctx and cache_type, from its state. There are no
        logits before the next feed(). Raises ValueError for a state of another size; the session is then as it was."""
        source = ffi.from_buffer(buffer)
        check(lib.mk_timeline_load(self._open(), source, len(source), len(tokens)))
        self.tokens = list(tokens)

    def generate(self, sampler: Sampler, limit: int = -1) -> Iterator[int]:
        """Yield sampled tokens after the fed ones, until an end token, `limit` (-1: none) or a full context.

        The last token yielded before the limit or a full context is not in the cache yet.
        """
        end_ids = self.model.tokenizer.end_ids
        self.stop_reason = "length"
        count = 0
        while count != limit:
            token = sampler.pick(self)
            if token in end_ids:
                self.stop_reason = "end"
                return
            yield token
            count += 1
            if not self.room:
                self.stop_reason = "context"
                return
            if count != limit:
                self.feed([token])

    def _start_threads(self) -> None:
        pool = ffi.new("mk_pool **")
        most = lib.MK_POOL_THREADS_MAX  # the pool takes at most one thread for each CPU
        check(lib.mk_pool_new(pool, min(self.n_threads or most, most)))
        self._pool = pool[0]

    def rest(self) -> None:
        """End the threads, as before a fork; `n_threads` may be set anew."""
        lib.mk_pool_free(self._pool)
        self._pool = ffi.NULL

    def _open(self) -> mk_timeline:
        if not self._timeline:
            raise ValueError("the session is closed")
        return self._timeline

    def close(self) -> None:
        """Free the cache and stop the threads."""
        self.rest()
        lib.mk_timeline_free(self._timeline)
        lib.mk_workspace_free(self._workspace)
        self._timeline = self._workspace = ffi.NULL

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
