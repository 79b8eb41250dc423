"""Load a checkpoint from disk, whatever its layout."""

from __future__ import annotations

import os
import stat

from llama._model import Model
from llama._native import ModelError

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
    loader: ModuleType
    if os.path.isdir(path):
        from llama.loaders import _meta

        loader = _meta
    else:
        from llama.loaders import _gguf

        loader = _gguf
    try:
        if stat.S_IFMT(os.stat(path).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            raise ModelError("neither a file nor a directory")
        return Model(loader.load(path, quantize, progress or _no_progress))
    except ModelError as error:
        raise ModelError(f"{os.fspath(path)}: {error}") from None


def _no_progress(done_bytes: int, total_bytes: int) -> None:
    pass
