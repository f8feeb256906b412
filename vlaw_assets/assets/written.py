"""Episodes that a stage makes or copies, written batch by batch: pixels of one batch are in memory, and what is shown.

Each batch is checked before it is written; what the checks found of all of them is noted at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from vlaw_assets.pipeline import checks

if TYPE_CHECKING:
    from vlaw_assets.assets.work import Work
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


class Writing:
    """Episodes of one kind, written as they come: `add` for each batch, `finish` after the last one. Raises VlawError
    where a check fails: then nothing is committed."""

    def __init__(
        self,
        work: Work,
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
    ):
        """
        Args:
            tasks: the tasks that are known; None takes whatever tasks there are.
            labelled: whether each episode must have a success label, or none may; None takes both.
            world: where they happened, of all of them or by batch.
            robot: whose episodes they must be; None where that was checked before.
            also: one more check of each batch.
        """
        from vlaw_assets.reports.stage_pictures import WonAndLost

        self.done = Written(WonAndLost())
        self._work, self._tasks, self._labelled, self._robot, self._also = work, tasks, labelled, robot, also
        self._world = world
        self._named: dict[str, Any] = {
            "purpose": purpose,
            "policy": policy,
            "world_model": world_model,
            "label_source": label_source,
        }

    def add(self, batch: Sequence[Episode]) -> list[str]:
        """Writes a batch; returns the ids of its episodes."""
        self._work.demand(*self._checks(batch))
        if self._also is not None:
            self._work.demand(self._also(batch))
        world = self._world if isinstance(self._world, str) else self._world(batch)
        names = self._work.draft.write_episodes(batch, world=world, **self._named)
        self.done.add(batch, names)
        return names

    def finish(self) -> Written:
        """Notes what the checks found of all of them."""
        self._work.check(*self._checks(self.done.episodes))
        return self.done

    def _checks(self, episodes: Sequence[Episode]) -> tuple[checks.Finding, checks.Finding]:
        known = sorted({episode.task for episode in episodes}) if self._tasks is None else self._tasks
        return (
            checks.episodes_fit_schema(episodes, tasks=known, labelled=self._labelled, robot=self._robot),
            checks.all_finite(episodes),
        )


def write(work: Work, batches: Iterable[Sequence[Episode]], **how: Any) -> Written:
    """Checks and writes the batches in order; `how`: see `Writing`."""
    writing = Writing(work, **how)
    for batch in batches:
        writing.add(batch)
    return writing.finish()


def draw(work: Work, done: Written) -> None:
    """The picture of labelled episodes for the asset's page: how they ended, and some of them."""
    from vlaw_assets.reports import stage_pictures

    work.draw("how the episodes ended", lambda: stage_pictures.rollouts(done.episodes, done.seen.episodes))
