"""Reading the report of a study as the command writes it."""

from __future__ import annotations

import re

from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_models.metrics.stats import wilson


def vlaw(k, *arguments):
    return CliRunner().invoke(app, ["report", *arguments], env={"VLAW_LAKE": str(k.lake.paths.root)})


def section(text, number):
    return re.split(r"^## ", text, flags=re.MULTILINE)[number + 1]


def cells(text, *begin):
    """Cells of the first table row that begins so."""
    for line in text.splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and row[: len(begin)] == list(begin):
            return row
    raise AssertionError(f"no row {begin} in\n{text}")


def interval(k, n):
    low, high = wilson(k, n)
    return f"{100 * k / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
