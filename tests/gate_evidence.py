"""Measurements that the promotion gate decides by, as rows."""

from __future__ import annotations

from typing import Any

from vlaw_assets.reports.success import rate

TASKS = ("stack", "book")


def outcomes(successes: int, trials: int = 20) -> list[int]:
    """Successes first."""
    return [1] * successes + [0] * (trials - successes)


def stops(old: list[int], new: list[int], *, chosen: int = 600) -> list[dict[str, Any]]:
    """A policy's rows: half of the outcomes for each task, at stop 0 and at another."""
    return [
        {
            "task": task,
            "metric": "validation_success",
            "policy": "",
            "value": sum(part) / len(part),
            "trials": len(part),
            "successes": sum(part),
            "detail": {"stop": stop, "chosen": stop == chosen, "outcomes": part},
        }
        for stop, found in ((0, old), (600, new))
        for task, part in zip(TASKS, (found[::2], found[1::2]), strict=True)
    ]


def shown(model: str, positives: int, negatives: int, alpha: float = 0.8) -> list[dict[str, Any]]:
    """A world model's row: success shown in `positives` of the `negatives` real failures that it replayed."""
    found = rate(positives, negatives)
    return [
        {
            "task": "all",
            "metric": f"replay_false_positive_rate_at_{alpha:g}",
            "world_model": model,
            "trials": negatives,
            "successes": positives,
            "value": found.value,
            "low": found.low,
            "high": found.high,
        }
    ]
