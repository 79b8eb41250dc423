"""Load a checkpoint from disk, whatever its layout."""

from __future__ import annotations

import os

from llama._model import Model
from llama._native import ModelError
from llama.loaders._recognise import is_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def load(
    path: str | os.PathLike[str],
    *,
    quantize: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Model:
    """Load the model at `path` into memory from malloc and return it as a Model.

    path: a GGUF file (F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q5_K, Q6_K), or a directory in Meta's layout
        (consolidated.NN.pth in one or several shards, params.json, a sentencepiece tokenizer.model).
    quantize: "q8_0", "q4_0" or "q4_1" turns float matrices into that type as they are read; norms stay float32.
    progress: called with (done_bytes, total_bytes) after every tensor.
    Raises ModelError for a checkpoint that is damaged or not of the LLaMA family, OSError for what the kernel says.
    """
    from llama.loaders._build import TYPES

    if quantize is not None and quantize not in TYPES:
        raise ValueError(f"quantize is {quantize!r}, expected one of {', '.join(TYPES)}")
    try:
        loader = _loader_of(path)
        return Model(loader.load(path, quantize, progress or _no_progress))
    except ModelError as error:
        raise ModelError(f"{os.fspath(path)}: {error}") from None


def _loader_of(path: str | os.PathLike[str]) -> ModuleType:
    """Return the loader for the format at `path`; the others are not imported."""
    if is_directory(path):
        from llama.loaders import _meta

        return _meta
    from llama.loaders import _gguf

    return _gguf


def _no_progress(done_bytes: int, total_bytes: int) -> None:
    pass
