"""How the policy practised while it learned: its RL steps, its episodes, and what ending early saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import joined, note, table, tag
from vlaw_models.episodes import STEPS_SAVED


def section(subject: Subject) -> Section | None:
    """None for a policy that did not practise."""
    ref = subject.current("policy")
    steps: Sequence[Mapping[str, Any]] = ref.metrics.get("rl_steps", []) if ref else []
    if ref is None or not steps:
        return None
    finding = f"{ref.metrics['practised']:,} episodes in {len(steps)} RL step{'s' * (len(steps) != 1)}"
    body = joined(
        [
            tag("p", f"The policy tried itself while it learned: {finding}.{_saved(ref.metrics)}{_stop(ref.metrics)}"),
            table(rows(steps)),
            note("Success as the learner's reward tells it. From ", subject.artifact(ref), "."),
        ]
    )
    return Section("practice", "Practice", finding, body)


def rows(steps: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row per RL step, the header first."""
    header = ["RL step", "success", "groups learned from", "clipped", "KL"]
    body = [
        [str(number), f"{one['success']:.2f}", str(one["signal"]), f"{one['clipped']:.2%}", f"{one['kl']:.2g}"]
        for number, one in enumerate(steps, 1)
    ]
    return [header, *body]


def _saved(metrics: Mapping[str, Any]) -> str:
    if not metrics.get(STEPS_SAVED):
        return " None of them ended early."
    ended, saved = metrics["ended_early"], metrics[STEPS_SAVED]
    return f" Of these {ended:,} ended early, as their reward said done: {saved:,} control steps were not made."


def _stop(metrics: Mapping[str, Any]) -> str:
    return f" The policy after RL step {metrics['stop']} was kept." if "stop" in metrics else ""
