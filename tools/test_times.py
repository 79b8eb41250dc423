"""Tell how long each part of `make test` took, from what Meson and pytest have written down in build/.

    test_times.py

C tests run several at a time: their seconds are those from the first one's start to the last one's end. Those of
pytest are the sums of its tests, with their fixtures, by the folders of tests/.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

BUILD = Path(__file__).resolve().parent.parent / "build"
C_LOGS = {
    "C, plain": BUILD / "c-plain/meson-logs/testlog.json",
    "C, sanitized": BUILD / "c-sanitized/meson-logs/testlog.json",
}
PYTEST_LOG = BUILD / "pytest.xml"


class Part(NamedTuple):
    """What ran together."""

    name: str
    n_tests: int
    seconds: float


def c_part(name: str, log: Path) -> Part:
    """Read Meson's log, which has a JSON object a line for each program."""
    runs = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    end = max(run["starttime"] + run["duration"] for run in runs)
    return Part(name, len(runs), end - min(run["starttime"] for run in runs))


def pytest_parts(log: Path) -> list[Part]:
    """Read pytest's report in JUnit's form, where a test file is a class: tests.heap.test_root."""
    seconds: dict[str, list[float]] = {}
    for case in ET.parse(log).iter("testcase"):
        folder = "/".join(case.get("classname", "").split(".")[:2])
        seconds.setdefault(folder, []).append(float(case.get("time", 0)))
    return [Part(folder, len(times), sum(times)) for folder, times in sorted(seconds.items())]


def main() -> None:
    parts = [c_part(name, log) for name, log in C_LOGS.items()] + pytest_parts(PYTEST_LOG)
    total = Part("all", sum(part.n_tests for part in parts), sum(part.seconds for part in parts))
    print(f"{'':<18} {'tests':>6} {'seconds':>8}")
    for part in [*parts, total]:
        print(f"{part.name:<18} {part.n_tests:>6} {part.seconds:>8.1f}")


if __name__ == "__main__":
    main()
