"""Shifts of the data that models learned from: shares of tasks, sources, successes and copies, lengths, how much.

What each model read, and with what weight, is the one rule of lake/reads.py, by the quarantine and the labels of its
time. An episode of weight 0 was not learned from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vlaw_assets.lineage.reading import LEARNERS, SOURCES
from vlaw_assets.reports.shifts.base import Shift, lengths, rates, single
from vlaw_assets.reports.shifts.sides import Item, Side, label, names
from vlaw_assets.reports.shifts.watching import quoted, watch_sql

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

_READ = """
SELECT child_id, episode_id, min(content_digest) AS digest, min(purpose) AS purpose, any_value(task) AS task,
  any_value(success) AS success, max(num_steps) AS steps, max(weight) AS weight, min(source) AS source
FROM found WHERE weight > 0 GROUP BY child_id, parent_id, episode_id ORDER BY child_id, parent_id, episode_id
"""
MADE_BY = {
    "real": ("real_rollouts", "recorded_episodes"),
    "imagined": ("imagined_rollouts", "world_model"),
    "expert": ("expert_demonstrations", "co_training_data"),
}
"""Source -> the stages that make such episodes."""
SET = "training_set"
TAUGHT = (*LEARNERS, SET)
"""Kinds of what is compared here: models, and the set that is asked about."""
CHOSEN_BY = ("training_set", "reward_scores", "reward_model", "quarantine", "labels")
"""Stages that decide which episodes are learned from."""


class Learned(NamedTuple):
    """One episode that a model learned from."""

    episode_id: str
    digest: str
    source: str
    task: str
    success: bool | None
    steps: int
    weight: float


Sets = dict[str, list[Learned]]
"""Owner of a model -> what it learned from."""


def learned(lake: Lake, pairs: Iterable[tuple[Item, Item]]) -> Sets:
    """What the models of these pairs learned from, in one question."""
    from vlaw_assets.lake.reads import rows_read

    owners = {item["owner"]: item for pair in pairs for item in pair if item["kind"] in TAUGHT}
    found: Sets = defaultdict(list)
    for row in rows_read(lake, [lake.ledger.get(owner) for owner in owners], _READ) if owners else []:
        source = row["source"] or SOURCES.get(row["purpose"], "real")
        found[row["child_id"]].append(
            Learned(row["episode_id"], row["digest"], source, row["task"], row["success"], row["steps"], row["weight"])
        )
    for owner in [owner for owner, item in owners.items() if item["kind"] == SET]:
        members = {row["episode_id"]: row for row in lake.read(lake.ledger.get(owner)).members().to_pylist()}
        found[owner] = [
            one._replace(source=members[one.episode_id]["source"], weight=members[one.episode_id]["weight"])
            for one in found[owner]
            if one.episode_id in members and members[one.episode_id]["weight"] > 0
        ]
    return found


def shifts(b: Side, pairs: Sequence[tuple[Item, Item]], sets: Sets) -> list[Shift]:
    """Of every pair of models that learned."""
    return [
        shift
        for pair in pairs
        if pair[1]["kind"] in TAUGHT
        for shift in _of_pair(b.lake, pair, label(pair, list(pairs)), sets)
    ]


def _of_pair(lake: Lake, pair: tuple[Item, Item], name: str, sets: Sets) -> list[Shift]:
    first, second = (sets.get(item["owner"], []) for item in pair)
    everything = [*first, *second]
    chosen = (pair[1]["asset"], *CHOSEN_BY)

    def more(kind: str, where: str, sources: Iterable[str], chosen_as: Callable[[Learned], bool]) -> dict[str, Any]:
        makers = [maker for source in sources for maker in MADE_BY.get(source.removesuffix("_negative"), ())]
        return {
            "kind": kind,
            "assets": (*chosen, *makers),
            "of": names(pair),
            "watch": _watch(lake, pair, where, [[one for one in side if chosen_as(one)] for side in (first, second)]),
        }

    def share(what: str, where: str, sources: Iterable[str], chosen_as: Callable[[Learned], bool]) -> Shift | None:
        counts = [(sum(map(chosen_as, side)), len(side)) for side in (first, second)]
        return rates(f"{name} data: {what}", *counts, **more("data", where, sources, chosen_as))

    sources = sorted({one.source for one in everything})
    found = [
        share(f"share of {task}", f"task = {quoted(task)}", sources, lambda one, task=task: one.task == task)
        for task in _parts(one.task for one in everything)
    ] + [
        share(f"share of {source}", _where(source), [source], lambda one, source=source: one.source == source)
        for source in _parts(one.source for one in everything)
    ]
    judged = [[one for one in side if one.success is not None] for side in (first, second)]
    if any(one.success is False for side in judged for one in side):
        counts = [(sum(bool(one.success) for one in side), len(side)) for side in judged]
        found.append(
            rates(
                f"{name} data: successes",
                *counts,
                **more("data", "success", sources, lambda one: one.success is True),
            )
        )
    copies = [len(side) - len({one.digest for one in side}) for side in (first, second)]
    if any(copies):
        counts = [(count, len(side)) for count, side in zip(copies, (first, second), strict=True)]
        twice = {digest for side in (first, second) for digest, n in Counter(o.digest for o in side).items() if n > 1}
        found.append(
            rates(
                f"{name} data: copies",
                *counts,
                **more("data", "true", sources, lambda one: one.digest in twice),
            )
        )
    found += [
        lengths(
            f"{name} data: steps, {source}",
            *([one.steps for one in side if one.source == source] for side in (first, second)),
            **more("length", _where(source), [source], lambda one, source=source: one.source == source),
        )
        for source in sources
    ]
    if len(first) != len(second):
        found.append(
            single(
                f"{name} data: episodes",
                len(first),
                len(second),
                counts_a=(len(first),),
                counts_b=(len(second),),
                **more("data", "true", sources, lambda _one: True),
            )
        )
    return [shift for shift in found if shift]


def _parts(names: Iterable[str]) -> list[str]:
    """The names whose shares say something: of two the rarer one alone, for the other has the rest."""
    counts = Counter(names)
    rarest = min(sorted(counts), key=counts.__getitem__, default="")
    return [] if len(counts) < 2 else [rarest] if len(counts) == 2 else list(counts)


def _where(source: str) -> str:
    """A condition on `episode_reads` that is true of the episodes of a source."""
    purposes = ", ".join(quoted(purpose) for purpose, of in SOURCES.items() if of == source)
    named = f"source = {quoted(source)}"
    return f"({named} OR source = '' AND purpose IN ({purposes}))" if purposes else named


def _watch(lake: Lake, pair: tuple[Item, Item], where: str, sides: Sequence[Sequence[Learned]]) -> str:
    """The episodes that one of the two learned from and the other did not: of the side that has more of them.

    `sides`: the episodes of either side that `where` is true of. Where both have the same, all of b.
    """
    ids = [{one.episode_id for one in side} for side in sides]
    apart = [len(ids[0] - ids[1]), len(ids[1] - ids[0])]
    if not any(ids):
        return ""
    ours = apart[1] >= apart[0]
    owners = [pair[int(ours)]["owner"], pair[int(not ours)]["owner"]]
    without = (
        f""" AND episode_id NOT IN
        (SELECT episode_id FROM episode_reads WHERE child_id = {quoted(owners[1])} AND weight > 0)"""
        if any(apart)
        else ""
    )
    condition = "" if where == "true" else f" AND {where}"
    return watch_sql(
        lake,
        f"""SELECT episode_id, parent_id AS artifact_id FROM episode_reads
        WHERE child_id = {quoted(owners[0])} AND weight > 0{condition}{without}""",
    )
