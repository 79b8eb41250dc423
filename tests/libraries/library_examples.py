"""The examples whose libraries are too large for every run of the tests, in full size. Collected only where it is
named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from example_runs import check_example

EXAMPLES = {
    "torch_module": (["the cat sat", "the cat sits"], ["a", "b", "4 + 4"]),
    "transformers_tokenizer": (["import this"], ["for line in file: print(line)"]),
    "sklearn_forest": (["0", "1"], ["2", "3", "449"]),
    "jieba_cut": (["我来到北京清华大学"], ["小明硕士毕业于中国科学院计算所"]),
    "pandas_pyarrow": (["Oslo"], ["Lima", "Cairo"]),
    "numpy_sentencepiece": (["loop", "forever"], ["how do I delete an attribute"]),
    "many_patterns": (["order 4711-b"], ["0042 and 9999-Z"]),
    "big_dict": (["1"], ["4999999", "5000000"]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_resumes_with_its_library_loaded(name, tmp_path):
    check_example(name, *EXAMPLES[name], tmp_path)


TORCH = """
import os
from magicheap import magic_transaction
with magic_transaction():
    import torch
    torch.randn(1)
print(torch.randn(2).tolist(), flush=True)
os._exit(0)
"""


def test_torch_draws_other_numbers_in_each_resumed_process(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(TORCH)
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "MAGICHEAP_LOG": "info"}
    command = [Path(sys.executable).with_name("magic"), program]
    runs = [subprocess.run(command, env=env, capture_output=True, text=True, check=True) for _ in range(51)]
    assert all("magicheap: warm" in run.stderr for run in runs[1:])
    assert len({run.stdout for run in runs}) == len(runs)
