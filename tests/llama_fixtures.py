"""Models for the llama tests: the real SmolLM2, and random tiny ones written as each file format has it."""

import os
from pathlib import Path


def real_model_path():
    """Return the path of SmolLM2-135M-Instruct Q4_1, which `make model` fetches."""
    default = Path(__file__).parent.parent / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
    path = Path(os.environ.get("MAGICHEAP_TEST_MODEL") or default)
    assert path.is_file(), f"{path} is missing: run `make model`"
    return path
