"""Which first frames imagination starts from, and how often: failures first, then successes, then new scenes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING, Any

from vlaw_assets.pipeline import checks
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import numpy as np

    from vlaw_assets.assets.stage import Stage
    from vlaw_assets.assets.state import LoopState
    from vlaw_assets.assets.work import Work
    from vlaw_assets.lake import ArtifactRef
    from vlaw_models.episodes import Episode, Start
    from vlaw_models.sources import KeptLatents

BEGIN_REAL = "{} imagined episodes begin with the frames of their real start"


class Starts(Sequence["Start"]):
    """First frames of real episodes, read when they are asked for."""

    def __init__(self, chosen: Sequence[tuple[int, Episode]], latents: KeptLatents | None = None):
        """(seed, episode to start from) of each; its latents where they are kept."""
        self._chosen, self._latents = chosen, latents

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        start, (_, episode) = self.blank(index), self._chosen[index]
        kept = self._latents.of(episode)[0] if self._latents is not None else None
        return dataclasses.replace(start, images=episode.images[0], state=episode.states[0], latents=kept)

    def blank(self, index: int) -> Start:
        """Without its frame and state."""
        from vlaw_models.episodes import Start

        seed, episode = self._chosen[index]
        return Start(episode.task, seed, instruction=episode.instruction, episode_id=episode.episode_id)


@dataclasses.dataclass(frozen=True)
class Choice:
    """How the starts of an iteration are chosen."""

    tasks: Sequence[str]
    per_task: int
    """Starts of each task, tries of the same one counted."""
    tries_per_failure: int = 1
    seed: int = 0
    """Of the order of scenes: the experiment's, the same in all of its iterations."""

    def starts(
        self,
        rollouts: Sequence[Episode],
        scenes: Sequence[Episode] = (),
        before: Sequence[Sequence[Episode]] = (),
    ) -> list[tuple[int, Episode]]:
        """(number of the start in its task, episode to start from), tasks interleaved; `per_task` of each.

        First the real rollouts of this iteration as `tries` says; what is left goes to `scenes`, other real episodes,
        in an order of their own: it goes on where it stopped in the iteration before, and begins again where it has
        ended. Without scenes the rollouts are taken again.

        Args:
            before: real rollouts of each iteration before, which say how many scenes were used there.

        Raises VlawError for a task without any episode.
        """
        pools = {task: self._of(task, rollouts, scenes, before) for task in self.tasks}
        empty = [task for task, pool in pools.items() if not pool]
        if self.per_task and empty:
            raise VlawError(
                f"there is no real rollout of {', '.join(empty)} to imagine from",
                where="imagined_rollouts",
                remedy="Set [rollouts] episodes_per_task to 1 or more.",
            )
        return [(index, pool[index]) for index in range(self.per_task) for pool in pools.values()]

    def _of(
        self, task: str, rollouts: Sequence[Episode], scenes: Sequence[Episode], before: Sequence[Sequence[Episode]]
    ) -> list[Episode]:
        """Episodes to start from, of one task in order; empty where there are none."""
        from vlaw_assets.lake.durable import digest_of

        first = self.tries(task, rollouts)
        ordered = sorted((e for e in scenes if e.task == task), key=lambda e: digest_of([self.seed, e.task, e.seed]))
        used = sum(max(self.per_task - len(self.tries(task, earlier)), 0) for earlier in before)
        skipped = islice(cycle(ordered), used % len(ordered), None) if ordered else cycle(first)
        return list(islice(chain(first, skipped), self.per_task))

    def tries(self, task: str, rollouts: Sequence[Episode]) -> list[Episode]:
        """The task's real rollouts, once each in their order; or failures `tries_per_failure` times, in turn, and then
        the others once."""
        own = [episode for episode in rollouts if episode.task == task]
        if self.tries_per_failure == 1:  # whatever came of them: labels do not matter
            return own
        failed = [episode for episode in own if episode.success is False]
        return failed * self.tries_per_failure + [episode for episode in own if episode.success is not False]


def start_parents(stage: Stage, state: LoopState) -> dict[str, ArtifactRef]:
    """Role -> artifact whose first frames are starts: this iteration's real rollouts, and the scripted corpora if asked
    for. Then D_real before this iteration is read too: how many scenes were left for others follows from it."""
    found = {"starts": stage.require("real_rollouts")}
    if stage.recipe.imagine.starts == "real":
        found |= {
            "starts_demonstrations": stage.require_foundation("expert_demonstrations"),
            "starts_co_training": stage.require_foundation("co_training_data"),
            **state.real,
        }
    return found


def start_roles(work: Work) -> list[str]:
    return [role for role in work.parents if role.startswith("starts")]


def begin_with_real_frames(
    episodes: Sequence[Episode], first: dict[str | None, np.ndarray | None], *, hint: str = ""
) -> checks.Finding:
    """Each imagined episode names a real one and begins with its first frame, pixel by pixel. `hint`: why it may
    not."""
    import numpy as np

    bad = [
        f"episode {index} ({episode.task}) from {episode.start_episode_id}"
        for index, episode in enumerate(episodes)
        if (begins := first.get(episode.start_episode_id)) is None or not np.array_equal(episode.images[0], begins)
    ]
    text = "; ".join(bad[: checks.SHOWN]) + (f"; {hint}" if hint else "")
    return checks.Finding(
        checks.STARTS,
        passed=not bad,
        text=text if bad else BEGIN_REAL.format(len(episodes)),
    )
