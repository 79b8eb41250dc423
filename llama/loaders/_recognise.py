"""The format of the file or directory at a path: one that is read here, or another format of models, for which a
message says what to do.
"""

from __future__ import annotations

import os
import stat

from llama._native import ModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"GGUF"
CONVERT = "convert a Hugging Face model to GGUF with llama.cpp's convert_hf_to_gguf.py"
LOOKS = (  # first bytes of other model files
    (b"version https://git-lfs", "a Git LFS pointer to one, of a repository that was cloned without git-lfs"),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint: give its directory, if that has Meta's layout"),
    (b"lmgg", "llama.cpp's format of early 2023 (GGML)"),
    (b"fmgg", "llama.cpp's format of 2023 (GGMF)"),
    (b"tjgg", "llama.cpp's format of 2023 (GGJT)"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)


def is_directory(path: str | os.PathLike[str]) -> bool:
    """Tell a directory in Meta's layout from a GGUF file; ModelError for anything else."""
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise ModelError("neither a file nor a directory")
    return kind == stat.S_IFDIR


def looks_like(begin: bytes) -> str:
    """Return a clause about the format of a file with these first bytes, or ""."""
    if not begin:
        return " (it is empty)"
    if begin[8:9] == b"{":
        return f" (it is a safetensors file: {CONVERT})"
    return next((f" (it is {what})" for magic, what in LOOKS if begin.startswith(magic)), "")


def check_layout(path: Path) -> None:
    """Name another layout than Meta's, which has a params.json."""
    if (path / "params.json").exists():
        return
    if (path / "config.json").exists() or any(path.glob("*.safetensors")):
        raise ModelError(f"this is Hugging Face's layout (config.json, safetensors), not Meta's: {CONVERT}")
    if ggufs := sorted(path.glob("*.gguf")):
        raise ModelError(f"a directory without params.json, but with {ggufs[0].name}: give that file")
