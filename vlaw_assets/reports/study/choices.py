"""Section 8: what was decided on validation starts: stopping points, and whether new models were promoted."""

from __future__ import annotations

import json
from typing import Any

from vlaw_assets.reports.study.facts import Facts, Row
from vlaw_assets.reports.study.text import missing, percent, seeds_text, table, title


def section(facts: Facts) -> str:
    parts = [
        "## 8. Stopping points and promotions",
        (
            "Decided on validation starts, which nobody is trained or evaluated on. Stop 0 is the policy that training "
            "began with."
        ),
        _stops(facts),
        _promotions(facts),
    ]
    measured = {(row["recipe"], row["seed"], row["iteration"]) for row in facts.rows["stops"]}
    gone = [
        f"{row['recipe']}, iteration {row['iteration']}, seed {row['seed']}: no stopping point was measured"
        for row in facts.rows["runs"]
        if row["evaluated"] and (row["recipe"], row["seed"], row["iteration"]) not in measured
    ]
    parts.append(missing(gone if measured else ["no stopping point was measured"]))
    return "\n\n".join(part.strip("\n") for part in parts if part)


def _stops(facts: Facts) -> str:
    stops = sorted({row["stop"] for row in facts.rows["stops"]})
    found: dict[tuple[str, int, int], dict[int, Row]] = {}
    for row in facts.rows["stops"]:
        found.setdefault((row["recipe"], row["iteration"], row["seed"]), {})[row["stop"]] = row
    rows = []
    for (recipe, iteration, seed), own in found.items():
        chosen = next((stop for stop, row in own.items() if row["chosen"]), None)
        rows.append(
            [
                title(recipe, iteration, privileged=recipe in facts.privileged),
                str(seed),
                "" if chosen is None else str(chosen),
                str(next(iter(own.values()))["trials"]),
                *(_cell(own.get(stop)) for stop in stops),
            ]
        )
    return (
        "Success on validation starts in per cent, the chosen stop in bold:\n"
        + table(["policy", "seed", "stop", "n", *(f"{stop}" for stop in stops)], rows)
        if rows
        else ""
    )


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    return f"**{percent(row['rate'])}**" if row["chosen"] else percent(row["rate"])


def _promotions(facts: Facts) -> str:
    rows = []
    for row in facts.rows["promotions"]:
        for role, decision in decisions(json.loads(row["noted"])).items():
            rows.append(
                [
                    title(row["recipe"]),
                    str(row["seed"]),
                    str(row["iteration"]),
                    role.replace("_", " "),
                    "promoted" if decision.get("promoted") else "**kept the old one**",
                    str(decision.get("reason", "")),
                ]
            )
    text = table(["arm", "seed", "for iteration", "model", "decision", "why"], rows)
    seeds = {row["seed"] for row in facts.rows["promotions"]}
    return f"What each later iteration began with (seeds {seeds_text(seeds)}):\n{text}" if text else ""


def decisions(noted: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Role -> what loop_state decided, of its metrics; empty where it wrote none down."""
    found = noted.get("promotion", {})
    return {role: decision for role, decision in found.items() if isinstance(decision, dict)}
