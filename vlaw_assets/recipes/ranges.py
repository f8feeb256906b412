"""Which values a recipe's keys may have, so that a wrong one is refused before anything runs and not after hours.

Here: the range of every number that has one, the words that a key may say, and the keys that need another one. Not
here: reading files (recipes/__init__.py), types, and what the values mean (`vlaw_models/config.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Range(NamedTuple):
    keys: tuple[str, ...]
    """Of any table, or with their table."""
    allows: Callable[[Any], bool]
    remedy: str


RECORDING = re.compile(r"recorded:[A-Za-z0-9][A-Za-z0-9_{}-]{0,80}")


def is_recording(source: str) -> bool:
    """Whether it names an imported dataset: 'recorded:NAME'."""
    return RECORDING.fullmatch(source) is not None and not re.search(r"[{}]", source.replace("{iteration}", ""))


CHOICES = {
    "policy.start": ("previous", "base"),
    "imagine.starts": ("rollouts", "real"),
    "imagine.world": ("world_model", "simulator"),
    "score.labels": ("judge", "simulator"),
}
RANGES = (
    Range(
        ("source",),
        lambda value: value == "robot" or is_recording(value),
        "Use 'robot', or 'recorded:NAME' of an imported dataset; NAME may hold {iteration}.",
    ),
    Range(("num_steps", "batch_size", "sampling_steps", "lora_rank"), lambda value: value >= 1, "Use 1 or more."),
    Range(
        ("world_model_metrics.num_steps",),
        lambda value: value >= 2,
        "Use 2 or more: a video metric needs two frames that were imagined.",
    ),
    Range(
        (
            "episodes_per_task",
            "steps",
            "clips_per_task",
            "noise_scale",
            "low_noise_scale",
            "co_training_weight",
            "unroll",
            "expert_per_task",
            "validation_per_task",
        ),
        lambda value: value >= 0,
        "Use 0 or more.",
    ),
    Range(("alpha",), lambda value: 0 < value < 1, "Use a threshold strictly between 0 and 1; the paper has 0.8."),
    Range(("learning_rate", "beta", "noise_bound"), lambda value: value > 0, "Use a number above 0."),
    Range(
        ("imagined_fraction", "share", "margin", "max_false_positive_rate"),
        lambda value: 0 <= value <= 1,
        "Use a share between 0 and 1.",
    ),
    Range(
        ("confidence",),
        lambda value: 0.5 <= value < 1,
        "Use a one-sided confidence from 0.5 to below 1; 0.9 is the default.",
    ),
    Range(("ema",), lambda value: 0 <= value < 1, "Use a decay from 0 to below 1."),
    Range(
        ("stops",),
        lambda value: all(stop >= 1 for stop in value),
        "Give numbers of updates, 1 or more; the policy that training starts from is measured anyway.",
    ),
)


def remedy_for(key: str, value: Any) -> str:
    """What to write instead of `value` at `key` ('policy.ema'); '' where it is allowed. Types are right already."""
    if key in CHOICES and value not in CHOICES[key]:
        return f"Use {' or '.join(map(repr, CHOICES[key]))}."
    name = key.rpartition(".")[2]
    return next(
        (rule.remedy for rule in RANGES if (key in rule.keys or name in rule.keys) and not rule.allows(value)), ""
    )


def contradiction(tables: dict[str, Any]) -> tuple[str, str, str] | None:
    """(key, what is wrong, remedy) of the first key that does not go with another; `tables`: the stages' dataclasses by
    name."""
    policy, world_model = tables["policy"], tables["world_model"]
    if policy.stops and not policy.validation_per_task:
        return (
            "policy.stops",
            "gives stopping points, and policy.validation_per_task = 0 leaves nothing to choose between them by",
            "Set policy.validation_per_task to 1 or more, or policy.stops = [].",
        )
    if not world_model.use_rollouts and not world_model.expert_per_task:
        return (
            "world_model.expert_per_task",
            "is 0 where use_rollouts is false: there is nothing to learn from",
            "Give the number of demonstrations per task, 1 or more.",
        )
    return None
