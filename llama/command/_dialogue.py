"""Turns of one conversation, answered to stdout as the tokens come.

Each turn renders the whole conversation and evaluates only what the KV cache does not hold yet.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from llama.command._options import UsageError
from llama.command._prompt import tell
from llama.engine._generate import Sampler, Session, context_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from llama._model import Model
    from llama.command._prefixes import State

STOPPED = {"end": "the answer ended", "length": "-n was reached", "context": "the context is full"}


class Dialogue:
    """A conversation with a Model that begins with the options' system message and the text `prefix`. Close it before
    the model.

    Call set_options() before answer(). It may be called in another process than __init__, which uses only the options
    that belong to the text.
    """

    def __init__(self, model: Model, args: argparse.Namespace, prefix: str = "") -> None:
        self._model = model
        is_chat = bool(model.chat_template) and not args.raw
        if args.system and not is_chat:
            raise UsageError("--system needs a chat template: the model has none, or --raw is given")
        self._script: Chat | Text = Chat(model, args.system, prefix) if is_chat else Text(model, prefix)
        self.most_bytes = most_bytes(model, args.ctx)
        self.session = Session(model, args.ctx, cache_type=args.cache_type)

    def evaluate_prefix(self, state: State | None = None) -> tuple[int, int]:
        """Evaluate the text before the first turn, and end the threads; return the number of tokens, and of those taken
        from `state`.

        state: the State of a dialogue with the same model, context and cache type, which is then closed; or None.
        """
        tokens = list(os.path.commonprefix([self._tokens([], turn) for turn in ("a", "b")]))
        if state is not None:
            with contextlib.suppress(ValueError):  # then all is evaluated
                self.session.load_state(state.tokens, state.buffer)
            state.close()
        fresh = self.session.rewind_to(tokens) if tokens else []
        self.session.feed(fresh)
        self.session.rest()
        return len(tokens), len(tokens) - len(fresh)

    def set_options(self, args: argparse.Namespace) -> None:
        """Take the options that concern the answers of this run."""
        self._limit, self._timings, self._forgets = args.n, args.timings, args.interactive
        self._ends_lines = args.interactive or sys.stdout.isatty()
        self.session.n_threads = args.threads
        self._sampler = Sampler(
            temperature=args.temp,
            top_k=args.top_k,
            top_p=args.top_p,
            min_p=args.min_p,
            seed=None if args.seed == -1 else args.seed,
        )

    def answer(self, turn: str) -> None:
        """Stream the answer to the user's next turn; the turn is remembered even if the answer is interrupted.

        Raises UsageError when it does not fit the context; the conversation is then as it was.
        """
        turns, tokens = self._fitted(turn)
        text: list[str] = []
        answered: list[int] = []
        start = time.perf_counter()
        try:
            fresh = self.session.rewind_to(tokens)
            self.session.feed(fresh)
            evaluated = time.perf_counter()
            self._stream(text, answered)
        finally:
            self._script.add(turns, turn, tokens, answered, "".join(text))
        if self._timings:
            tell(f"prompt  {_speed(len(fresh), evaluated - start)}")
            stopped = STOPPED[str(self.session.stop_reason)]
            tell(f"answer  {_speed(len(answered), time.perf_counter() - evaluated)}; {stopped}")
        elif self.session.stop_reason == "context":
            tell(f"the answer is cut short: the context of {self.session.n_ctx} tokens is full; raise -c")

    def _fitted(self, turn: str) -> tuple[list[Any], list[int]]:
        """Return (the remaining turns, all tokens up to the answer). A chat that outgrows its context forgets its
        oldest turns until half of the context is free. So it rarely forgets, and rarely evaluates the rest anew."""
        n_ctx = self.session.n_ctx
        turns: list[Any] = self._script.turns
        # arbitrary: an answer that is not cut at its first words
        room = min(n_ctx if self._limit < 0 else self._limit, n_ctx // 4)
        most = n_ctx - room if self._forgets else n_ctx
        while True:
            try:
                tokens = self._tokens(turns, turn)
            except UsageError:
                if not (self._forgets and turns):
                    raise
            else:
                if len(tokens) <= most or not turns:
                    break
            turns, most = turns[1:], n_ctx // 2
        if forgotten := len(self._script.turns) - len(turns):
            tell(
                f"the context of {n_ctx} tokens is full: the oldest {forgotten} of {len(self._script.turns)} "
                "turns are forgotten"
            )
        return turns, tokens

    def _tokens(self, turns: list[Any], turn: str) -> list[int]:
        n_ctx = self.session.n_ctx
        tokens = self._script.tokens(turns, turn, self.most_bytes)
        if tokens is None or len(tokens) > n_ctx:
            found = f"longer than {self.most_bytes} bytes" if tokens is None else f"{len(tokens)} tokens"
            raise UsageError(
                f"the prompt is {found}, the context holds {n_ctx}{' tokens' if tokens is None else ''}: shorten it or "
                f"raise -c (the model was trained for {self._model.config.n_ctx_train})"
            )
        return tokens

    def _stream(self, text: list[str], answered: list[int]) -> None:
        stream = self._model.tokenizer.stream(continues=not self._script.is_chat)
        for token in self.session.generate(self._sampler, self._limit):
            answered.append(token)
            text.append(stream.feed(token))
            _write(text[-1])
        text.append(stream.finish())
        _write(text[-1])
        if self._ends_lines and not "".join(text).endswith("\n"):
            _write("\n")

    def close(self) -> None:
        self.session.close()


def most_bytes(model: Model, n_ctx: int | None) -> int | None:
    """Return the most bytes of a text that can fit a context of this many tokens; None: only tokenizing tells."""
    longest = model.tokenizer.longest_bytes
    return longest and longest * context_of(model, n_ctx)


class Chat:
    """A conversation in the form of the model's template; `turns` are (question, answer), without the prefix."""

    is_chat = True

    def __init__(self, model: Model, system: str, prefix: str) -> None:
        self._model, self._prefix = model, prefix
        self._head = [{"role": "system", "content": system}] if system else []
        self.turns: list[tuple[str, str]] = []

    def tokens(self, turns: list[tuple[str, str]], turn: str, most_bytes: int | None) -> list[int] | None:
        """Return the tokens up to the next answer; None: the text is longer than most_bytes. The prefix begins the
        first of `turns`."""
        from llama.text._chat import prompt_tokens

        said = [part for pair in turns for part in pair] + [turn]
        said[0] = self._prefix + said[0]
        messages = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(said)]
        return prompt_tokens(self._model.tokenizer, self._model.chat_template, self._head + messages, most_bytes)

    def add(self, turns: list[tuple[str, str]], turn: str, tokens: list[int], answered: list[int], text: str) -> None:
        """Remember the next turn, after the remaining earlier ones."""
        self.turns = [*turns, (turn, text)]


class Text:
    """A text that is continued without a template; `turns` are the tokens of each typed text with its answer. The first
    one includes the prefix, unless that has become the head."""

    is_chat = False

    def __init__(self, model: Model, prefix: str) -> None:
        self._encode, self._prefix = model.tokenizer.encode, prefix
        self._head: list[int] = []  # the prefix, once the turn that it began is forgotten
        self.turns: list[list[int]] = []

    def tokens(self, turns: list[list[int]], turn: str, most_bytes: int | None) -> list[int] | None:
        """As Chat's."""
        text = turn if turns else self._prefix + turn
        if most_bytes is not None and len(text.encode(errors="replace")) > most_bytes:
            return None
        if not turns:
            return self._encode(text, bos=True)
        return [*self._before(turns), *self._encode(text)]

    def _before(self, turns: list[list[int]]) -> list[int]:
        head = self._head if len(turns) == len(self.turns) else self._encode(self._prefix, bos=True)
        return [*head, *(token for tokens in turns for token in tokens)]

    def add(self, turns: list[list[int]], turn: str, tokens: list[int], answered: list[int], text: str) -> None:
        """As Chat's."""
        n_before = 0
        if turns:
            n_before = len(self._before(turns))
            self._head = self._head if len(turns) == len(self.turns) else self._encode(self._prefix, bos=True)
        else:
            self._head = []
        self.turns = [*turns, [*tokens[n_before:], *answered]]


def _write(text: str) -> None:
    """Write to stdout at once."""
    if text:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()


def _speed(n_tokens: int, seconds: float) -> str:
    return f"{n_tokens:5} tokens {seconds * 1e3:8.1f} ms {n_tokens / seconds:8.1f} tok/s"
