"""magic-llama: put a question to a model, from a shell script or a terminal.

stdout carries the model's answer and nothing else. stderr is silent, except for errors, output that an option asks for,
and the progress of a load on a terminal. Snapshots keep the results of long work (_layers.py, _prefixes.py).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from llama._native import LlamaError, ModelError
from llama.command import _layers, _prefixes
from llama.command._dialogue import Dialogue, most_bytes
from llama.command._options import UsageError, options
from llama.command._progress import Bar
from llama.command._prompt import ask, check_prompt, joined_prompt, tell
from llama.loaders._load import load
from llama.text._chat import prompt_tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from llama._model import Model
    from llama.command._prefixes import State

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 130, 141


def main() -> int:
    """Run the command and return its exit status, as --help explains it."""
    try:
        _run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UsageError as error:
        return _complain(error, EXIT_USAGE)
    except MemoryError as error:
        return _complain(str(error) or "out of memory", EXIT_FAILED)
    except BrokenPipeError:
        return _discard_stdout(EXIT_PIPE)
    except (LlamaError, OSError) as error:
        return _discard_stdout(_complain(error, EXIT_FAILED))
    return 0


def _complain(error: object, status: int) -> int:
    tell(error)
    return status


def _discard_stdout(status: int) -> int:
    """Redirect stdout to /dev/null: a write of buffered output at exit would fail once more."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _run() -> None:
    check_prompt(args := options())
    _check_snapshot(args)
    model = _open_model(args)
    # options(), not `args`, from here on: this may be another run (L2 of _layers.py)
    dialogue = _open_dialogue(model, options())
    _name_a_long_context(model, options())
    _answer_all(dialogue, options())


def _name_a_long_context(model: Model, args: argparse.Namespace) -> None:
    trained = model.config.n_ctx_train
    if args.ctx is not None and args.ctx > trained:
        tell(
            f"-c {args.ctx} is more than the {trained} tokens that the model was trained for: answers beyond "
            "these will be nonsense"
        )


def _answer_all(dialogue: Dialogue, args: argparse.Namespace) -> None:
    """Answer the prompt, then each typed turn."""
    try:
        prompt = joined_prompt(args, dialogue.most_bytes)
        dialogue.set_options(args)
        if prompt:
            _answer(dialogue, prompt, args)
        while args.interactive and (turn := ask()) is not None:
            _answer(dialogue, turn, args)
    finally:
        dialogue.close()


def _answer(dialogue: Dialogue, turn: str, args: argparse.Namespace) -> None:
    """Answer one turn; in a chat, Ctrl-C and a turn that does not fit end this answer, not the conversation."""
    try:
        dialogue.answer(turn)
    except KeyboardInterrupt:
        if not args.interactive:
            raise
        print(file=sys.stderr)
    except UsageError as error:
        if not args.interactive:
            raise
        tell(error)


# ---- snapshots ----


def _check_snapshot(args: argparse.Namespace) -> None:
    """Raise UsageError if --snapshot names a file of another kind, which a snapshot would replace."""
    for path in (args.snapshot, f"{args.snapshot}.prefix")[: 1 + _has_prefix(args)] if args.snapshot else ():
        for needed in filter(None, (args.model, args.prefix_file)):
            if os.path.exists(path) and os.path.exists(needed) and os.path.samefile(path, needed):
                raise UsageError(f"--snapshot: {path} is {needed}, and would be replaced: name another file")
        if not _layers.is_replaceable(path):
            raise UsageError(
                f"--snapshot: {path} is no snapshot, and would be replaced: name another file, or remove it"
            )


def _open_model(args: argparse.Namespace) -> Model:
    """Return the Model, from its layer if snapshots are allowed."""
    if args.no_snapshot:
        (model, seconds), is_made = _load_model(args), True
    else:
        key = _model_key(args)
        path = args.snapshot or _layers.default_path(args.model, key)
        (model, seconds), is_made = _layers.layer(
            _layers.MODEL, lambda: _load_model(args, is_kept=True), path, key, is_last=not _has_prefix(args)
        )
    if options().timings:
        tell(f"model   {'loaded' if is_made else 'resumed, was loaded'} in {seconds * 1e3:.1f} ms")
    return model


def _model_key(args: argparse.Namespace) -> str:
    return f"magic-llama {args.quantize or ''} {os.path.realpath(args.model)}"


def _load_model(args: argparse.Namespace, is_kept: bool = False) -> tuple[Model, float]:
    """Return (the Model, seconds it took). is_kept: with the objects that any answer makes first."""
    started, bar = time.perf_counter(), Bar(args.model)
    try:
        model = load(args.model, quantize=args.quantize, progress=bar.loading)
    finally:
        bar.close()
    if is_kept:
        with contextlib.suppress(ModelError):  # an answer that needs them raises it again
            tokenizer, hello = model.tokenizer, {"role": "user", "content": "Hello, world"}
            prompt_tokens(tokenizer, model.chat_template, [hello], tokenizer.longest_bytes)
    return model, time.perf_counter() - started


def _has_prefix(args: argparse.Namespace) -> bool:
    return bool(args.system or args.prefix_file)


def _open_dialogue(model: Model, args: argparse.Namespace) -> Dialogue:
    """Return the Dialogue, with its prefix, if any, evaluated, from its layer if snapshots are allowed."""
    if not _has_prefix(args):
        return Dialogue(model, args)
    prefix = "" if _prefixes.is_second() else _read_prefix(args.prefix_file, most_bytes(model, args.ctx))
    if args.no_snapshot:
        (dialogue, n_tokens, n_spared, seconds), is_made = _evaluate(model, args, prefix), True
    else:
        key = f"{_model_key(args)} {args.ctx} {args.cache_type} {args.raw} {_layers.digest(args.system)}"
        path = args.snapshot and f"{args.snapshot}.prefix"
        (dialogue, n_tokens, n_spared, seconds), is_made = _prefixes.kept(
            args.model, key, prefix, path, lambda state: _evaluate(model, args, prefix, state)
        )
    if options().timings:
        how = (
            "resumed, were evaluated"
            if not is_made
            else f"extended by {n_tokens - n_spared}, evaluated"
            if n_spared
            else "evaluated"
        )
        tell(f"prefix  {n_tokens:5} tokens {how} in {seconds * 1e3:.1f} ms")
    return dialogue


def _read_prefix(path: str | None, most_bytes: int | None) -> str:
    """Return the text of --prefix-file; "" without one. UsageError, before all is read, for more bytes than the context
    can hold."""
    if path is None:
        return ""
    with open(path, "rb") as file:
        text = file.read(-1 if most_bytes is None else most_bytes + 1)
    if most_bytes is not None and len(text) > most_bytes:
        raise UsageError(
            f"{path} is longer than {most_bytes} bytes, which no context of this size can hold: shorten it or raise -c"
        )
    return text.decode("utf-8", "replace")


def _evaluate(
    model: Model, args: argparse.Namespace, prefix: str, state: State | None = None
) -> tuple[Dialogue, int, int, float]:
    """Return (a Dialogue that has evaluated its prefix, number of tokens, number of those taken from `state`, seconds
    it took)."""
    started = time.perf_counter()
    dialogue = Dialogue(model, args, prefix)
    n_tokens, n_spared = dialogue.evaluate_prefix(state)
    return dialogue, n_tokens, n_spared, time.perf_counter() - started
