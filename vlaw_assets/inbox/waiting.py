"""What the iterations that take their real rollouts from the inbox have by now, and what came too late for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlaw_assets.assets.inbox_recordings import INBOX, counted, recorded_for, sessions, wanted
from vlaw_assets.inbox.assignment import open_iteration, policy_before
from vlaw_assets.partitions import partition_of
from vlaw_assets.recipes.loading import well_named
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_assets.pipeline.resources import Workplace
    from vlaw_assets.recipes.schema import Recipe


@dataclass(frozen=True)
class Waiting:
    """The open iteration of an experiment."""

    recipe: Recipe
    partition: str
    policy: ArtifactRef | None
    """That its recordings are made with; None where that cannot be said yet."""
    why: str
    """Why it cannot."""
    recorded: Mapping[str, int]
    """Task -> episodes."""
    judged: Mapping[str, int]
    """The same of those that have an outcome and are not in quarantine."""
    asked: Mapping[str, int]

    @property
    def unlabelled(self) -> int:
        """How many have no outcome, or are in quarantine."""
        return sum(self.recorded.values()) - sum(self.judged.values())

    @property
    def complete(self) -> bool:
        """Whether it has what it asks for."""
        return self.policy is not None and all(self.judged.get(task, 0) >= count for task, count in self.asked.items())

    @property
    def text(self) -> str:
        """'stack 20 of 50, book 50 of 50'."""
        said = ", ".join(f"{task} {self.recorded.get(task, 0)} of {count}" for task, count in self.asked.items())
        return f"{said}; {self.unlabelled} of them without an outcome (vlaw label)" if self.unlabelled else said


def waiting(lake: Lake, workplace: Workplace) -> list[Waiting]:
    """The open iteration of every recipe with `[rollouts] source = "inbox"`, by name of the recipe."""
    found = []
    for recipe in _recipes(workplace):
        number = open_iteration(lake, recipe)
        if number is None:
            continue
        policy, why, refs = None, "", dict[str, "ArtifactRef"]()
        try:
            policy = policy_before(lake, workplace, recipe, number)
            refs = recorded_for(lake.ledger, recipe.name, number, policy.content_digest)
        except VlawError as error:
            why = error.what
        recorded = counted(lake, refs.values())
        found.append(
            Waiting(
                recipe,
                partition_of(recipe.name, number),
                policy,
                why,
                dict(recorded),
                dict(sum((_judged(lake, ref) for ref in refs.values()), Counter[str]())),
                wanted(recipe.tasks, recipe.rollouts.episodes_per_task, recorded),
            )
        )
    return found


def late(lake: Lake) -> list[tuple[str, str]]:
    """(recording, the partition that it came too late for): in the lake, and in no real rollouts."""
    found = []
    for name, (ref, said) in sessions(lake.ledger).items():
        partition = partition_of(said["experiment"], said["iteration"])
        made = lake.ledger.current("real_rollouts", partition)
        if made is not None and ref.owner not in {parent.owner for _, parent in lake.ledger.edges(made.owner)}:
            found.append((name, partition))
    return found


def _recipes(workplace: Workplace) -> Iterator[Recipe]:
    for name in sorted(well_named(workplace.recipes_folder)):
        try:
            recipe = workplace.recipe(name)
        except VlawError:  # `vlaw doctor` says why
            continue
        if recipe.rollouts.source == INBOX:
            yield recipe


def _judged(lake: Lake, ref: ArtifactRef) -> Counter[str]:
    """Task -> episodes with an outcome, by the labels in force and without those in quarantine."""
    rows = lake.counted(ref).table("episodes").select(["task", "success"]).to_pylist()
    return Counter(row["task"] for row in rows if row["success"] is not None)
