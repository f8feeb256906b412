"""Plots of numbers as PNG bytes: the judge's scores, and what a study's report shows.

Pictures of episodes are vlaw_models/pictures.py's. Drawn with matplotlib's object interface on the Agg canvas: no
display, no global figure state. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlaw_models.plain_text import readable

if TYPE_CHECKING:
    from vlaw_assets.reports.success import Rate

COLOURS = ("#8a8f98", "#5b8def", "#1f4fb2", "#0b2a6b", "#e0803a", "#b2531f")
SERIES = ("#1f4fb2", "#8fb3f5", "#e0803a", "#8a8f98")
"""Ours, ours otherwise, theirs."""
DPI = 110
"""Pixels of an inch: 6.36 inches are 700 pixels."""
LABEL = 32
"""Characters of a label; longer ones would leave the plot no room."""
MARKERS = "osD^vPX*<>"
TASK_COLOURS = ("#1f4fb2", "#e0803a", "#3c9a5f", "#b04a8c", "#8a8f98")


def calibration_plot(bins: Sequence[Mapping[str, Any]], *, dpi: int = DPI) -> bytes:
    """How often a score comes true: success rate against mean score of each bin (`calibration.Bin`), Wilson intervals.

    Every dot is labelled with its number of clips; on the diagonal a score is a probability.
    """
    figure, axes = new_figure(3.8, 3.4)
    axes.plot([0, 1], [0, 1], color=COLOURS[0], linewidth=0.8, linestyle="--")
    scores, rates = ([one[key] for one in bins] for key in ("mean_score", "rate"))
    axes.errorbar(
        scores,
        rates,
        yerr=[[one["rate"] - one["low"] for one in bins], [one["high"] - one["rate"] for one in bins]],
        color=COLOURS[2],
        marker="o",
        markersize=4,
        linewidth=1.4,
        elinewidth=0.8,
        capsize=2,
    )
    for one in bins:
        axes.annotate(
            str(one["count"]),
            (one["mean_score"], one["rate"]),
            xytext=(4, 3 if one["rate"] < 0.1 else -10),
            textcoords="offset points",
            fontsize=7,
            color=COLOURS[3],
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("P(yes), mean of the bin")
    axes.set_ylabel("succeeded on the robot")
    return png_of(figure, dpi)


def threshold_plot(rows: Sequence[Mapping[str, Any]], alpha: float, *, dpi: int = DPI) -> bytes:
    """Precision, recall and false-positive rate against the threshold (`AtThreshold.row`), Wilson bands, a line at
    alpha.

    Where a rate does not exist (nothing is accepted, no failure) its line ends.
    """
    figure, axes = new_figure(4.8, 3.2)
    for number, (name, label) in enumerate(
        (("precision", "precision"), ("recall", "recall"), ("false_positive_rate", "false positives"))
    ):
        known = [row for row in rows if row[name] is not None]
        colour = (COLOURS[3], COLOURS[1], COLOURS[4])[number]
        cuts = [row["threshold"] for row in known]
        axes.plot(cuts, [row[name] for row in known], color=colour, linewidth=1.6, label=label)
        axes.fill_between(
            cuts,
            [row[f"{name}_low"] for row in known],
            [row[f"{name}_high"] for row in known],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.axvline(alpha, color=COLOURS[0], linewidth=0.8, linestyle="--")
    axes.annotate(
        f"alpha {alpha:g}",
        (alpha, 1.03),
        xytext=(3, -3) if alpha < 0.5 else (-3, -3),
        textcoords="offset points",
        ha="left" if alpha < 0.5 else "right",
        va="bottom",
        fontsize=7,
        color=COLOURS[0],
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("threshold on P(yes)")
    axes.set_ylabel("rate")
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.03))
    return png_of(figure, dpi)


def grouped_bars(panels: Mapping[str, Mapping[str, Mapping[str, Rate]]]) -> bytes:
    """One panel per task: for each policy a group of bars, e.g. "ours" and "paper", with their intervals.

    `panels`: task -> policy -> series -> rate; a series keeps its colour, what is missing leaves its place empty.
    """
    labels = list(dict.fromkeys(label for groups in panels.values() for found in groups.values() for label in found))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = new_grid(1.2 + 3.1 * columns, 0.7 + 2.3 * rows, rows, columns)
    width = 0.84 / max(len(labels), 1)
    for axes, (task, groups) in zip(grid, panels.items(), strict=False):
        for number, label in enumerate(labels):
            known = [(index, found[label]) for index, found in enumerate(groups.values()) if label in found]
            axes.bar(
                [index + (number + 0.5) * width - 0.42 for index, _ in known],
                [one.value for _, one in known],
                width,
                label=label,
                color=SERIES[number % len(SERIES)],
                yerr=[[one.value - one.low for _, one in known], [one.high - one.value for _, one in known]],
                error_kw={"elinewidth": 0.8, "capsize": 1.5, "ecolor": "#3a3f47"},
            )
        axes.set_title(plain(task), fontsize=10)
        axes.set_xticks(range(len(groups)), list(groups), rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_ylim(0, 1)
        axes.tick_params(axis="y", labelsize=8)
    for axes in grid[::columns]:
        axes.set_ylabel("success", fontsize=9)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=max(len(labels), 1), frameon=False, fontsize=9)
    return png_of(figure)


def difference_plot(differences: Mapping[str, tuple[float, float, float]], label: str) -> bytes:
    """One line per comparison: difference (dot) and interval in percentage points, a line at no difference; the first
    on top."""
    figure, axes = new_figure(6.4, 0.9 + 0.3 * len(differences))
    for position, (diff, low, high) in enumerate(differences.values()):
        colour = COLOURS[2] if low > 0 else COLOURS[5] if high < 0 else COLOURS[0]
        axes.plot([100 * low, 100 * high], [position, position], color=colour, linewidth=1.6)
        axes.plot([100 * diff], [position], color=colour, marker="o", markersize=5)
    axes.axvline(0, color="#3a3f47", linewidth=0.8)
    axes.set_yticks(range(len(differences)), list(differences), fontsize=8)
    axes.set_ylim(len(differences) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#e6e9ef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(label, fontsize=9)
    return png_of(figure)


def seed_plot(policies: Mapping[str, Sequence[float]], reference: float | None = None) -> bytes:
    """Success per policy, the first on top: a dot for each seed, a bar at their mean and its 95 % interval over seeds;
    a broken line at `reference`."""
    from vlaw_models.metrics.stats import t_interval

    figure, axes = new_figure(6.8, 0.9 + 0.32 * len(policies))
    for position, rates in enumerate(policies.values()):
        mean, low, high = t_interval(list(rates)) if len(rates) > 1 else (*rates, *rates, *rates)
        axes.plot([low, high], [position, position], color=COLOURS[2], linewidth=1.6)
        axes.plot([mean], [position], color=COLOURS[2], marker="|", markersize=13, markeredgewidth=2.4)
        axes.plot(
            rates, [position] * len(rates), color=COLOURS[4], marker="o", markersize=4, linestyle="none", alpha=0.8
        )
    if reference is not None:
        axes.axvline(reference, color=COLOURS[0], linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(policies)), list(policies), fontsize=8)
    axes.set_ylim(len(policies) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#e6e9ef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("success", fontsize=9)
    return png_of(figure)


def budget_curves(lines: Mapping[int, Sequence[tuple[int, Rate]]], ends: Mapping[int, tuple[int, Rate]]) -> bytes:
    """Success against real rollouts, a line with intervals per seed; `ends`: per seed rollouts and success of the arm
    to match."""
    figure, axes = new_figure(5.6, 3.4)
    for number, (seed, found) in enumerate(lines.items()):
        colour = TASK_COLOURS[number % len(TASK_COLOURS)]
        axes.errorbar(
            [spent for spent, _ in found],
            [one.value for _, one in found],
            yerr=[[one.value - one.low for _, one in found], [one.high - one.value for _, one in found]],
            color=colour,
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
            capsize=2,
            label=f"real only, seed {seed}",
        )
        if seed in ends:
            spent, goal = ends[seed]
            axes.axhline(goal.value, color=colour, linewidth=0.8, linestyle="--")
            axes.plot(
                [spent],
                [goal.value],
                color=colour,
                marker="*",
                markersize=11,
                linestyle="none",
                label=f"VLAW, seed {seed}",
            )
    axes.set_ylim(0, 1)
    axes.set_xlabel("real rollouts")
    axes.set_ylabel("success")
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return png_of(figure)


def rank_scatter(cells: Sequence[tuple[str, str, float, float]], policies: Sequence[tuple[str, float, float]]) -> bytes:
    """Success in the world model (across) and in reality (up): small dots (policy, task, x, y), large ones pooled
    (policy, x, y)."""
    figure, axes = new_figure(6.8, 4.0)
    axes.plot([0, 1], [0, 1], color=COLOURS[0], linewidth=0.8, linestyle="--")
    tasks = list(dict.fromkeys(task for _, task, _, _ in cells))
    for number, task in enumerate(tasks):
        own = [(x, y) for _, name, x, y in cells if name == task]
        axes.scatter(
            [x for x, _ in own],
            [y for _, y in own],
            s=16,
            color=TASK_COLOURS[number % len(TASK_COLOURS)],
            alpha=0.75,
            label=plain(task),
        )
    for number, (name, x, y) in enumerate(policies):  # by shape: names beside the points would lie on each other
        axes.scatter(
            [x],
            [y],
            s=60,
            marker=MARKERS[number % len(MARKERS)],
            facecolor="none",
            edgecolor=COLOURS[3],
            linewidth=1.4,
            label=f"{name}, all tasks",
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("success in the world model")
    axes.set_ylabel("success on the robot")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return png_of(figure)


def new_grid(width: float, height: float, rows: int, columns: int) -> tuple[Any, list[Any]]:
    """A figure of rows x columns axes, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of so many inches with one pair of axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plain(text: str) -> str:
    """A text of the data as a label: one line, not too long, and a dollar sign begins no formula."""
    short = text if len(text) <= LABEL else f"{text[: LABEL - 1]}…"
    return readable(short).replace("$", r"\$")


def png_of(figure: Any, dpi: int = DPI) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
