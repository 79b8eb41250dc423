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
    """A conversation with a Model that begins with the options' system message and the text `prefix`. Close it before the model.

    Before answer() comes set_options(), which may follow in another process: until then only what belongs to the text is known.
    """

    def __init__(self, model, args, prefix=""):
        self._model, self._prefix = model, prefix
        self._is_chat = bool(model.chat_template) and not args.raw
        if args.system and not self._is_chat:
            raise UsageError("--system needs a chat template: the model has none, or --raw is given")
        self._messages = [{"role": "system", "content": args.system}] if args.system else []
        self._tokens = []  # of a conversation without template: all of it so far
        self._session = Session(model, args.ctx, cache_type=args.cache_type)

    def evaluate_prefix(self):
        """Evaluate what comes before the first turn, whatever that will be, and end the threads; return how many tokens."""
        first, second = (self._prompt_tokens(*self._with_turn(turn)) for turn in ("a", "b"))
        shared = os.path.commonprefix([first, second])
        self._session.feed(shared)
        self._session.rest()
        return len(shared)

    def set_options(self, args):
        """Take from the options what concerns the answers of this run."""
        self._limit, self._timings = args.n, args.timings
        self._ends_lines = args.interactive or sys.stdout.isatty()
        self._session.n_threads = args.threads
        self._sampler = Sampler(
            temperature=args.temp, top_k=args.top_k, top_p=args.top_p, min_p=args.min_p, seed=args.seed
        )

    def answer(self, turn):
        """Stream the answer to the user's next turn; what was said is remembered even if it is interrupted.

        Raises UsageError when the conversation does not fit the context.
        """
        messages, turn = self._with_turn(turn)
        tokens = self._prompt_tokens(messages, turn)
        text, answered = [], []
        start = time.perf_counter()
        try:
            fresh = self._session.rewind_to(tokens)
            self._session.feed(fresh)
            evaluated = time.perf_counter()
            self._stream(text, answered)
        finally:
            self._prefix = ""
            self._messages = [*messages, {"role": "assistant", "content": "".join(text)}]
            self._tokens = tokens + answered
        if self._timings:
            report(f"prompt  {speed(len(fresh), evaluated - start)}")
            stopped = STOPPED[self._session.stop_reason]
            report(f"answer  {speed(len(answered), time.perf_counter() - evaluated)}; {stopped}")

    def _with_turn(self, turn):
        """Return the messages with the user's next turn, and that turn with the prefix if it is the first."""
        turn = self._prefix + turn
        return [*self._messages, {"role": "user", "content": turn}], turn

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
