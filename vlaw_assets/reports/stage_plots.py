"""Plots of one stage's numbers for its asset page, as PNG bytes, 700 pixels wide: what an engineer wants to see first.

Colours keep their meaning: grey before, blue after or real, orange imagined, red what went wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlaw_assets.reports.plots import COLOURS, DPI, TASK_COLOURS, new_figure, new_grid, plain, png_of

if TYPE_CHECKING:
    import numpy as np

    from vlaw_assets.reports.success import Rate

WIDE = 700 / DPI
"""Inches."""
GREY, BLUE, DARK, ORANGE = COLOURS[0], COLOURS[2], COLOURS[3], COLOURS[4]
GREEN, RED = "#28a046", "#c0392b"
OF_TASKS = ("#e0803a", "#3c9a5f", "#b04a8c", "#7a828e", "#c9a227", "#3aa3b8", "#9c6b4a", "#d06a8a")
OF_EVENTS = (
    "#c0392b",
    "#d9772e",
    "#8e5a9b",
    "#5f6b7a",
    "#b8860b",
    "#2f7f93",
    "#7d4f3a",
    "#c0587e",
    "#556b2f",
    "#4b4f9a",
    "#9a9fa8",
    "#a0522d",
)
SOURCES = {
    "real": BLUE,
    "imagined": ORANGE,
    "rehearsed": GREY,
    "real_negative": "#a9c1ee",
    "imagined_negative": "#f0c9a8",
}
SUCCESS = "success"
ALL = "all"


def before_after(columns: Mapping[str, Mapping[str, Rate]], *, dpi: int = DPI) -> bytes:
    """Success per task, a bar per column ("before", "after"), with Wilson intervals and the value above each bar."""
    tasks = list(dict.fromkeys(task for rates in columns.values() for task in rates))
    figure, axes = new_figure(WIDE, 2.5)
    width = 0.8 / max(len(columns), 1)
    colours = (GREY, BLUE, DARK) if len(columns) > 1 else (BLUE,)
    size = 7.5 if len(columns) < 3 else 5.5
    for number, (label, rates) in enumerate(columns.items()):
        known = [
            (index + (number + 0.5) * width - 0.4, rates[task]) for index, task in enumerate(tasks) if task in rates
        ]
        axes.bar(
            [x for x, _ in known],
            [one.value for _, one in known],
            width * 0.92,
            label=label,
            color=colours[number % len(colours)],
            yerr=[[one.value - one.low for _, one in known], [one.high - one.value for _, one in known]],
            error_kw={"elinewidth": 0.8, "capsize": 2, "ecolor": "#3a3f47"},
        )
        for x, one in known:
            colour = "white" if one.value > 0.08 else DARK
            axes.annotate(f"{one.value:.2f}", (x, 0.015), ha="center", va="bottom", fontsize=size, color=colour)
    axes.set_xticks(range(len(tasks)), [plain(task) for task in tasks])
    axes.set_ylim(0, 1)
    axes.set_ylabel("success")
    _legend(axes, len(columns))
    return png_of(figure, dpi)


def success_over_iterations(columns: Mapping[str, Mapping[str, Rate]]) -> bytes:
    """Success after every update: all tasks pooled with its Wilson band, each task as a thin line."""
    labels = list(columns)
    figure, axes = new_figure(WIDE, 2.8)
    for number, task in enumerate(dict.fromkeys(task for rates in columns.values() for task in rates)):
        known = [(x, columns[label][task]) for x, label in enumerate(labels) if task in columns[label]]
        xs, values = [x for x, _ in known], [one.value for _, one in known]
        if task == ALL:
            axes.fill_between(
                xs, [one.low for _, one in known], [one.high for _, one in known], color=BLUE, alpha=0.16, linewidth=0
            )
            axes.plot(
                xs, values, color=BLUE, linewidth=2.4, marker="o", markersize=5, label="all tasks, 95 %", zorder=3
            )
            for x, one in known:
                axes.annotate(
                    f"{one.value:.2f}",
                    (x, one.value),
                    xytext=(0, 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                    color=DARK,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
                    zorder=4,
                )
        else:
            colour = OF_TASKS[number % len(OF_TASKS)]
            axes.plot(xs, values, color=colour, linewidth=1.2, alpha=0.9, marker=".", label=plain(task))
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.3, max(len(labels) - 0.7, 0.3))
    axes.set_ylim(0, 1)
    axes.set_ylabel("success")
    axes.grid(axis="y", color="#e6e9ef", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return png_of(figure)


def kinds_of_events(counts: Mapping[str, Mapping[str, int]]) -> bytes:
    """How the episodes of each task ended: one bar per task, parted by event, successes first."""
    names = {name for found in counts.values() for name in found}
    total = {name: sum(found.get(name, 0) for found in counts.values()) for name in names}
    ordered = sorted(names, key=lambda name: (name != SUCCESS, -total[name], name))
    colours = dict(zip([name for name in ordered if name != SUCCESS], OF_EVENTS * len(ordered), strict=False))
    colours[SUCCESS] = GREEN
    return _parted(counts, ordered, colours, "episodes")


def psnr_by_step(values: Mapping[str, np.ndarray]) -> bytes:
    """PSNR (dB) of replayed against recorded frames by step: per camera (clips, steps), mean and the middle half."""
    import numpy as np

    figure, axes = new_figure(WIDE, 2.4)
    for number, (camera, found) in enumerate(values.items()):
        colour, steps = TASK_COLOURS[number % len(TASK_COLOURS)], range(1, found.shape[1] + 1)
        low, high = np.percentile(found, [25, 75], axis=0)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            steps, found.mean(axis=0), color=colour, linewidth=1.8, label=f"{plain(camera)} {found.mean():.1f} dB"
        )
    axes.set_xlabel("step of the replay (the first frame is given)")
    axes.set_ylabel("PSNR (dB)")
    axes.grid(axis="y", color="#e6e9ef", linewidth=0.6)
    _legend(axes, len(values))
    return png_of(figure)


def training(losses: Sequence[float], validation: Mapping[int, Rate], stop: int | None) -> bytes:
    """Loss by update, and beside it success on validation starts at every stopping point, the kept one marked."""
    figure, (left, right) = new_grid(WIDE, 2.5, 1, 2)
    _losses(left, losses)
    stops = sorted(validation)
    right.errorbar(
        range(len(stops)),
        [validation[at].value for at in stops],
        yerr=[
            [validation[at].value - validation[at].low for at in stops],
            [validation[at].high - validation[at].value for at in stops],
        ],
        color=BLUE,
        marker="o",
        markersize=5,
        linewidth=1.4,
        elinewidth=0.8,
        capsize=2,
    )
    for x, at in enumerate(stops):
        right.annotate(
            f"{validation[at].value:.2f}{'  kept' if at == stop else ''}",
            (x, validation[at].value),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8,
            color=DARK if at == stop else GREY,
            weight="bold" if at == stop else "normal",
        )
    right.set_xticks(range(len(stops)), ["start" if at == 0 else str(at) for at in stops])
    right.set_xlim(-0.3, len(stops) - 0.4)
    right.set_ylim(0, 1)
    right.set_xlabel("updates")
    right.set_ylabel("validation success")
    return png_of(figure)


def loss(losses: Sequence[float], *, dpi: int = DPI) -> bytes:
    """Loss by update with a running mean."""
    figure, axes = new_figure(WIDE, 2.2)
    _losses(axes, losses)
    return png_of(figure, dpi)


def composition(counts: Mapping[str, Mapping[str, int]]) -> bytes:
    """Episodes of a training set: a bar per task, parted by source."""
    sources = list(dict.fromkeys([*SOURCES, *(name for found in counts.values() for name in found)]))
    sources = [name for name in sources if any(found.get(name) for found in counts.values())]
    return _parted(counts, sources, SOURCES, "episodes the policy learns from")


def scores(found: Mapping[str, Sequence[float]], alpha: float, *, dpi: int = DPI) -> bytes:
    """How many episodes have which P(yes): stacked by group ("truly succeeds", "truly fails", or all), a line at
    alpha."""
    figure, axes = new_figure(WIDE, 2.0)
    colours = {"truly succeeds": GREEN, "truly fails": RED}
    edges = [number / 20 for number in range(21)]
    axes.hist(
        [list(values) for values in found.values()],
        bins=edges,
        stacked=True,
        color=[colours.get(name, BLUE) for name in found],
        label=[f"{name} {len(values)}" for name, values in found.items()],
    )
    axes.axvline(alpha, color=DARK, linewidth=1.2, linestyle="--")
    above = sum(value > alpha for values in found.values() for value in values)
    axes.annotate(
        f" alpha {alpha:g}: {above} accepted",
        (alpha, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(2 if alpha < 0.6 else -2, -2),
        textcoords="offset points",
        va="top",
        ha="left" if alpha < 0.6 else "right",
        fontsize=8,
        color=DARK,
    )
    axes.set_xlim(0, 1)
    axes.set_xlabel("P(yes)")
    axes.set_ylabel("episodes")
    _legend(axes, len(found))
    return png_of(figure, dpi)


def _parted(
    counts: Mapping[str, Mapping[str, int]], parts: Sequence[str], colours: Mapping[str, str], label: str
) -> bytes:
    """A horizontal bar per task, parted as `parts` are in order, each part with its number."""
    figure, axes = new_figure(WIDE, 0.9 + 0.32 * len(counts))
    lefts = [0] * len(counts)
    for name in parts:
        values = [found.get(name, 0) for found in counts.values()]
        axes.barh(
            range(len(counts)),
            values,
            left=lefts,
            color=colours.get(name, GREY),
            label=f"{plain(name).replace('_', ' ')} {sum(values)}",
            height=0.72,
        )
        for row, value in enumerate(values):
            if value:
                where = (lefts[row] + value / 2, row)
                axes.annotate(str(value), where, ha="center", va="center", fontsize=8, color="white")
        lefts = [left + value for left, value in zip(lefts, values, strict=True)]
    axes.set_yticks(range(len(counts)), [plain(task) for task in counts])
    axes.invert_yaxis()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(label)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return png_of(figure)


def _losses(axes: Any, losses: Sequence[float], smoothing: int = 20) -> None:
    steps = range(1, len(losses) + 1)
    few = len(losses) < smoothing
    axes.plot(steps, losses, color=GREY, linewidth=0.8, marker="." if few else None)
    if len(losses) > 2 * smoothing:
        means = [sum(losses[max(0, at - smoothing) : at]) / min(at, smoothing) for at in steps]
        axes.plot(steps, means, color=BLUE, linewidth=1.8)
    axes.set_xlabel("update")
    axes.set_ylabel("loss")


def _legend(axes: Any, columns: int) -> None:
    axes.legend(fontsize=8, frameon=False, ncols=max(min(columns, 4), 1), loc="lower center", bbox_to_anchor=(0.5, 1.0))
