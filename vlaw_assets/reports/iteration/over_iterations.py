"""Success over iterations: this experiment with its intervals, the lake's others in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlaw_assets.partitions import MAX_ITERATIONS, partition_of, split_partition
from vlaw_assets.reports import stage_plots
from vlaw_assets.reports.iteration.headline import signed, state_of
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import SHARPER, Html, joined, note, plot, table, tag
from vlaw_assets.reports.plots import DPI, new_figure, plain, png_of
from vlaw_assets.reports.success import ALL, Rate, Trials, change, lists_text, success_of
from vlaw_assets.reports.success import table as rows_of

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

MOST_OTHERS = 12
"""Grey lines."""
COLOURS = (stage_plots.BLUE, stage_plots.ORANGE)
"""Of this experiment, and of the one that it is compared with."""


@dataclass(frozen=True)
class Line:
    """Success over all tasks of one experiment."""

    experiment: str
    points: Mapping[int, Rate]
    """Iteration, 0 before the first -> success after it."""


def section(subject: Subject, columns: Mapping[str, Trials], against: Line | None = None) -> Section:
    """Of the evaluations up to this iteration. `against`: the experiment that this one is compared with."""
    own = line_of(subject.experiment, columns)
    names = {subject.experiment, *([against.experiment] if against else [])}
    drawn, left_out = others(subject.lake, columns, names)
    rates = {label: trials.rates for label, trials in columns.items()}
    last = max([*own.points, *(against.points if against else ())])
    ends = {label: rates[label] for label in dict.fromkeys((next(iter(rates)), *list(rates)[-2:]))}
    evaluations = [
        subject.artifact(ref)
        for number in range(1, subject.iteration + 1)
        for asset in ("start_evaluation", "policy_evaluation")
        if (asset == "policy_evaluation" or number == 1)
        and (ref := subject.lake.ledger.current(asset, partition_of(subject.experiment, number)))
    ]
    body = joined(
        [
            plot(curves([own, *([against] if against else [])], drawn, last), "success over iterations"),
            note(
                "All tasks, held-out starts; the band is the Wilson 95 % interval.",
                " Grey: other experiments of this lake on the same tasks." if drawn else "",
                f" {left_out}" if left_out else "",
            ),
            tag("div", table(rows_of(rates)), _changes(columns), cls="beside top"),
            note(f"In these numbers: {lists}.") if (lists := lists_text(columns)) else "",
            plot(stage_plots.before_after(ends, dpi=SHARPER * DPI), "success per task"),
            note("Measured by ", joined(evaluations, ", "), "."),
        ]
    )
    now = list(rates.values())[-1][ALL]
    return Section("success", "Success over iterations", f"{now} now", body)


def line_of(experiment: str, columns: Mapping[str, Trials]) -> Line:
    """From columns of `success.evaluations`."""
    found = {}
    for label, trials in columns.items():
        number = int(label.split()[-1]) if " " in label else 0
        if ALL in trials.rates:
            found[number - 1 if label.startswith("before ") else number] = trials.rates[ALL]
    return Line(experiment, found)


def others(lake: Lake, columns: Mapping[str, Trials], without: set[str]) -> tuple[list[Line], str]:
    """The other experiments that were evaluated on the same tasks, those with most iterations first; and what is said
    of those that are not drawn."""
    tasks = {task for trials in columns.values() for task, _ in trials.outcomes}
    found: list[Line] = []
    elsewhere = 0
    for name in dict.fromkeys(split_partition(ref.partition)[0] for ref in lake.ledger.artifacts() if ref.partition):
        if name in without:
            continue
        points = {}
        for iteration in range(1, MAX_ITERATIONS + 1):
            key = partition_of(name, iteration)
            for asset, number in (("start_evaluation", iteration - 1), ("policy_evaluation", iteration)):
                ref = lake.ledger.current(asset, key)
                same = ref is not None and set(ref.metrics.get("success", {})) - {ALL} == tasks
                elsewhere += ref is not None and not same and (asset, iteration) == ("policy_evaluation", 1)
                if ref is not None and same and number not in points and (one := success_of(lake, ref)[0]):
                    points[number] = one
        if points:
            found.append(Line(name, points))
    found.sort(key=lambda line: (-len(line.points), line.experiment))
    said = []
    if len(found) > MOST_OTHERS:
        said.append(f"{len(found) - MOST_OTHERS} more are not drawn.")
    if elsewhere:
        said.append(f"{elsewhere} on other tasks {'is' if elsewhere == 1 else 'are'} not drawn.")
    return found[:MOST_OTHERS], " ".join(said)


def curves(lines: Sequence[Line], grey: Sequence[Line], last: int) -> bytes:
    """A line with its band for each of `lines`, thin grey ones up to iteration `last`; names at their ends."""
    figure, axes = new_figure(9.2, 3.4)
    ends: list[tuple[float, float, str, str, str]] = []
    for line in grey:
        known = sorted((x, one) for x, one in line.points.items() if x <= last)
        if known:
            axes.plot(*_xy(known), color="#b3b9c2", linewidth=1.1, marker=".", markersize=4, zorder=1)
            ends.append((known[-1][0], known[-1][1].value, plain(line.experiment), "#7a828e", "normal"))
    for colour, line in zip(COLOURS, lines, strict=False):
        known = sorted(line.points.items())
        xs, values = _xy(known)
        axes.fill_between(
            xs, [one.low for _, one in known], [one.high for _, one in known], color=colour, alpha=0.16, linewidth=0
        )
        axes.plot(xs, values, color=colour, linewidth=2.4, marker="o", markersize=5, zorder=3)
        for at, value in list(zip(xs, values, strict=True))[:-1]:
            below = any(at in other.points and other.points[at].value > value for other in lines)
            axes.annotate(
                f"{value:.2f}",
                (at, value),
                xytext=(0, -9 if below else 8),
                textcoords="offset points",
                ha="center",
                va="top" if below else "bottom",
                fontsize=9,
                color=colour,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
                zorder=4,
            )
        ends.append((xs[-1], values[-1], f"{plain(line.experiment)} {values[-1]:.2f}", colour, "bold"))
    for x, y, name, colour, weight in _apart(ends):
        axes.annotate(
            name,
            (x, y),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colour,
            weight=weight,
            annotation_clip=False,
        )
    axes.set_xticks(range(last + 1), ["before", *(f"after {number:02d}" for number in range(1, last + 1))])
    axes.set_xlim(-0.15, last + 0.3 + 0.12 * last)
    axes.set_ylim(0, 1)
    axes.set_ylabel("success")
    axes.grid(axis="y", color="#e6e9ef", linewidth=0.6)
    return png_of(figure, SHARPER * DPI)


def _xy(known: Sequence[tuple[int, Rate]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in known], [one.value for _, one in known]


def _apart(
    ends: list[tuple[float, float, str, str, str]], least: float = 0.055
) -> list[tuple[float, float, str, str, str]]:
    """Names at the ends of lines, moved up where they would lie on one another."""
    moved: list[tuple[float, float, str, str, str]] = []
    for x, y, *rest in sorted(ends):
        below = [other[1] for other in moved if other[0] == x]
        moved.append((x, max([y, *(value + least for value in below)]), *rest))  # type: ignore[arg-type] # three texts
    return moved


def _changes(columns: Mapping[str, Trials]) -> Html:
    """Each evaluation against the one before it, pair by pair."""
    labels = list(columns)
    rows = [["change", "difference, 95 %", "paired starts", "beyond chance"]]
    pairs = list(zip(labels[1:], labels, strict=False)) + ([(labels[-1], labels[0])] if len(labels) > 2 else [])
    for after, before in pairs:
        found = change(columns[after].outcomes, columns[before].outcomes)
        if found:
            verdict = {"undecided": "no"}.get(state_of(found), f"yes, {state_of(found)}")
            rows.append([f"{after} \N{MINUS SIGN} {before}", signed(found), str(found.trials), verdict])
    said = note("Paired: the same starts of both, Newcombe's interval.")
    return tag("div", table(rows), said) if len(rows) > 1 else Html("")
