"""magic-llama: put a question to a model, from a shell script or a terminal.

stdout carries the model's answer and nothing else; standard error is silent unless something is wrong, asked for, or
shown on a terminal while a model loads. What takes long is kept in snapshots (_layers.py).
"""

import contextlib
import os
import stat
import sys
import time

from llama import _layers
from llama._chat import prompt_tokens
from llama._dialogue import Dialogue, report
from llama._load import load
from llama._model import ModelError
from llama._options import UsageError, options
from llama._progress import Bar

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 130, 141
NO_PROMPT = "no prompt: give one with -p, or pipe it in"


def main():
    """Run the command and return its exit status, as --help explains it."""
    try:
        run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UsageError as error:
        return complain(error, EXIT_USAGE)
    except MemoryError as error:
        return complain(str(error) or "out of memory", EXIT_FAILED)
    except BrokenPipeError:
        return discard_stdout(EXIT_PIPE)
    except (ModelError, OSError) as error:
        return discard_stdout(complain(error, EXIT_FAILED))
    return 0


def complain(error, status):
    print(f"magic-llama: {error}", file=sys.stderr)
    return status


def discard_stdout(status):
    """Send what is still buffered nowhere: writing it at exit would fail once more."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def run():
    check_prompt(args := options())
    model = open_model(args)
    dialogue = open_dialogue(model, options())  # not `args`, here and below: this may be another run (L2 of _layers.py)
    answer_all(dialogue, options())


def answer_all(dialogue, args):
    """Answer the prompt, then whatever is typed."""
    try:
        prompt = joined_prompt(args)
        dialogue.set_options(args)
        if prompt:
            dialogue.answer(prompt)
        while args.interactive and (turn := ask()) is not None:
            try:
                dialogue.answer(turn)
            except KeyboardInterrupt:  # ends this answer, not the conversation
                print(file=sys.stderr)
    finally:
        dialogue.close()


# ---- what is asked ----


def check_prompt(args):
    """Raise UsageError if it is known without reading stdin that there is nothing to answer, or nowhere to."""
    if sys.stdout is None:
        raise UsageError("stdout is closed: there is nowhere to answer")
    if args.interactive and not (sys.stdin and sys.stdin.isatty()):
        raise UsageError("-i needs a terminal on stdin; without -i, stdin is joined to the prompt")
    if not (args.prompt or args.interactive or is_piped()):
        raise UsageError(NO_PROMPT)


def joined_prompt(args):
    """Return the -p text and stdin's, a blank line between; UsageError if there is none and no one to ask."""
    prompt = "\n\n".join(part for part in (args.prompt, read_stdin()) if part)
    if not prompt and not args.interactive:
        raise UsageError(NO_PROMPT)
    return prompt


def is_piped():
    """Tell whether stdin is a pipe or file, whose text belongs to the prompt."""
    if sys.stdin is None:  # closed
        return False
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def read_stdin():
    """Return what a pipe or file on stdin holds, without the newlines at its end, as $(...) does; else ""."""
    return sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\n") if is_piped() else ""


def ask():
    """Return the next turn that is typed, or None at the end of input."""
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            print(file=sys.stderr)
            return None
        if line.strip():
            return line.rstrip("\n")


# ---- what is kept ----


def open_model(args):
    """Return the Model, from its layer if it may."""
    if args.no_snapshot:
        (model, seconds), is_made = load_model(args), True
    else:
        key = model_key(args)
        path = args.snapshot or _layers.default_path(args.model, key)
        (model, seconds), is_made = _layers.layer(
            _layers.MODEL, lambda: load_model(args, is_kept=True), path, key, is_last=not has_prefix(args)
        )
    if options().timings:
        report(f"model   {'loaded' if is_made else 'resumed, was loaded'} in {seconds * 1e3:.1f} ms")
    return model


def model_key(args):
    return f"magic-llama {args.quantize or ''} {os.path.realpath(args.model)}"


def load_model(args, is_kept=False):
    """Return (the Model, seconds it took). is_kept: with all that any answer would have to make first."""
    started, bar = time.perf_counter(), Bar(args.model)
    try:
        model = load(args.model, quantize=args.quantize, progress=bar.loading)
    finally:
        bar.close()
    if is_kept:
        with contextlib.suppress(ModelError):  # an answer will say the same, if it comes to that
            prompt_tokens(model, [{"role": "user", "content": "Hello, world"}])
    return model, time.perf_counter() - started


def has_prefix(args):
    return bool(args.system or args.prefix_file)


def open_dialogue(model, args):
    """Return the Dialogue; if it has a prefix, evaluated, from its layer if it may."""
    if not has_prefix(args):
        return Dialogue(model, args)
    prefix = read_prefix(args.prefix_file)
    if args.no_snapshot:
        (dialogue, n_tokens, seconds), is_made = evaluate(model, args, prefix), True
    else:
        key = f"{model_key(args)} {args.ctx} {args.cache_type} {args.raw} {_layers.digest(repr((args.system, prefix)))}"
        path = f"{args.snapshot}.prefix" if args.snapshot else _layers.default_path(args.model, key, "-prefix")
        (dialogue, n_tokens, seconds), is_made = _layers.layer(
            _layers.PREFIX, lambda: evaluate(model, args, prefix), path, key, is_last=True
        )
    if options().timings:
        report(f"prefix  {n_tokens:5} tokens {'' if is_made else 'resumed, were '}evaluated in {seconds * 1e3:.1f} ms")
    return dialogue


def read_prefix(path):
    """Return the text of --prefix-file; "" if there is none."""
    if path is None:
        return ""
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def evaluate(model, args, prefix):
    """Return (a Dialogue that has evaluated its prefix, how many tokens, seconds it took)."""
    started = time.perf_counter()
    dialogue = Dialogue(model, args, prefix)
    return dialogue, dialogue.evaluate_prefix(), time.perf_counter() - started
