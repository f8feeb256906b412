"""This iteration against one of another experiment: success side by side, the paired difference, and what differs."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from vlaw_assets.lineage.differences import difference
from vlaw_assets.lineage.layout import SHORT
from vlaw_assets.reports.iteration.headline import VERDICTS, signed, state_of
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import Html, code, joined, note, table, tag
from vlaw_assets.reports.success import ALL, Trials, change

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

MOST_KEYS = 12
"""Recipe keys that are listed."""
VALUE = 40
"""Characters of a value."""


def section(subject: Subject, other: Subject, ours: Trials, theirs: Trials) -> Section:
    """Of the last evaluations of both."""
    found = change(ours.outcomes, theirs.outcomes)
    if found:
        state = state_of(found)
        finding = f"{signed(found)} on {found.trials} shared starts"
        said = f"{subject.name}, against {other.name}: {finding}; {VERDICTS[state]}."
    else:
        finding = "no start in common"
        said = f"{subject.name} and {other.name} were evaluated on different starts: only their rates can be compared."
    policies = [one.lake.ledger.require("policy", one.key) for one in (other, subject)]
    body = joined(
        [
            tag("p", said),
            table(rows(subject, other, ours, theirs)),
            note("Difference: this one minus the other, on the starts of both (Newcombe, paired)." if found else ""),
            tag("h3", "What differs"),
            *_differs(subject, other, *policies),
            note(
                "The policies: ", subject.artifact(policies[1]), ", ", other.artifact(policies[0]),
                ". All that differs: ", code(_command("diff", subject, other)),
                "; trial by trial: ", code(f"{_command('compare', subject, other)} --open"),
            ),
        ]
    )  # fmt: skip
    return Section("against", f"Against {other.name}", finding, body)


def _command(what: str, subject: Subject, other: Subject) -> str:
    names = (f"{one.experiment}/{one.iteration:02d}" for one in (other, subject))
    return f"vlaw {what} policy {' '.join(names)}"


def rows(subject: Subject, other: Subject, ours: Trials, theirs: Trials) -> list[list[str]]:
    """Success per task side by side, the header first."""
    header = ["task", f"{other.experiment} {other.iteration:02d}", f"{subject.experiment} {subject.iteration:02d}"]
    body = []
    for task in [*dict.fromkeys(name for name in (*ours.rates, *theirs.rates) if name != ALL), ALL]:
        sides = [
            {start: won for start, won in trials.outcomes.items() if task in (start[0], ALL)}
            for trials in (ours, theirs)
        ]
        found = change(*sides)
        rates = [str(trials.rates[task]) if task in trials.rates else "" for trials in (theirs, ours)]
        body.append([task, *rates, signed(found) if found else "", str(found.trials) if found else ""])
    return [[*header, "difference, 95 %", "shared starts"], *body]


def _differs(subject: Subject, other: Subject, theirs: ArtifactRef, ours: ArtifactRef) -> list[Html]:
    found = difference(subject.lake, theirs, ours)
    if found["same"]:
        return [tag("p", "Nothing: both stand on the same artifacts.")]
    lines: list[Html] = []
    if code_of := sorted({row["asset"] for row in found["code"]}):
        lines.append(joined([tag("b", "code"), f" of {', '.join(code_of)}"]))
    for key, name in (("judge", "judge"), ("world_model", "world model")):
        sides = [_models(found[key][side], key) for side in ("a", "b")]
        if any(sides):
            lines.append(joined([tag("b", name), f": {sides[0] or 'none'} \N{RIGHTWARDS ARROW} {sides[1] or 'none'}"]))
    for key, name in (("episodes", "episodes read"), ("members", "episodes learned from")):
        counts = {change: len(found[key][change]["ids"]) for change in ("added", "removed", "changed")}
        if any(counts.values()):
            said = ", ".join(f"{count} {change}" for change, count in counts.items() if count)
            lines.append(joined([tag("b", name), f": {said}"]))
    both = [row for row in found["recipe"] if row["a"] is not None and row["b"] is not None]
    for side, name in (("a", other.experiment), ("b", subject.experiment)):
        alone = Counter(row["asset"] for row in found["recipe"] if row not in both and row[side] is not None)
        if alone:
            said = ", ".join(f"{count} of {asset}" for asset, count in sorted(alone.items()))
            lines.append(joined([tag("b", "recipe keys"), f" that only {name} has: {said}"]))
    parts = [tag("ul", *(tag("li", line) for line in lines)) if lines else Html("")]
    if both:
        listed = [[row["key"], _value(row["a"]), _value(row["b"])] for row in both[:MOST_KEYS]]
        parts.append(table([["recipe key", other.experiment, subject.experiment], *listed]))
    if len(both) > MOST_KEYS:
        parts.append(note(f"{len(both) - MOST_KEYS} more recipe keys differ."))
    return parts


def _models(listed: list[dict[str, Any]], key: str) -> str:
    """'world_model[vlaw|01] a9d56a850be6'; '' for none."""
    return ", ".join(
        f"{row[key]} {(row.get('judge_sha256') or row.get('content_sha256') or '')[:SHORT]}"
        + (f" at alpha {row['alpha']:g}" if row.get("alpha") is not None else "")
        for row in listed
        if row[key]
    )


def _value(value: Any) -> str:
    said = json.dumps(value, sort_keys=True, ensure_ascii=False) if value is not None else "-"
    return said if len(said) <= VALUE else f"{said[: VALUE - 1]}…"
