"""magic-llama: put a question to a model, from a shell script or a terminal.

stdout carries the model's answer and nothing else; standard error is silent unless something is wrong, asked for, or
shown on a terminal while a model loads. Every later run maps the model that the first one loaded.
"""

import os
import stat
import sys
import time

from llama._load import load
from llama._model import Model, ModelError
from llama._options import UsageError, parse
from llama._progress import Bars

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 130, 141
LAYOUT = 1  # of what load() builds: raise it when an older snapshot's model would be read wrongly


def main(argv=None):
    """Run the command and return its exit status, as --help explains it."""
    args = parse(argv)
    try:
        run(args)
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


def run(args):
    started = time.perf_counter()
    if sys.stdout is None:
        raise UsageError("stdout is closed: there is nowhere to answer")
    prompt, args.system = joined_prompt(args), clean(args.system)
    model, how = open_model(args)
    if args.timings:
        print(f"magic-llama: model   {how} in {(time.perf_counter() - started) * 1e3:.1f} ms", file=sys.stderr)
    from llama._dialogue import Dialogue

    dialogue = Dialogue(model, args)
    try:
        if prompt:
            dialogue.answer(prompt)
        while args.interactive and (turn := ask()) is not None:
            try:
                dialogue.answer(turn)
            except KeyboardInterrupt:  # ends this answer, not the conversation
                print(file=sys.stderr)
    finally:
        dialogue.close()


def joined_prompt(args):
    """Return the -p text and stdin's, a blank line between; UsageError if there is none and no one to ask."""
    if args.interactive and not (sys.stdin and sys.stdin.isatty()):
        raise UsageError("-i needs a terminal on stdin; without -i, stdin is joined to the prompt")
    prompt = "\n\n".join(part for part in (clean(args.prompt), read_stdin()) if part)
    if not prompt and not args.interactive:
        raise UsageError("no prompt: give one with -p, or pipe it in")
    return prompt


def clean(argument):
    """Return a command-line argument as text: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(argument).decode("utf-8", "replace")


def read_stdin():
    """Return what a pipe or file on stdin holds, without the newlines at its end, as $(...) does; else ""."""
    if sys.stdin is None:  # closed
        return ""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return ""
    return sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\n")


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


def open_model(args):
    """Return the Model and how it came: "loaded", or "mapped" from the snapshot that an earlier run left."""
    bars = Bars(args.model)
    try:
        if args.no_snapshot:
            return load(args.model, quantize=args.quantize, progress=bars.loading), "loaded"
        return open_snapshot(args, bars)
    finally:
        bars.close()


def open_snapshot(args, bars):
    from magicheap import magic_transaction

    path = os.path.realpath(args.model)
    key = f"magic-llama {LAYOUT} {args.quantize or ''} {path}"
    with magic_transaction(args.snapshot or default_snapshot(path, key), process=False, key=key) as magic:
        if not magic.was_committed:
            magic.root = load(args.model, quantize=args.quantize, progress=bars.loading).pointer
            bars.committing(magic.commit_progress)
    return Model(magic.root), "mapped" if magic.was_committed else "loaded"


def default_snapshot(path, key):
    """Return where this model's snapshot is kept; make that directory for the user alone."""
    from hashlib import blake2b

    from platformdirs import user_cache_dir

    directory = user_cache_dir("magicheap")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    stem = os.path.splitext(os.path.basename(path))[0][:64]
    return os.path.join(directory, f"{stem}-{blake2b(os.fsencode(key), digest_size=8).hexdigest()}.magic")


if __name__ == "__main__":
    sys.exit(main())
