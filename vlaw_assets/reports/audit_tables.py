"""Tables of an audit as rows of text, for the page and for the terminal."""

from __future__ import annotations

from typing import Any

from vlaw_assets.lineage.layout import SHORT, rank

LEARNED = ("learner", "dataset", "through", "source", "weight")
"""Columns of the table of what models learned from."""


def judge_table(found: dict[str, Any]) -> list[list[str]]:
    """Reward model and alpha of every training set, header first."""
    rows = [
        [
            row["training_set"],
            row["judge"],
            row["judge_sha256"][:SHORT],
            f"{row['alpha']:g}" if row["alpha"] is not None else "",
            str(row["scored"]),
            f"{row['mean']:.3f}" if row["scored"] else "",
            str(row["accepted"]),
        ]
        for row in found["judges"]
    ]
    return [["training set", "judge", "content", "alpha", "scored", "mean P", "accepted"], *rows]


def metric_table(found: dict[str, Any], *, brief: bool = False) -> list[list[str]]:
    """Metrics known at the time, a column per partition, header first. `brief`: success over all tasks only."""
    partitions = list(dict.fromkeys(item["partition"] for item in found["metrics"]))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for item in sorted(found["metrics"], key=lambda item: rank(item["asset"])):
        for metric, value in item["figures"].items():
            if not (brief and metric.startswith("success ") and metric != "success all"):
                left_out = (
                    f" ({item['left_out']} left out)" if item["left_out"] and metric.startswith("success ") else ""
                )
                rows.setdefault((item["asset"], metric), {})[item["partition"]] = f"{value:.3f}{left_out}"
    return [
        ["measured by", "metric", *partitions],
        *([asset, metric, *(values.get(key, "") for key in partitions)] for (asset, metric), values in rows.items()),
    ]


def decision_table(found: dict[str, Any]) -> list[list[str]]:
    """What chose the models, header first; one line per model of each iteration's state."""
    rows = [
        [
            row["state"],
            row["model"],
            row["chosen"],
            row["candidate"],
            {True: "promoted", False: "refused", None: ""}[row["promoted"]],
            row["reason"],
        ]
        for row in found["decisions"]
    ]
    return [["state", "model", "goes on", "candidate", "verdict", "why"], *rows]


def label_table(found: dict[str, Any]) -> list[list[str]]:
    """Episodes that people have labelled, header first."""
    return [
        ["episode", "made with", "label now", "who", "at", "why", "read by"],
        *(
            [
                *(row[key] for key in ("episode_id", "made_with", "label", "who")),
                row["at"][:19],
                row["why"],
                ", ".join(row["read_by"]),
            ]
            for row in found["labels"]
        ),
    ]


def quarantine_table(found: dict[str, Any]) -> list[list[str]]:
    """Episodes in quarantine, header first."""
    return [
        ["episode", "why", "by", "since", "in this closure"],
        *(
            [row["episode_id"], row["why"], row["by"], row["at"][:19], "yes" if row["in_closure"] else "no"]
            for row in found["quarantine"]
        ),
    ]
