"""Turns of one conversation, answered to stdout as the tokens come.

Each turn renders the whole conversation and evaluates only what the KV cache does not hold yet.
"""

import os
import sys
import time

from llama._generate import Sampler, Session
from llama._options import UsageError

STOPPED = {"end": "the answer ended", "length": "-n was reached", "context": "the context is full"}


class Dialogue:
    """A conversation with a Model, as the options `args` want it. Close it before the model."""

    def __init__(self, model, args):
        self._model, self._limit, self._timings = model, args.n, args.timings
        self._is_chat = bool(model.chat_template) and not args.raw
        if args.system and not self._is_chat:
            raise UsageError("--system needs a chat template: the model has none, or --raw is given")
        self._messages = [{"role": "system", "content": args.system}] if args.system else []
        self._tokens = []  # of a conversation without template: all of it so far
        self._ends_lines = args.interactive or sys.stdout.isatty()
        self._sampler = Sampler(
            temperature=args.temp, top_k=args.top_k, top_p=args.top_p, min_p=args.min_p, seed=args.seed
        )
        self._session = Session(model, args.ctx, args.threads)

    def answer(self, turn):
        """Stream the answer to the user's next turn; what was said is remembered even if it is interrupted.

        Raises UsageError when the conversation does not fit the context.
        """
        messages = [*self._messages, {"role": "user", "content": turn}]
        tokens = self._prompt_tokens(messages, turn)
        text, answered = [], []
        start = time.perf_counter()
        try:
            fresh = self._session.rewind_to(tokens)
            self._session.feed(fresh)
            evaluated = time.perf_counter()
            self._stream(text, answered)
        finally:
            self._messages = [*messages, {"role": "assistant", "content": "".join(text)}]
            self._tokens = tokens + answered
        if self._timings:
            report(f"prompt  {speed(len(fresh), evaluated - start)}")
            stopped = STOPPED[self._session.stop_reason]
            report(f"answer  {speed(len(answered), time.perf_counter() - evaluated)}; {stopped}")

    def _prompt_tokens(self, messages, turn):
        if self._is_chat:
            from llama._chat import prompt_tokens

            tokens = prompt_tokens(self._model, messages)
        else:
            tokens = self._tokens + self._model.tokenizer.encode(turn, bos=not self._tokens)
        if len(tokens) > self._session.n_ctx:
            raise UsageError(
                f"the prompt is {len(tokens)} tokens, the context holds {self._session.n_ctx}: shorten it or "
                f"raise -c (the model was trained for {self._model.config.n_ctx_train})"
            )
        return tokens

    def _stream(self, text, answered):
        stream = self._model.tokenizer.stream(continues=not self._is_chat)
        for token in self._session.generate(self._sampler, self._limit):
            answered.append(token)
            text.append(stream.feed(token))
            write(text[-1])
        text.append(stream.finish())
        write(text[-1])
        if self._ends_lines and not "".join(text).endswith("\n"):
            write("\n")

    def close(self):
        self._session.close()


def write(text):
    """Write to stdout at once."""
    if text:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()


def report(line):
    print(f"magic-llama: {line}", file=sys.stderr)


def speed(n_tokens, seconds):
    return f"{n_tokens:5} tokens {seconds * 1e3:8.1f} ms {n_tokens / seconds:8.1f} tok/s"
