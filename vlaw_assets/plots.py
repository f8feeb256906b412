"""Plots of numbers as PNG bytes: losses, and success per task and iteration with its intervals.

Not here: pictures of episodes (vlaw_models/pictures.py). Drawn with matplotlib's object interface on the Agg canvas:
no display, no global figure state. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlaw_assets.summary import Rate

COLOURS = ("#8a8f98", "#5b8def", "#1f4fb2", "#0b2a6b", "#e0803a", "#b2531f")


def loss_curve(losses: Sequence[float], smoothing: int = 20) -> bytes:
    """Loss per step, with a running mean where there are enough steps."""
    figure, axes = _figure(5.0, 2.6)
    axes.plot(range(1, len(losses) + 1), losses, color=COLOURS[0], linewidth=0.8,
              marker="." if len(losses) < smoothing else None)
    if len(losses) > 2 * smoothing:
        means = [sum(losses[max(0, i - smoothing):i]) / min(i, smoothing) for i in range(1, len(losses) + 1)]
        axes.plot(range(1, len(losses) + 1), means, color=COLOURS[2], linewidth=1.6)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    return _png(figure)


def success_bars(columns: Mapping[str, Mapping[str, Rate]]) -> bytes:
    """Grouped bars: for each task one bar per column (e.g. "base", "after 01"), with Wilson intervals."""
    tasks = list(dict.fromkeys(task for rates in columns.values() for task in rates))
    figure, axes = _figure(1.4 + 1.1 * len(tasks), 3.2)
    width = 0.8 / max(len(columns), 1)
    for number, (label, rates) in enumerate(columns.items()):
        known = [(index, rates[task]) for index, task in enumerate(tasks) if task in rates]
        axes.bar([index + (number + 0.5) * width - 0.4 for index, _ in known], [rate.value for _, rate in known], width,
                 label=label, color=COLOURS[number % len(COLOURS)],
                 yerr=[[rate.value - rate.low for _, rate in known], [rate.high - rate.value for _, rate in known]],
                 error_kw={"elinewidth": 0.8, "capsize": 2})
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_ylim(0, 1)
    axes.set_ylabel("success")
    axes.legend(fontsize=8, frameon=False, ncols=min(len(columns), 4), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return _png(figure)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
