"""The public API as a user's annotated program calls it: `make check` has mypy read this file, nothing runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import llama
from magicheap import BusyError, MagicHeapError, MagicTransaction, RootError, magic_transaction


def whole_process(path: Path) -> str:
    with magic_transaction() as magic:
        table = {"Oslo": 1}
    with magic_transaction(path, key="a", env=["MODE"], inputs=[path], strict=True, progress=lambda done, total: None):
        table["Bergen"] = 2
    was_resumed: bool = magic.was_committed
    return f"{was_resumed} {magic.reason} {len(table)}"


def heap_alone(path: str) -> object:
    magic: MagicTransaction
    with magic_transaction(path, process=False) as magic:
        magic.root = [1.0, 2.0]
    done, total = magic.commit_progress()
    return magic.root if done == total else None


def which_error(error: MagicHeapError) -> str:
    if isinstance(error, BusyError | RootError):
        return type(error).__name__
    return str(error)


def answer(path: Path, question: str) -> Iterator[str]:
    model: llama.Model = llama.load(path, quantize="q4_0", progress=lambda done, total: None)
    with llama.Session(model, n_ctx=512) as session:
        session.feed(model.tokenizer.encode(question, bos=True))
        stream = model.tokenizer.stream()
        for token in session.generate(llama.Sampler(seed=1), limit=40):
            yield stream.feed(token)
        yield stream.finish()
