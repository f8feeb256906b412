"""Measuring for people to read: seconds next to a limit and to another way of doing the same."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from common.limits import Limits


class Table:
    """Prints one line per measurement, at once."""

    def __init__(self, runs: int):
        self.runs, self.limits = runs, Limits()
        print(
            f"\n{'seconds':46s} {'first':>7s} {'median':>7s} {'CPU':>7s} {'limit':>6s} {'ratio':>6s} | "
            f"{'DuckDB':>7s} {'ratio':>6s}"
        )

    def time(
        self, name: str, work: Callable[[], Any], *, limit: float = 0.0, bare: Callable[[], Any] | None = None
    ) -> None:
        """Times a first call and `runs` further ones; `bare`, the same in plain DuckDB, takes turns with them."""
        first, spent, plain = measured(work)[0], [], []
        if bare:
            bare()
        for _ in range(self.runs):
            spent.append(measured(work))
            if bare:
                plain.append(measured(bare)[0])
        self.line(name, first, spent, limit, statistics.median(plain) if plain else 0.0)

    def line(
        self, name: str, first: float, spent: list[tuple[float, float]], limit: float = 0.0, plain: float = 0.0
    ) -> None:
        median, cpu = (statistics.median(column) for column in zip(*spent, strict=True))
        against = f"{limit:6.2f} {median / limit:5.2f}x" if limit else f"{'':13s}"
        beside = f" | {plain:7.3f} {median / plain:5.2f}x" if plain else ""
        print(f"{name:46s} {first:7.3f} {median:7.3f} {cpu:7.3f} {against}{beside}", flush=True)
        if limit:
            self.limits.at_most(name.strip(), median, limit)


def measured(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of wall time, and of CPU time of this process and of those it waited for."""
    before, began = os.times(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - began, os.times()
    return wall, sum(after[:4]) - sum(before[:4])
