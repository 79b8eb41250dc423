"""SAFETY.md names a test for each hazard: they must exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEDGER = (ROOT / "SAFETY.md").read_text(encoding="utf-8")
PYTHON_FILES = [*ROOT.glob("tests/*/test_*.py"), *ROOT.glob("tests/libraries/library_*.py")]
PYTHON_TESTS = {
    name for file in PYTHON_FILES for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))
}
C_TESTS = {
    name
    for file in ROOT.glob("tests/native/*/test_*.c")
    for name in re.findall(r"^TEST\((\w+)\)", file.read_text(encoding="utf-8"), re.M)
}
ROWS = [line for line in LEDGER.splitlines() if line.startswith("| ") and not line.startswith("| hazard")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40].strip())
def test_every_hazard_has_tests_that_exist(row: str) -> None:
    named = re.findall(r"`(\w+)`", row.split("|")[3])
    assert named
    assert not set(named) - PYTHON_TESTS - C_TESTS
