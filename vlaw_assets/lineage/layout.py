"""In which order and form people read what an artifact stands on: assets as the loop makes them, level by level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

SHORT = 12
"""Characters of a digest that a person is shown."""
LOOP_ORDER = (
    "autoencoder",
    "base_policy",
    "pretrained_world_model",
    "pretrained_reward_model",
    "expert_demonstrations",
    "co_training_data",
    "near_success",
    "corpus_latents",
    "recorded_episodes",
    "recorded_statistics",
    "quarantine",
    "labels",
    "refused_recordings",
    "loop_state",
    "real_rollouts",
    "latents",
    "reward_model",
    "world_model",
    "imagined_rollouts",
    "reward_scores",
    "imagined_outcomes",
    "training_set",
    "policy",
    "start_evaluation",
    "policy_evaluation",
    "start_evaluation_low_noise",
    "policy_evaluation_low_noise",
    "validation_rollouts",
    "start_world_model_metrics",
    "world_model_metrics",
    "reward_model_metrics",
    "episode_embeddings",
    "iteration_report",
)
"""In which order people read assets; others come last, by name."""


def rank(asset: str) -> tuple[int, str]:
    """Sorts assets as the loop makes them."""
    return (LOOP_ORDER.index(asset) if asset in LOOP_ORDER else len(LOOP_ORDER)), asset


def levels(items: Iterable[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Artifacts by partition: the foundation ('') first, then iterations in order; each level in loop order."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        grouped.setdefault(item["partition"], []).append(item)
    order = sorted(grouped, key=lambda key: (int(key.partition("|")[2] or -1), key))
    return [(key, sorted(grouped[key], key=lambda item: rank(item["asset"]))) for key in order]


def pivot(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[list[str]]:
    """A table, header first: one line per combination of `names`, one column per task, "successes/episodes" in a cell.

    Where nothing is judged (imagined episodes) a cell is the count alone. Rows that say how many a dataset `held` get a
    last column of it.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    lines: dict[tuple[Any, ...], dict[str, Counter[str]]] = {}
    held: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        key = tuple(row[name] for name in names)
        line = lines.setdefault(key, {task: Counter() for task in [*tasks, "all"]})
        for task in (row["task"], "all"):
            line[task][row["outcome"]] += row["count"]
        held[key] += row.get("held", 0)
    more = ["held"] if any("held" in row for row in rows) else []
    return [
        [*names, *tasks, "all", *more],
        *(
            [
                *(_text(value) for value in key),
                *(_cell(cell) for cell in line.values()),
                *(str(held[key]) for _ in more),
            ]
            for key, line in lines.items()
        ),
    ]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(outcomes: Counter[str]) -> str:
    from vlaw_assets.lake.contents import FAILURE, SUCCESS

    count = outcomes.total()
    return f"{outcomes[SUCCESS]}/{count}" if outcomes[SUCCESS] + outcomes[FAILURE] else str(count or "")
