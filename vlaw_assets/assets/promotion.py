"""The promotion gate: may the next iteration start from the models that this one made, or does it keep those before?

Two rules on recorded evidence, and the verdicts as plain values. A policy is promoted where it is not worse than the
one it would replace, on validation starts, paired, with a one-sided bound; a world model where it shows success in few
enough of the real failures it replays. What nobody measured is promoted, and said to be so. Evaluation starts decide
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from vlaw_assets.reports.success import ALL, VALIDATION
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.config import PromotionConfig

Outcomes = Mapping[str, Sequence[int]]
"""Task -> 0 or 1 for every validation start, in order: the same starts for every policy."""


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one new model, and on what evidence."""

    model: str
    """'policy' or 'world_model'."""
    promoted: bool
    measured: bool
    """False: there was no evidence, or nothing to decide."""
    reason: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "model"}


def not_measured(model: str, why: str) -> Verdict:
    return Verdict(model, promoted=True, measured=False, reason=f"promoted, not measured: {why}")


def passed_on(model: str) -> Verdict:
    return Verdict(
        model, promoted=True, measured=False, reason="it is the one before, passed on: there is nothing to decide"
    )


def false_positive_metric(alpha: float) -> str:
    """Metric of world_model_metrics that the gate reads: successes shown in replays of real failures."""
    return f"replay_false_positive_rate_at_{alpha:g}"


def validation_outcomes(rows: Iterable[Mapping[str, Any]], *, stop: int | None = None) -> dict[str, list[int]]:
    """Task -> outcomes at a stopping point, from a policy's rows with their `detail` as values; None: at the chosen
    one."""
    return {
        row["task"]: [int(value) for value in row["detail"]["outcomes"]]
        for row in rows
        if row["metric"] == VALIDATION
        and row["task"] != ALL
        and (row["detail"].get("chosen", False) if stop is None else row["detail"]["stop"] == stop)
    }


def decide_policy(new: Outcomes, old: Outcomes, config: PromotionConfig) -> Verdict:
    """Promoted where the lower bound of new - old, one-sided at `confidence` and paired by start, is above
    -`margin`."""
    if not new or not old:
        return not_measured("policy", "no outcomes on validation starts")
    if {task: len(found) for task, found in new.items()} != {task: len(found) for task, found in old.items()}:
        return not_measured("policy", "the two policies were not measured on the same validation starts")
    if not 0.5 <= config.confidence < 1:
        raise VlawError(
            f"[promotion] confidence is {config.confidence:g}",
            where="the promotion gate",
            remedy="Give a one-sided confidence of at least 0.5 and below 1; 0.9 is the default.",
        )
    import numpy as np

    from vlaw_models.metrics.stats import paired_difference

    after, before = (np.array([value for task in new for value in found[task]]) for found in (new, old))
    if not len(after):
        return not_measured("policy", "no validation starts")
    # The lower bound of a two-sided interval leaves out half of its alpha.
    difference = paired_difference(after, before, alpha=2 * (1 - config.confidence))
    promoted = bool(difference.low > -config.margin)
    numbers = {
        "new": float(after.mean()),
        "old": float(before.mean()),
        "difference": float(difference.diff),
        "lower_bound": float(difference.low),
        "confidence": config.confidence,
        "margin": config.margin,
        "starts": len(after),
    }
    reason = (
        f"{numbers['new']:.3f} against {numbers['old']:.3f} on {len(after)} validation starts: new - old "
        f"{difference.diff:+.3f}, at least {difference.low:+.3f} with confidence {config.confidence:g}; "
        f"{'above' if promoted else 'not above'} {-config.margin:g}"
    )
    return Verdict("policy", promoted, measured=True, reason=reason, numbers=numbers)


def decide_world_model(row: Mapping[str, Any] | None, config: PromotionConfig) -> Verdict:
    """Promoted where its false-positive rate on interaction events is at most `max_false_positive_rate`.

    `row`: the row of `evaluations` with `false_positive_metric`, of this very model; None where there is none, which is
    also so where no replayed clip was a failure.
    """
    if row is None or not row["trials"]:
        return not_measured("world_model", "no replayed real failures")
    promoted = row["value"] <= config.max_false_positive_rate
    numbers = {
        "metric": row["metric"],
        "false_positives": row["successes"],
        "negatives": row["trials"],
        "value": row["value"],
        "low": row["low"],
        "high": row["high"],
        "bound": config.max_false_positive_rate,
    }
    reason = (
        f"it shows success in {row['successes']} of {row['trials']} real failures it replays ({row['value']:.3f}); "
        f"{'at most' if promoted else 'more than'} {config.max_false_positive_rate:g}"
    )
    return Verdict("world_model", promoted, measured=True, reason=reason, numbers=numbers)
