"""The iteration in one page: what it started from, what it learned from, what came out.

Here: the summary as an artifact (report.json, report.md), so that it is versioned and audited like everything else. Not
here: the HTML page for people (`vlaw report`).
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import dagster as dg

from vlaw_assets.assets.stage import Stage, stage_asset
from vlaw_assets.recipes import canonical
from vlaw_assets.summary import change, markdown, outcomes_of, rates_of, settled, table

PARENTS = ("start_evaluation", "policy_evaluation", "training_set", "world_model_metrics", "reward_model_metrics")


@stage_asset(group="evaluation", deps=PARENTS, kinds=("json",))
def iteration_report(stage: Stage) -> dg.MaterializeResult:
    """Success before and after on the same trials, the difference with its interval, and what the policy learned from."""
    parents = {asset: stage.require(asset) for asset in PARENTS}
    before, after = (outcomes_of(stage.lake.read(parents[asset]).table("episodes").to_pylist()) for asset in PARENTS[:2])
    columns = {"before": rates_of(before), "after": rates_of(after)}
    difference = change(after, before)
    sequential = settled(after, before)
    text = markdown(table(columns)) + (f"\n\nafter - before: {difference}; {difference.verdict}\n" if difference else "\n")
    if sequential:
        text += f"\n{str(sequential)[0].upper()}{str(sequential)[1:]} (trials interleaved over tasks).\n"
    if len(after) < len(before):
        text += ("\nThe evaluation stopped early: the intervals above are for a fixed number of trials and do not allow for that, "
                 "the sequential test does.\n")
    with stage.commit("iteration_report", recipe={}, parents=parents) as work:
        if work.wanted:
            handles = {role: work.read(role) for role in PARENTS}
            members = handles["training_set"].members().to_pylist()
            figures = [row for role in PARENTS[3:] for row in handles[role].table("evaluations").to_pylist()]
            report: dict[str, Any] = {
                "success": {label: {task: [r.successes, r.trials, r.low, r.high] for task, r in rates.items()}
                            for label, rates in columns.items()},
                "difference": [difference.diff, difference.low, difference.high, difference.trials] if difference else None,
                "sequential_trials": [{"comparison": "after - before", **dataclasses.asdict(sequential)}] if sequential else [],
                "training_set": {source: sum(m["source"] == source for m in members) for source in ("real", "imagined")},
                "metrics": [{key: row[key] for key in ("task", "metric", "camera", "value", "low", "high", "trials")}
                            for row in figures],
            }
            folder = work.draft.checkpoint_dir()
            (folder / "report.json").write_text(json.dumps(json.loads(canonical(report)), indent=2, sort_keys=True) + "\n")
            (folder / "report.md").write_text(text)
    from vlaw_assets.plots import success_bars

    if before or after:
        work.show_png("success per task", success_bars(columns))
    return stage.result(work, report=dg.MetadataValue.md(text))
