"""The tables of bench_llama_cpp.py, of samples that were taken in turns.

Samples are lists by contestant, those of one round at the same place. A value is a median, and a ratio the median of
the rounds' own ratios, which a drift of the machine's speed does not touch.
"""

from statistics import median
from typing import NamedTuple

HEADINGS = ("ours / best of theirs", "of the ceiling")


class Row(NamedTuple):
    what: str
    samples: dict[str, list[float]]  # by contestant, ours the last
    decimals: int
    is_rate: bool  # more is better
    ceilings: tuple[float, ...] = ()  # in this row's unit, by round


def markdown(title: str, contestants: list[str], rows: list[Row]) -> str:
    """Return a table with a column for each contestant, and an empty cell where one has no samples."""
    header = [title, *contestants, *HEADINGS]
    lines = [header, ["---"] * len(header), *(cells(row, contestants) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(row: Row, contestants: list[str]) -> list[str]:
    values = {name: f"{median(samples):.{row.decimals}f}" for name, samples in row.samples.items()}
    return [
        row.what,
        *(values.get(name, "") for name in contestants),
        ratio(row, contestants[-1]),
        share(row, contestants[-1]),
    ]


def ratio(row: Row, ours: str) -> str:
    """Return ours over the best of theirs, the one whose median is best; "" where either is missing."""
    theirs = [samples for name, samples in row.samples.items() if name != ours]
    if not theirs or ours not in row.samples:
        return ""
    best = (max if row.is_rate else min)(theirs, key=median)
    return f"{median(own / other for own, other in zip(row.samples[ours], best, strict=True)):.2f}"


def share(row: Row, ours: str) -> str:
    """Return how much of the machine's ceiling ours reaches; "" where none is known."""
    if not row.ceilings:
        return ""
    return f"{median(own / ceiling for own, ceiling in zip(row.samples[ours], row.ceilings, strict=True)):.0%}"
