"""Scripted demonstrations on a simulated robot: good ones, and a broad corpus of mixed quality.

The experts are the simulator's; which layouts are shown is said in seeds.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from vlaw_models.config import RolloutConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.rollouts.seeds import start_seeds

_GIVE_UP = 20
"""Demonstrations attempted per demonstration wanted, before the expert is declared broken."""


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
) -> Iterator[Episode]:
    """Scripted experts' episodes, one after the other (a large corpus does not fit into memory).

    Purpose 'demonstration': good quality with human-like noise; failed attempts are thrown away, as a teleoperator
    would. Any other purpose: a broad corpus of mixed quality, everything kept with its true outcome. `extra['quality']`
    names the part; `points` adds extra['points'] for pretraining, see `Simulator.demonstrator`. The result does not
    depend on `threads`.
    """
    if purpose == "evaluation":
        raise VlawError(
            "evaluation layouts must not be demonstrated",
            where="scripted demonstrations",
            remedy="use purpose 'demonstration', 'co_training', 'pretraining' or 'validation'",
        )
    robot.check_tasks(tasks)
    simulator = simulator_of(
        robot, needed_by=f"scripted episodes ({purpose})", remedy="Import recorded ones: vlaw import."
    )
    keep_failures = purpose != "demonstration"
    attempts = count_per_task if keep_failures else _GIVE_UP * count_per_task
    demonstrator = simulator.demonstrator(
        num_steps=num_steps, image_size=image_size, mixed=keep_failures, points=points
    )
    done, total = 0, count_per_task * len(tasks)
    with ThreadPoolExecutor(threads) as pool:
        for task in tasks:
            seeds, missing = iter(start_seeds(purpose, task, 0, seed, attempts)), count_per_task
            while missing:
                # Windows bound the pictures in memory, and what is computed beyond the last episode needed.
                window = list(islice(seeds, min(missing, 8 * threads)))
                if not window:
                    raise VlawError(
                        f"the scripted expert of {task!r} succeeded only {count_per_task - missing} times in "
                        f"{attempts}",
                        where="scripted demonstrations",
                        remedy=f"the task's scene or expert is broken: run the tests of robot {robot.name!r}",
                    )
                for episode in pool.map(demonstrator, [task] * len(window), window):
                    if keep_failures or episode.success:
                        done, missing = done + 1, missing - 1
                        yield episode
                if progress:
                    progress(done, total, f"demonstrations: {task}")
