"""Two policies on the same starts: trial by trial, in four groups, with the paired test."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlaw_assets.lake.picking import Key
from vlaw_assets.reports.episodes.choosing import DRAW, shown_by
from vlaw_assets.reports.episodes.content import Summary, Tile
from vlaw_assets.reports.success import Change, Outcomes, change
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

LIMIT = 40
"""Pairs on one page, where nobody asks for more."""


@dataclass(frozen=True)
class Pairs:
    """Trials of the starts that both policies were evaluated on, without those in quarantine."""

    sides: tuple[str, str]
    """What the two are called."""
    groups: dict[str, list[tuple[Key, Key]]]
    """'both won', 'only A won', 'only B won', 'both lost' (A and B by their names) -> episodes of A and B."""
    change: Change
    """B minus A."""
    starts: dict[tuple[Key, Key], tuple[str, int]]
    """Episodes of A and B -> the (task, seed) that both began with."""
    alone: int
    """Trials whose start only one of them was evaluated on."""

    @property
    def total(self) -> int:
        return sum(map(len, self.groups.values()))


def pairs(lake: Lake, a: ArtifactRef, b: ArtifactRef, sides: tuple[str, str]) -> Pairs:
    """Raises VlawError for a policy that was not evaluated, one policy twice, and two that share no start."""
    trials = [_trials(lake, ref) for ref in (a, b)]
    if a.owner == b.owner or trials[0] == trials[1]:
        raise VlawError(
            f"{sides[0]} and {sides[1]} are the same policy with the same evaluation",
            where="vlaw compare",
            remedy="Name two policies: vlaw status lists them.",
        )
    outcomes: list[Outcomes] = [{start: won for start, (_, won) in found.items()} for found in trials]
    difference = change(outcomes[1], outcomes[0])
    if difference is None:
        raise VlawError(
            f"{sides[0]} and {sides[1]} were evaluated on different starts",
            where="vlaw compare",
            remedy="Evaluate both on the same robot and tasks.",
        )
    names = {
        (True, True): "both won",
        (True, False): f"only {sides[0]} won",
        (False, True): f"only {sides[1]} won",
        (False, False): "both lost",
    }
    groups: dict[str, list[tuple[Key, Key]]] = {name: [] for name in names.values()}
    starts: dict[tuple[Key, Key], tuple[str, int]] = {}
    for start in (start for start in trials[0] if start in trials[1]):
        (key, won), (other, other_won) = trials[0][start], trials[1][start]
        groups[names[won, other_won]].append((key, other))
        starts[key, other] = start
    shared = sum(map(len, groups.values()))
    return Pairs(sides, groups, difference, starts, sum(map(len, trials)) - 2 * shared)


def tiles(found: Pairs, limit: int = LIMIT) -> list[Tile]:
    """A tile for each pair, those in which the two differ first; where there are more than `limit`, as many of each
    group as there is room for."""
    shuffled = {name: random.Random(DRAW).sample(listed, len(listed)) for name, listed in found.groups.items()}
    kept: dict[str, set[Key]] = {name: set() for name in found.groups}
    for place in range(max(map(len, shuffled.values()))):
        for name, listed in shuffled.items():
            if place < len(listed) and sum(map(len, kept.values())) < limit:
                kept[name].add(listed[place][0])
    ordered = sorted(found.groups, key=lambda name: name.startswith("both"))
    return [Tile(pair, name) for name in ordered for pair in found.groups[name] if pair[0] in kept[name]]


def summary(found: Pairs) -> Summary:
    """The four groups, the difference and a line per task."""
    a, b = found.sides
    groups = [(name, len(listed)) for name, listed in found.groups.items()]
    lines = [f"{b} − {a} on the same starts: {found.change}. {b} {found.change.verdict}."]
    if found.alone:
        lines.append(f"{found.alone} trials are left out: only one of the two was evaluated on their start.")
    return Summary(lines=lines, groups=groups, sides=found.sides, table=_per_task(found))


def _per_task(found: Pairs) -> list[list[str]]:
    counts = {name: Counter(found.starts[pair][0] for pair in listed) for name, listed in found.groups.items()}
    tasks = dict.fromkeys(task for task, _ in found.starts.values())
    return [["task", *counts], *([task, *(str(of[task]) for of in counts.values())] for task in tasks)]


def _trials(lake: Lake, ref: ArtifactRef) -> dict[tuple[str, int], tuple[Key, bool]]:
    """(task, seed) -> (episode, whether it succeeded) of the evaluation that shows what a policy does."""
    evaluation = shown_by(lake, ref)
    if evaluation is None or "episodes" not in evaluation.versions:
        raise VlawError(
            f"{ref.name} was not evaluated", where="vlaw compare", remedy="Name a policy whose evaluation was made."
        )
    rows = lake.counted(evaluation).table("episodes").to_pylist()
    return {
        (row["task"], int(row["seed"])): ((evaluation.owner, row["episode_id"]), bool(row["success"]))
        for row in rows
        if row["success"] is not None
    }
