"""What every benchmark prints: the machine, both sides, the ratio, and whether it keeps what we claim."""

import os
import platform
import statistics
import time
from collections.abc import Callable

from cytonet_pipeline.store.processes import processor_name


def announce(what: str) -> None:
    """Say what is measured, and on which machine."""
    print(f"{what}\n{processor_name()}, {os.cpu_count()} cores, Python {platform.python_version()}")


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(rounds: int, **sides: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each side, measured in turns: what slows the machine down for a while slows down both."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            taken[name].append(seconds_of(work))
    return {name: statistics.median(times) for name, times in taken.items()}


def claim(what: str, measured: float, bound: float, *, at_most: bool, unit: str = "") -> bool:
    """Print a measured figure beside what is claimed of it; true if it is kept."""
    kept = measured <= bound if at_most else measured >= bound
    sign = "at most" if at_most else "at least"
    print(f"{'ok  ' if kept else 'MISS'}  {what}: {measured:.4g}{unit} ({sign} {bound:g}{unit})")
    return kept
