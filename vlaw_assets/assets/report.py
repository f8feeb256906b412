"""The iteration in one page: what it started from, what it learned from, what came out.

An artifact (report.json, report.md), so that it is versioned and audited like everything else. The page that `vlaw
report` writes is kept beside it as pictures are: it tells of the lake as it was then.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.reports.success import (
    ALL,
    Change,
    Rate,
    Settled,
    Trials,
    change,
    evaluations,
    lists_text,
    outcomes_of,
    settled,
    success_table,
)
from vlaw_models.learners.base import KINDS

PARENTS = ("start_evaluation", "policy_evaluation", "training_set", "world_model_metrics", "reward_model_metrics")
SHOWN = ("imagined_outcomes", "episode_embeddings", "start_world_model_metrics")
"""Not read for the report itself; the page shows them, so they come first."""
PAGE = "the report"
EVALUATIONS = {"before": "start_evaluation", "after": "policy_evaluation"}


def plan(stage: Stage) -> Plan:
    return Plan(kind="iteration_report", recipe={}, parents={asset: stage.require(asset) for asset in PARENTS})


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    from vlaw_assets.reports import stage_pictures
    from vlaw_assets.reports.iteration import page

    handles = {role: work.read(role) for role in PARENTS}
    columns = {
        label: Trials(
            outcomes_of(handles[asset].table("episodes").to_pylist()),
            handles[asset].left_out,
            handles[asset].corrected,
        )
        for label, asset in EVALUATIONS.items()
    }
    members = handles["training_set"].members().to_pylist()
    figures = [row for role in PARENTS[3:] for row in handles[role].table("evaluations").to_pylist()]
    difference, sequential = _compared(columns)
    report: dict[str, Any] = {
        "success": {
            label: {task: [r.successes, r.trials, r.low, r.high] for task, r in trials.rates.items()}
            for label, trials in columns.items()
        },
        "left_out": {label: trials.left_out for label, trials in columns.items()},
        "difference": [difference.diff, difference.low, difference.high, difference.trials] if difference else None,
        "sequential_trials": [{"comparison": "after - before", **dataclasses.asdict(sequential)}] if sequential else [],
        "training_set": {source: sum(m["source"] == source for m in members) for source in KINDS},
        "metrics": [
            {key: row[key] for key in ("task", "metric", "camera", "value", "low", "high", "trials")} for row in figures
        ],
    }
    folder = work.draft.checkpoint_dir()
    (folder / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True, allow_nan=False) + "\n")
    (folder / "report.md").write_text(_text(columns))
    work.metrics["numbers"] = _numbers(columns, difference) | report["training_set"]
    work.draw("success over iterations", lambda: stage_pictures.iterations(_so_far(stage, columns)))
    work.write_page(PAGE, lambda: page.build(stage.lake, stage.experiment, stage.iteration))


def _numbers(columns: Mapping[str, Trials], difference: Change | None) -> dict[str, float]:
    """The report's own for its page in Dagster."""
    names = {"success_before": "before", "success": "after"}
    found = {name: columns[label].rates[ALL].value for name, label in names.items() if ALL in columns[label].rates}
    if difference:
        found |= {"difference": difference.diff, "difference_low": difference.low, "difference_high": difference.high}
    return found


def _so_far(stage: Stage, columns: Mapping[str, Trials]) -> dict[str, dict[str, Rate]]:
    """Success after every iteration up to this one, for the picture alone: the last column is this report's own."""
    earlier = evaluations(stage.lake, stage.experiment, range(1, stage.iteration)) or {"before": columns["before"]}
    found = {**earlier, f"after {stage.iteration:02d}": columns["after"]}
    return {label: trials.rates for label, trials in found.items() if trials.outcomes}


def _compared(columns: Mapping[str, Trials]) -> tuple[Change | None, Settled | None]:
    """After minus before on shared trials, and where a sequential test would have settled it."""
    after, before = columns["after"].outcomes, columns["before"].outcomes
    return change(after, before), settled(after, before)


def _text(columns: Mapping[str, Trials]) -> str:
    """The report as Markdown."""
    difference, sequential = _compared(columns)
    text = success_table({label: trials.rates for label, trials in columns.items()})
    text += f"\n\nafter - before: {difference}; {difference.verdict}\n" if difference else "\n"
    if sequential:
        text += f"\n{str(sequential)[0].upper()}{str(sequential)[1:]} (trials interleaved over tasks).\n"
    if lists := lists_text(columns):
        text += f"\n{lists[0].upper()}{lists[1:]}.\n"
    planned = [len(trials.outcomes) + trials.left_out for trials in columns.values()]
    if planned[1] < planned[0]:
        text += (
            "\nThe evaluation stopped early: the intervals above are for a fixed number of trials and do not allow "
            "for that, "
            "the sequential test does.\n"
        )
    return text


iteration_report = stage_asset(
    "iteration_report",
    "Success before and after on the same trials, the difference with its interval, and what the policy learned from.",
    plan=plan,
    make=make,
    group="evaluation",
    deps=(*PARENTS, *SHOWN),
    kinds=("json",),
)
