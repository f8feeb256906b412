"""Kills, what was found after each of them, and the table of both."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field

from common.crash_checks import INVARIANTS


@dataclass
class Kill:
    """One kill and what was found after it."""

    number: int
    asset: str
    force: bool
    how: str
    boundary: str
    visible: bool = False
    mirrored: bool = False
    orphans: int = 0
    polls: int = 0
    seconds: float = 0.0
    violations: dict[str, list[str]] = field(default_factory=dict)


def table(kills: list[Kill]) -> str:
    """Kills and violations by boundary and by invariant."""
    lines = [f"{'kills':>6} {'row there':>9} {'event there':>11} {'orphans':>8} {'violations':>10}  boundary"]
    for how in ("python", "strace"):
        groups: dict[str, list[Kill]] = {}
        for item in kills:
            if item.how == how:
                groups.setdefault(item.boundary, []).append(item)
        for boundary, items in sorted(groups.items()):
            lines.append(
                f"{len(items):>6} {sum(i.visible for i in items):>9} {sum(i.mirrored for i in items):>11} "
                f"{sum(i.orphans for i in items):>8} {sum(bool(i.violations) for i in items):>10}  {how}: {boundary}"
            )
    lines += ["", f"{'violations':>10} {'limit':>6}  invariant"]
    lines += [
        f"{sum(name in item.violations for item in kills):>10} {0:>6}  {name} {text}"
        for name, text in INVARIANTS.items()
    ]
    bad = [item for item in kills if item.violations]
    for item in bad[:20]:
        lines.append(f"chain {item.number} ({item.asset}, {item.how}: {item.boundary}):")
        lines += [f"  {name} {line[:600]}" for name, found in item.violations.items() for line in found[:3]]
    counts = collections.Counter(item.how for item in kills)
    replaced = sum(item.force for item in kills)
    lines += [
        "",
        (
            f"{len(kills)} kills ({counts['python']} between calls, {counts['strace']} inside system calls; "
            f"{replaced} while "
            f"replacing a version), {sum(i.polls for i in kills)} looks of the reader, {len(bad)} kills with a "
            f"violation (limit 0)"
        ),
    ]
    return "\n".join(lines)
