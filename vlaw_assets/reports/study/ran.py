"""Section 0 of the report: what was run, on what, for how long, and on which starts.

The run as the ledger has it, and the machine on which the report is written.
"""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from vlaw_assets.reports.study.facts import LOW, NOISES, REPORTED, Facts
from vlaw_assets.reports.study.text import NOTE, hours, missing, number, seeds_text, table, title

CPU_INFO = Path("/proc/cpuinfo")
SLOWEST = 8
"""Assets listed in the table of times."""


def section(facts: Facts) -> str:
    runs, definition = facts.rows["runs"], [row for row in facts.rows["definition"] if row["is_current"]]
    parts = ["## 0. What was run", f"`vlaw study {facts.study}`, then `vlaw report study {facts.study}`."]
    if facts.definition and facts.definition.get("description"):
        parts.append(str(facts.definition["description"]))
    parts.append(
        table(
            ["what", "value"],
            [
                *([["definition, sha256", f"`{definition[-1]['content_digest']}`"]] if definition else []),
                *(
                    [
                        ["partitions (recipe × seed × iteration)", str(len(runs))],
                        ["artifacts made", str(sum(row["made"] for row in runs))],
                        ["artifacts reused", str(sum(row["reused"] for row in runs))],
                        ["time from the first artifact's beginning to the last one's commit", _wall(facts)],
                        ["time of all stages added up", hours(sum(row["seconds"] for row in runs))],
                    ]
                    if runs
                    else []
                ),
                *(
                    [["CPU time, as noted with each partition", hours(sum(row["cpu_seconds"] or 0 for row in runs))]]
                    if any(row["cpu_seconds"] for row in runs)
                    else []
                ),
                ["noise of the flow policy in evaluations", _noise(facts)],
                ["machine of this report", machine()],
            ],
        )
    )
    parts.append(
        "Pauses between two runs of a study are in the first time and not in the second; stages that ran side by side "
        "are in the second one twice. What all studies share (demonstrations, pretrained weights) is in neither."
    )
    parts += [_versions(facts), _times(facts), _arms(facts), _starts(facts)]
    parts.append(missing(facts.lacks(list(dict.fromkeys(recipe for recipe, _ in facts.wanted)))))
    return "\n\n".join(part.strip("\n") for part in parts if part)


def machine() -> str:
    """CPU model, cores, memory, Python and torch of this machine."""
    from importlib import metadata

    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    try:
        torch = f", torch {metadata.version('torch')}"
    except metadata.PackageNotFoundError:
        torch = ""
    return (
        f"{model or platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}{torch}"
    )


def _wall(facts: Facts) -> str:
    began, ended = min(row["began"] for row in facts.rows["runs"]), max(row["ended"] for row in facts.rows["runs"])
    moments = [f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}" for seconds in (began, ended)]
    return f"{hours(ended - began)} ({moments[0]} to {moments[1]} UTC)"


def _noise(facts: Facts) -> str:
    found = {noise: facts.noise_scale(noise) for noise in NOISES}
    names = {REPORTED: "as reported", LOW: "lower"}
    return ", ".join(f"{names[noise]} × {number(scale, 2)}" for noise, scale in found.items() if scale is not None)


def _versions(facts: Facts) -> str:
    rows = [
        [
            row["machine"],
            row["python"],
            row["torch"] or "",
            row["threads"] or "",
            row["code_revision"][:12],
            str(row["artifacts"]),
        ]
        for row in facts.rows["machine"]
    ]
    text = table(["artifacts made on", "Python", "torch", "threads", "revision", "artifacts"], rows)
    return f"Noted with the artifacts (no threads: the stage did not use torch):\n{text}" if text else ""


def _times(facts: Facts) -> str:
    rows = [
        [row["asset"], str(row["made"]), str(row["reused"]), hours(row["seconds"])]
        for row in facts.rows["time"][:SLOWEST]
    ]
    return (
        f"The {len(rows)} assets that took longest:\n{table(['asset', 'made', 'reused', 'time'], rows)}" if rows else ""
    )


def _arms(facts: Facts) -> str:
    settings = (
        ("rollouts_per_task", "real per task"),
        ("imagined_per_task", "imagined per task"),
        ("tries_per_failure", "tries per failure"),
        ("labels", "labels"),
        ("alpha", "alpha"),
        ("policy_update", "update"),
        ("use_real", "real in update"),
        ("use_rollouts", "rollouts in wm"),
        ("expert_per_task", "expert per task in wm"),
    )
    rows = [
        [
            title(row["recipe"], privileged=row["recipe"] in facts.privileged),
            f"`{row['recipe']}`",
            seeds_text(row["seeds"]),
            str(row["iterations"]),
            row["world"] or "",
            *(_setting(row[key]) for key, _ in settings),
        ]
        for row in facts.rows["arms"]
    ]
    text = table(["arm", "recipe", "seeds", "iterations", "imagined in", *(label for _, label in settings)], rows)
    return (
        f"The arms, by the settings their artifacts were made with (first iterations):\n{text}\n{NOTE}" if text else ""
    )


def _setting(value: object) -> str:
    return "" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _starts(facts: Facts) -> str:
    found = facts.rows["start_sets"]
    rows = [
        [
            row["used_for"],
            row["purpose"],
            str(row["tasks"]),
            str(row["starts"]),
            str(row["first_seed"]),
            str(row["last_seed"]),
            "" if row["used_for"] == "evaluation" else str(row["shared_with_evaluation"]),
            str(row["shared_with_validation"]) if row["used_for"] == "training" else "",
        ]
        for row in found
    ]
    text = table(
        [
            "used for",
            "episodes",
            "tasks",
            "starts",
            "first seed",
            "last seed",
            "shared with evaluation",
            "shared with validation",
        ],
        rows,
    )
    if not text:
        return ""
    shared = sum(row["shared_with_evaluation"] + row["shared_with_validation"] for row in found)
    verdict = (
        "The sets share no start: nothing was trained or tuned on a start it is evaluated on."
        if not shared
        else f"**The sets share {shared} starts: what follows is not a held-out evaluation.**"
    )
    return f"The start sets, a start being a task and a seed:\n{text}\n{verdict}"
