"""SANS data of World-VLA-Loop: successes, and near-successes that fail by a small error of the actions.

The pairs are the simulator's; which layouts are shown is said in seeds.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from vlaw_models.config import RolloutConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.robots.simulator import no_pairs, simulator_of
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.rollouts.seeds import MEASURING, start_seeds

_GIVE_UP = 20
"""Layouts tried per pair wanted."""


def iterate_near_success(
    tasks: Sequence[str],
    count_per_task: int,
    *,
    robot: RobotSpec,
    seed: int,
    purpose: str = "near_success",
    num_steps: int = RolloutConfig.num_steps,
    image_size: int | None = None,
    threads: int = 2,
    points: bool = False,
    progress: Progress | None = None,
) -> Iterator[Episode]:
    """`count_per_task` pairs of each task, one after the other: the success, then the near-success from the same
    layout. The result does not depend on `threads`. Raises VlawError where the robot's simulator makes none."""
    if purpose in MEASURING:
        raise VlawError(
            f"layouts of purpose {purpose!r} must not be demonstrated",
            where="near-success data",
            remedy="use purpose 'near_success' or 'pretraining'",
        )
    robot.check_tasks(tasks)
    simulator = simulator_of(robot, needed_by="near-success data", remedy="Set near_success = 'recorded:NAME'.")
    if not hasattr(simulator, "near_success"):
        raise no_pairs(robot.name)
    pairs = simulator.near_success(num_steps=num_steps, image_size=image_size, points=points)
    done, total = 0, count_per_task * len(tasks)
    with ThreadPoolExecutor(threads) as pool:
        for task in tasks:
            seeds, missing = iter(start_seeds(purpose, task, 0, seed, _GIVE_UP * count_per_task)), count_per_task
            while missing:
                # Windows bound the pictures in memory, and what is computed beyond the last pair needed.
                window = list(islice(seeds, min(missing, 8 * threads)))
                if not window:
                    raise VlawError(
                        f"{_GIVE_UP * count_per_task} layouts of {task!r} gave {count_per_task - missing} pairs of "
                        "success and near-success",
                        where="near-success data",
                        remedy=f"the task's scene or expert is broken: run the tests of robot {robot.name!r}",
                    )
                for pair in pool.map(pairs, [task] * len(window), window):
                    if pair is not None:
                        done, missing = done + 1, missing - 1
                        yield from pair
                if progress:
                    progress(done, total, f"success and near-success: {task}")
