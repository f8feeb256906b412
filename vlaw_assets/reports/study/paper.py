"""The numbers of the VLAW paper, for showing beside ours; read from paper.toml, the one place where they are.

With the intervals that the paper leaves out. Rates are printed to two digits, so counts are theirs times the number of
trials, rounded.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from vlaw_assets.reports.success import ALL, Rate, rate

FILE = Path(__file__).parent / "paper.toml"


@cache
def paper() -> dict[str, Any]:
    """All of paper.toml."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def success(recipe: str, iteration: int) -> dict[str, Rate]:
    """Task -> rate of Table 2 with its Wilson interval, "all" pooled; empty where the paper has no such policy."""
    table = paper()["table_2"]
    for row in table["rows"]:
        if (row["recipe"], row["iteration"]) == (recipe, iteration):
            trials = row.get("trials_per_task", table["trials_per_task"])
            counts = {task: round(value * trials) for task, value in row["success"].items()}
            rates = {task: rate(successes, trials) for task, successes in counts.items()}
            return rates | {ALL: rate(sum(counts.values()), trials * len(counts))}
    return {}
