"""What lies at a path: which of the formats that are read here, or which other that goes by the name of a model; then
a message can say what to do with it.
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
LOOKS = (  # what other files of models begin with
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
    """Tell a directory, in Meta's layout, from a file, GGUF; ModelError for what is neither."""
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise ModelError("neither a file nor a directory")
    return kind == stat.S_IFDIR


def looks_like(begin: bytes) -> str:
    """Return what a file that begins so is, as a clause, or ""."""
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
