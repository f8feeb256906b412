"""The ranked shifts of `vlaw diff` as a table of text, and the commands that show their episodes."""

from __future__ import annotations

import json
from typing import Any

from vlaw_assets.cli.output import console, print_table

TITLES = {"worse": "Why it may have got worse", "better": "Why it may have got better"}
OTHER = "What may have made a difference"
QUIET_SHOWN = 5
"""Rows that say little (within chance, or of a single number that hardly changed) that are shown."""
WATCHED = 6
"""Rows whose episodes are pointed at."""
LONGEST = 6
"""Characters of a changed value; the tables below have it whole."""
CHANCE = {"beyond chance": "beyond", "within chance": "within", "single number": "-", "changed": "changed"}


def show_shifts(found: dict[str, Any], compare: str) -> None:
    """The table, what its columns mean, and commands; `compare`: the one that shows the trials of two policies."""
    rows = found["rows"]
    if not rows:
        return
    quiet = [row for row in rows if not row["notable"]]
    shown = [row for row in rows if row["notable"] or row in quiet[:QUIET_SHOWN]]
    console.print()
    digits, tests = len(str(len(rows))), found["tests"]
    header = ["what", "a", "b", "b - a [95 %]", "size", "n", "chance"]
    print_table([header, *(_cells(row, digits) for row in shown)], title=_title(found))
    _say(
        f"chance: what is beyond it at {found['alpha']:.0%} by {found['correction']}'s correction (tests of success: "
        f"{tests['success']}, others: {tests['others']}); -: one number, not tested. "
        "size: 0.2 small, 0.5 medium, 0.8 large. Indented: changes that go with it."
    )
    if len(quiet) > QUIET_SHOWN:
        _say(f"rows of smaller shifts, not shown: {len(quiet) - QUIET_SHOWN} (--json has them)")
    watched = [row for row in shown if row["notable"] and row["watch"]][:WATCHED]
    commands = [f"{row['rank']:>{digits}}  {row['watch']}" for row in watched]
    if found["success"]:
        commands.append(f"all trials, side by side: {compare}")
    if commands:
        console.print("\nTheir episodes", style="bold")
        for command in commands:
            _say(command)


def _title(found: dict[str, Any]) -> str:
    """'Why it may have got worse: success 0.552 -> 0.520, not shown to differ'."""
    if not found["success"]:
        return OTHER
    whole = found["rows"][found["success"] - 1]
    said = "" if found["verdict"] in TITLES else f", {found['verdict']}"
    return (
        f"{TITLES.get(whole['sense'], OTHER)}: success {whole['a']:.3f} -> {whole['b']:.3f}, {_difference(whole)}{said}"
    )


def _cells(row: dict[str, Any], digits: int) -> list[str]:
    indent = "  " if row["standing"] == "changed" and row["goes_with"] else ""
    chance = CHANCE[row["standing"]]
    if row["standing"] == "beyond chance" and row["sense"]:
        chance += f", {row['sense']}"
    return [
        f"{row['rank']:>{digits}} {indent}{row['what']}",
        _value(row, row["a"]),
        _value(row, row["b"]),
        _difference(row),
        "" if row["size"] is None else f"{row['size']:.2f}",
        _counts(row),
        chance,
    ]


def _value(row: dict[str, Any], value: Any) -> str:
    if isinstance(value, float) and row["standing"] != "changed":
        return f"{value:.3f}" if row["low"] is not None and abs(value) < 10 else f"{value:.4g}"
    if value is None:
        return "-"
    if row["kind"] == "code":
        return str(value)[:LONGEST]
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return ""
    if row["low"] is None:
        return f"{row['difference']:+.3g}"
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(row[name] for name in ("difference", "low", "high")))


def _counts(row: dict[str, Any]) -> str:
    """How many episodes stand behind either number: '250' where it is the same; or how many came and went."""
    if row["added"] is not None:
        return f"+{row['added']} -{row['removed']}"
    counts = [str(row[name][-1]) for name in ("counts_a", "counts_b") if row[name]]
    return counts[0] if len(set(counts)) == 1 else "/".join(counts)


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
