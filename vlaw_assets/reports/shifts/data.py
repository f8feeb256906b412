"""Shifts of the data that models learned from: shares of tasks, sources, successes and copies, lengths, how much.

What each model read, and with what weight, is the one rule of lake/reads.py, by the quarantine and the labels of its
time. An episode of weight 0 was not learned from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vlaw_assets.lineage.reading import LEARNERS, SOURCES
from vlaw_assets.reports.shifts.base import Shift, lengths, rates, single
from vlaw_assets.reports.shifts.sides import Item, Side, label, names
from vlaw_assets.reports.shifts.watching import quoted, watch_ids, watch_sql

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
    "expert": ("expert_demonstrations", "co_training_data", "near_success"),
    "rehearsed": ("expert_demonstrations", "imagined_rollouts"),
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
    """Of every pair of models that learned; of models that learned from the same episodes once."""
    alike: dict[Any, list[tuple[Item, Item]]] = {}
    for pair in pairs:
        if pair[1]["kind"] in TAUGHT:
            key = tuple(tuple((one.episode_id, one.weight) for one in sets.get(item["owner"], ())) for item in pair)
            alike.setdefault(key, []).append(pair)
    return [
        shift
        for group in alike.values()
        for shift in Data(
            b.lake,
            group[0],
            f"data of {', '.join(label(pair, list(pairs)) for pair in group)}",
            (*(pair[1]["asset"] for pair in group), *CHOSEN_BY),
            *(sets.get(item["owner"], []) for item in group[0]),
        ).shifts()
    ]


@dataclass(frozen=True)
class Data:
    """What a model of either side learned from."""

    lake: Lake
    pair: tuple[Item, Item]
    name: str
    """'data of policy'; of all models that learned from the same."""
    stages: tuple[str, ...]
    """Those that decide what it is learned from."""
    first: list[Learned]
    second: list[Learned]

    def shifts(self) -> list[Shift]:
        everything = [*self.first, *self.second]
        found = [
            self._share(f"share of {task}", f"task = {quoted(task)}", _of_task(task))
            for task in _parts(one.task for one in everything)
        ] + [
            self._share(f"share of {source}", _where(source), _of_source(source))
            for source in _parts(one.source for one in everything)
        ]
        judged = [[one for one in side if one.success is not None] for side in (self.first, self.second)]
        if any(one.success is False for side in judged for one in side):
            counts = [(sum(bool(one.success) for one in side), len(side)) for side in judged]
            more = self._more("data", "success", lambda one: one.success is True)
            found.append(rates(f"successes in {self.name}", *counts, **more))
        found.append(self._copies())
        found += [
            lengths(
                f"steps of {source} in {self.name}",
                *([one.steps for one in side if one.source == source] for side in (self.first, self.second)),
                **self._more("length", _where(source), _of_source(source)),
            )
            for source in sorted({one.source for one in everything})
        ]
        found.append(self._number())
        return [shift for shift in found if shift]

    def _share(self, what: str, where: str, chosen: Callable[[Learned], bool]) -> Shift | None:
        counts = [(sum(map(chosen, side)), len(side)) for side in (self.first, self.second)]
        return rates(f"{what} in {self.name}", *counts, **self._more("data", where, chosen))

    def _number(self) -> Shift | None:
        """How much data there is, and how much of it came and went."""
        ids = [{one.episode_id for one in side} for side in (self.first, self.second)]
        added, removed = len(ids[1] - ids[0]), len(ids[0] - ids[1])
        sizes = len(self.first), len(self.second)
        if not added and not removed and sizes[0] == sizes[1]:
            return None
        more = self._more("data", "", lambda _one: True) | {"added": added, "removed": removed}
        return single(f"episodes in {self.name}", *sizes, counts_a=sizes[:1], counts_b=sizes[1:], **more)

    def _copies(self) -> Shift | None:
        """Episodes whose very content was learned from before."""
        again = [_again(side) for side in (self.first, self.second)]
        if not any(again):
            return None
        counts = [(len(found), len(side)) for found, side in zip(again, (self.first, self.second), strict=True)]
        more = self._more("data", "", lambda _one: True) | {"watch": watch_ids(self.lake, max(again[::-1], key=len))}
        return rates(f"copies in {self.name}", *counts, **more)

    def _more(self, kind: str, where: str, chosen: Callable[[Learned], bool]) -> dict[str, Any]:
        """What every shift of the episodes `chosen` says besides its numbers; `where` finds them in SQL."""
        picked = [[one for one in side if chosen(one)] for side in (self.first, self.second)]
        sources = {one.source.removesuffix("_negative") for side in picked for one in side}
        makers = [maker for source in sorted(sources) for maker in MADE_BY.get(source, ())]
        return {
            "kind": kind,
            "assets": (*self.stages, *makers),
            "of": names(self.pair),
            "watch": self._watch(where, picked),
        }

    def _watch(self, where: str, picked: Sequence[Sequence[Learned]]) -> str:
        """The episodes that one of the two learned from and the other did not: of the side that has more of them; all
        of b where there are none."""
        whole = [{one.episode_id for one in side} for side in (self.first, self.second)]
        ids = [{one.episode_id for one in side} for side in picked]
        apart = [len(ids[0] - whole[1]), len(ids[1] - whole[0])]
        ours = int(apart[1] >= apart[0]) if any(apart) else int(bool(ids[1]))
        if not ids[ours]:
            return ""
        condition = f" AND {where}" if where else ""
        if apart[ours]:
            condition += f""" AND episode_id NOT IN (SELECT episode_id FROM episode_reads
            WHERE child_id = {quoted(self.pair[1 - ours]["owner"])} AND weight > 0)"""
        return watch_sql(
            self.lake,
            f"""SELECT episode_id, parent_id AS artifact_id FROM episode_reads
            WHERE child_id = {quoted(self.pair[ours]["owner"])} AND weight > 0{condition}""",
        )


def _of_task(task: str) -> Callable[[Learned], bool]:
    return lambda one: one.task == task


def _of_source(source: str) -> Callable[[Learned], bool]:
    return lambda one: one.source == source


def _again(learned_from: Sequence[Learned]) -> list[str]:
    """Ids of the episodes whose content stands before them."""
    seen: set[str] = set()
    found = []
    for one in learned_from:
        if one.digest in seen:
            found.append(one.episode_id)
        seen.add(one.digest)
    return found


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
