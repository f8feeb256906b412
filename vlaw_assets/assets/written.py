"""Episodes that a stage makes or copies, written batch by batch: pixels of one batch are in memory, and what is shown.

Each batch is checked before it is written; what the checks found of all of them is noted at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from vlaw_assets.pipeline import checks

if TYPE_CHECKING:
    from vlaw_assets.assets.stage import Work
    from vlaw_assets.reports.stage_pictures import WonAndLost
    from vlaw_models.episodes import Episode
    from vlaw_models.robots.spec import RobotSpec

T = TypeVar("T")
BATCH = 16
"""Episodes in memory at a time, where nothing else says how many are made together."""


def in_batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Episodes, or ids of some, that come one by one, BATCH at a time."""
    coming = iter(items)
    while batch := list(islice(coming, BATCH)):
        yield batch


@dataclass
class Written:
    """What is known of the episodes once they are written."""

    seen: WonAndLost
    """For the asset's page."""
    episodes: list[Episode] = field(default_factory=list)
    """In order, with their new ids and without frames."""

    def add(self, batch: Sequence[Episode], names: Sequence[str]) -> None:
        import numpy as np

        for episode, name in zip(batch, names, strict=True):
            self.seen(episode)
            self.episodes.append(replace(episode, episode_id=name, images=np.array(episode.images[:0])))

    @property
    def successes(self) -> int:
        return sum(bool(episode.success) for episode in self.episodes)

    @property
    def savings(self) -> dict[str, int]:
        """What ending early saved: episodes that did, and control steps that were not executed or imagined for it.
        Empty where none did."""
        from vlaw_models.episodes import STEPS_SAVED

        saved = [e.extra[STEPS_SAVED] for e in self.episodes if STEPS_SAVED in e.extra]
        return {"ended_early": len(saved), STEPS_SAVED: sum(saved)} if saved else {}


def write(
    work: Work,
    batches: Iterable[Sequence[Episode]],
    *,
    purpose: str,
    tasks: Sequence[str] | None,
    labelled: bool | None,
    world: str | Callable[[Sequence[Episode]], str],
    robot: RobotSpec | None = None,
    policy: str = "",
    world_model: str = "",
    label_source: str | None = None,
    also: Callable[[Sequence[Episode]], checks.Finding] | None = None,
) -> Written:
    """Checks and writes the batches in order. Raises VlawError where a check fails: then nothing is committed.

    Args:
        tasks: the tasks that are known; None takes whatever tasks there are.
        labelled: whether each episode must have a success label, or none may; None takes both.
        world: where they happened, of all of them or by batch.
        robot: whose episodes they must be; None where that was checked before.
        also: one more check of each batch.
    """
    from vlaw_assets.reports.stage_pictures import WonAndLost

    done = Written(WonAndLost())
    for batch in batches:
        known = sorted({episode.task for episode in batch}) if tasks is None else tasks
        work.demand(
            checks.episodes_fit_schema(batch, tasks=known, labelled=labelled, robot=robot), checks.all_finite(batch)
        )
        if also is not None:
            work.demand(also(batch))
        names = work.draft.write_episodes(
            batch,
            purpose=purpose,
            world=world if isinstance(world, str) else world(batch),
            policy=policy,
            world_model=world_model,
            label_source=label_source,
        )
        done.add(batch, names)
    known = sorted({episode.task for episode in done.episodes}) if tasks is None else tasks
    work.check(
        checks.episodes_fit_schema(done.episodes, tasks=known, labelled=labelled, robot=robot),
        checks.all_finite(done.episodes),
    )
    return done


def draw(work: Work, done: Written) -> None:
    """The picture of labelled episodes for the asset's page: how they ended, and some of them."""
    from vlaw_assets.reports import stage_pictures

    work.draw("how the episodes ended", lambda: stage_pictures.rollouts(done.episodes, done.seen.episodes))
