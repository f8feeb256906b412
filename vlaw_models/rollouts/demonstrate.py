"""Scripted demonstrations on a simulated robot: good ones, and a broad corpus of mixed quality.

The experts are the simulator's; which layouts are shown is said in seeds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from vlaw_models.config import RolloutConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.rollouts.seeds import start_seeds
from vlaw_models.spread import Batches, Spread, here

_GIVE_UP = 20
"""Demonstrations attempted per demonstration wanted, before the expert is declared broken."""
_BATCH = 16
"""Demonstrations whose pictures are in memory at once."""
_RECORDED = "Import recorded ones: vlaw import."


def iterate_demonstrations(
    tasks: Sequence[str],
    count_per_task: int,
    *,
    robot: RobotSpec,
    purpose: str,
    seed: int,
    num_steps: int = RolloutConfig.num_steps,
    image_size: int | None = None,
    threads: int = 2,
    points: bool = False,
    progress: Progress | None = None,
    spread: Spread = here,
) -> Iterator[Episode]:
    """Scripted experts' episodes, one after the other (a large corpus does not fit into memory).

    Purpose 'demonstration': good quality with human-like noise; failed attempts are thrown away, as a teleoperator
    would. Any other purpose: a broad corpus of mixed quality, everything kept with its true outcome. `extra['quality']`
    names the part; `points` adds extra['points'] for pretraining, see `Simulator.demonstrator`. The result does not
    depend on `threads`, nor on where `spread` has it made.
    """
    if purpose == "evaluation":
        raise VlawError(
            "evaluation layouts must not be demonstrated",
            where="scripted demonstrations",
            remedy="use purpose 'demonstration', 'co_training', 'pretraining' or 'validation'",
        )
    robot.check_tasks(tasks)
    what = f"scripted episodes ({purpose})"
    simulator_of(robot, needed_by=what, remedy=_RECORDED)
    keep_failures = purpose != "demonstration"
    attempts = count_per_task if keep_failures else _GIVE_UP * count_per_task
    options = {"num_steps": num_steps, "image_size": image_size, "mixed": keep_failures, "points": points}
    settings = {"robot": robot, "what": what, "options": options, "threads": threads if spread is here else 1}
    seeds = {task: iter(start_seeds(purpose, task, 0, seed, attempts)) for task in tasks}
    missing, total = dict.fromkeys(tasks, count_per_task), count_per_task * len(tasks)
    while any(missing.values()):
        # As many as are missing: those that fail are made up for in the next round.
        starts = []
        for task, count in missing.items():
            starts += (own := [Start(task, number) for number in islice(seeds[task], count)])
            if count and not own:
                raise VlawError(
                    f"the scripted expert of {task!r} succeeded only {count_per_task - count} times in {attempts}",
                    where="scripted demonstrations",
                    remedy=f"the task's scene or expert is broken: run the tests of robot {robot.name!r}",
                )
        for episodes in spread(demonstrating, {}, settings, Batches(starts, _BATCH)):
            for episode in episodes:
                if keep_failures or episode.success:
                    missing[episode.task] -= 1
                    yield episode
            if progress:
                progress(total - sum(missing.values()), total, f"demonstrations: {episodes[-1].task}")


def demonstrating(
    _inputs: Mapping[str, Path], settings: Mapping[str, Any]
) -> Callable[[Mapping[str, Any]], list[Episode]]:
    """The heavy part of `iterate_demonstrations`: a batch of starts -> what the expert does there, failures too."""
    simulator = simulator_of(settings["robot"], needed_by=settings["what"], remedy=_RECORDED)
    demonstrator = simulator.demonstrator(**settings["options"])

    def batch(part: Mapping[str, Any]) -> list[Episode]:
        with ThreadPoolExecutor(settings["threads"]) as pool:
            return list(pool.map(lambda start: demonstrator(start.task, start.seed), part["items"]))

    return batch
