"""Resume one snapshot many times, in a row and 16 at a time; exit with 1 if any run fails or repeats a random value.

    python resumes.py [--python PYTHON] [-n N]

Before the commit every generator has been used, so that each has a state that the snapshot could repeat.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from suites import Suite, environment, prepare

AT_A_TIME = 16
TIMEOUT_S = 60  # arbitrary: far more than a resume takes, so that a hang is a failure
SHOWN = 5  # failures; more of them would say the same


def suite(python: Path) -> Suite:
    return Suite(python, "", Path(__file__).resolve().with_name("resumes_program.py"), lambda file, report: [])


def resume_once(one: Suite) -> dict[str, object] | str:
    """Return what one resumed process printed, or what was wrong with it."""
    command = [one.python.with_name("magic"), one.program]
    try:
        done = subprocess.run(
            command, env=environment(one), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode or done.stderr:
        return f"exit status {done.returncode}: {done.stdout}{done.stderr}"
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return f"printed {done.stdout!r}"


def repeated(runs: list[dict[str, object]]) -> dict[str, int]:
    """Return how many values each source gave more than once; {} if all are distinct."""
    names = runs[0] if runs else {}
    counts = {name: len(runs) - len({str(run[name]) for run in runs}) for name in names}
    return {name: count for name, count in counts.items() if count}


def resume_many(one: Suite, n: int) -> list[str]:
    """Resume n times in a row and n times AT_A_TIME; return what failed or repeated itself."""
    in_a_row = [resume_once(one) for _ in range(n)]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        at_once = list(pool.map(lambda _: resume_once(one), range(n)))
    results = [*in_a_row, *at_once]
    faults = [result for result in results if isinstance(result, str)]
    repeats = repeated([result for result in results if not isinstance(result, str)])
    return [*faults, *(f"{name} repeated itself {count} times" for name, count in repeats.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="an interpreter with magicheap and numpy"
    )
    parser.add_argument("-n", type=int, default=10_000, help="resumes of either kind (default: 10,000)")
    options = parser.parse_args()
    one = suite(options.python.absolute())
    prepare(one)
    faults = resume_many(one, options.n)
    print(f"{options.n} resumes in a row and {options.n} {AT_A_TIME} at a time: {len(faults)} failures")
    for fault in faults[:SHOWN]:
        print(f"\n==== {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
