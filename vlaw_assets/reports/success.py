"""Success rates as people compare them: per task, with intervals, paired where the trials are the same.

From evaluation artifacts in the ledger to rates, differences and tables of text. Evaluations share their held-out
seeds, so two policies are compared trial by trial.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_assets.partitions import partition_of
from vlaw_assets.reports.markdown import literal
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

Outcomes = dict[tuple[str, int], bool]
"""(task, seed) -> success."""
ALL = "all"
VALIDATION = "validation_success"
"""Metric of a policy's rows in `evaluations`: one per task and stopping point, with the outcome of every start."""
UNDECIDED = "undecided"


@dataclass(frozen=True)
class Rate:
    """Successes of trials with the Wilson 95 % interval."""

    successes: int
    trials: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.successes / self.trials

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Change:
    """Difference of two success rates on the same trials, with its 95 % interval (Newcombe, paired)."""

    diff: float
    low: float
    high: float
    trials: int

    def __str__(self) -> str:
        return f"{self.diff:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    @property
    def verdict(self) -> str:
        """One sentence that a person may quote."""
        if self.low > 0:
            return f"is better: the interval of the difference is above zero on {self.trials} paired trials"
        if self.high < 0:
            return f"is worse: the interval of the difference is below zero on {self.trials} paired trials"
        return f"is not shown to differ: the interval includes zero on {self.trials} paired trials"


def rate(successes: int, trials: int) -> Rate:
    from vlaw_models.metrics.stats import wilson

    return Rate(successes, trials, *(float(bound) for bound in wilson(successes, trials)))


def outcomes_of(episodes: Iterable[Mapping[str, Any]]) -> Outcomes:
    """From rows of the episodes table. Unjudged episodes are left out."""
    return {(e["task"], int(e["seed"])): bool(e["success"]) for e in episodes if e["success"] is not None}


def rates_of(outcomes: Outcomes) -> dict[str, Rate]:
    """Rate per task in the order of first appearance, then over all of them under "all"."""
    tasks = list(dict.fromkeys(task for task, _ in outcomes))
    rates = {}
    for task in tasks:
        results = [success for (name, _), success in outcomes.items() if name == task]
        rates[task] = rate(sum(results), len(results))
    if outcomes:
        rates[ALL] = rate(sum(outcomes.values()), len(outcomes))
    return rates


def change(after: Outcomes, before: Outcomes) -> Change | None:
    """After minus before on the trials that both have; None where they share none."""
    import numpy as np

    from vlaw_models.metrics.stats import paired_difference

    shared = sorted(after.keys() & before.keys())
    if not shared:
        return None
    found = paired_difference(np.array([after[key] for key in shared]), np.array([before[key] for key in shared]))
    return Change(float(found.diff), float(found.low), float(found.high), trials=len(shared))


@dataclass(frozen=True)
class Settled:
    """What a sequential test (vlaw_models/metrics/sequential.py) says of two evaluations on the same trials."""

    state: str
    """'after is better', 'before is better' or 'undecided'."""
    trials: int
    """Trials after which it was settled; all of them where it was not."""
    of: int
    e_value: float
    threshold: float
    alpha: float

    def __str__(self) -> str:
        if self.state == UNDECIDED:
            return (
                f"the sequential test is undecided after all {self.of} paired trials (evidence {self.e_value:.3g} "
                f"of {self.threshold:g})"
            )
        return (
            f"the sequential test would have settled it at {1 - self.alpha:.0%} after {self.trials} of {self.of} "
            f"paired trials: {self.state}"
        )


def settled(after: Outcomes, before: Outcomes, alpha: float = 0.05) -> Settled | None:
    """Where a user could have stopped: the shared trials read one by one, interleaved over tasks; None where there are
    none."""
    import numpy as np

    from vlaw_models.metrics.sequential import A_BETTER, B_BETTER, interleaved, paired_stream

    order = interleaved(after.keys() & before.keys())
    if not order:
        return None
    found = paired_stream(np.array([after[key] for key in order]), np.array([before[key] for key in order]), alpha)
    state = {A_BETTER: "after is better", B_BETTER: "before is better"}.get(found.state, UNDECIDED)
    return Settled(state, found.trials, len(order), found.e_value, found.threshold, alpha)


@dataclass(frozen=True)
class Trials:
    """What one evaluation says by the labels in force, without the trials in quarantine."""

    outcomes: Outcomes
    left_out: int
    """How many trials are in quarantine."""
    corrected: int = 0
    """Of how many of the others people say otherwise than was recorded."""

    @property
    def rates(self) -> dict[str, Rate]:
        return rates_of(self.outcomes)


def evaluations(lake: Lake, experiment: str, iterations: Iterable[int]) -> dict[str, Trials]:
    """Column label -> trials: "before" (the policy iteration 01 started with), "after 01", ...; what exists of it."""
    found: dict[str, Trials] = {}
    for iteration in iterations:
        key = partition_of(experiment, iteration)
        if not found:
            first = lake.ledger.current("start_evaluation", key)
            if first is not None:
                found["before" if iteration == 1 else f"before {iteration:02d}"] = trials_of(lake, first)
        ref = lake.ledger.current("policy_evaluation", key)
        if ref is not None:
            found[f"after {iteration:02d}"] = trials_of(lake, ref)
    return found


def trials_of(lake: Lake, ref: ArtifactRef) -> Trials:
    """The trials of one evaluation artifact."""
    handle = lake.counted(ref)
    return Trials(outcomes_of(handle.table("episodes").to_pylist()), handle.left_out, handle.corrected)


def lists_text(columns: Mapping[str, Trials]) -> str:
    """'left out, being in quarantine: 2 trials of after 01; otherwise than recorded, by labels: 1 trial of before'; ''
    where none are."""
    counts = {
        "left out, being in quarantine": {label: trials.left_out for label, trials in columns.items()},
        "otherwise than recorded, by labels": {label: trials.corrected for label, trials in columns.items()},
    }
    return "; ".join(
        f"{what}: {', '.join(f'{n} trial' + 's' * (n != 1) + f' of {label}' for label, n in found.items() if n)}"
        for what, found in counts.items()
        if any(found.values())
    )


def success_of(lake: Lake, ref: ArtifactRef) -> tuple[Rate | None, str]:
    """Success over all tasks of one evaluation artifact (None where nothing was judged), and what the lists do to it:
    '1 left out, 2 relabelled'.

    From the counts in its ledger row; its rows are read only where one of them is in quarantine or has another label,
    or where it has no counts.
    """
    from vlaw_assets.lake import labels, quarantine
    from vlaw_assets.lake.contents import FAILURE, SUCCESS

    if not ref.contents_json or ref.owner in quarantine.occurrences(lake) or ref.owner in labels.corrections(lake):
        trials = trials_of(lake, ref)
        counts = {"left out": trials.left_out, "relabelled": trials.corrected}
        return trials.rates.get(ALL), ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    counted = Counter[str]()
    for row in json.loads(ref.contents_json).get("episodes", ()):
        counted[row["outcome"]] += row["count"]
    judged = counted[SUCCESS] + counted[FAILURE]
    return rate(counted[SUCCESS], judged) if judged else None, ""


def table(columns: Mapping[str, Mapping[str, Rate]]) -> list[list[str]]:
    """Rows of text, the header first: a task per row, a column per evaluation."""
    tasks = list(dict.fromkeys(task for rates in columns.values() for task in rates if task != ALL))
    body = [
        [task, *(str(rates[task]) if task in rates else "" for rates in columns.values())] for task in [*tasks, ALL]
    ]
    return [["task", *columns], *body]


def success_table(columns: Mapping[str, Mapping[str, Rate]]) -> str:
    """As `table`, as Markdown."""
    header, *body = table(columns)
    return markdown([header, *([literal(task), *cells] for task, *cells in body)])


def measured_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the table `evaluations` as Markdown: value, interval where there is one, number of trials."""
    body = [
        [
            literal(row["task"]),
            literal(row["metric"]),
            literal(row.get("camera") or ""),
            f"{row['value']:.3f}",
            f"[{row['low']:.3f}, {row['high']:.3f}]" if row.get("low") is not None else "",
            str(row["trials"]),
        ]
        for row in rows
    ]
    return markdown([["task", "metric", "camera", "value", "95 %", "n"], *body])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    if not rows:
        raise VlawError("a table without a header", where="summary", remedy="Give at least the header row.")
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
