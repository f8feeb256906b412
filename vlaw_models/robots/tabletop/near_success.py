"""Success and near-success of the scripted expert from one layout (World-VLA-Loop's SANS data, perturbed poses).

The near-success is the same demonstration with the poses of one interaction moved along one random direction, by the
least that turns success into failure: found by bisection in the simulator, without pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vlaw_models.robots.tabletop.demonstrations import DEMONSTRATION, Robots, next_action, record_expert
from vlaw_models.robots.tabletop.tasks import Expert

if TYPE_CHECKING:
    from vlaw_models.episodes import Episode
    from vlaw_models.robots.tabletop.scene import Sim

SIZES = (0.01, 0.02, 0.04, 0.08, 0.12)
"""Perturbations tried until one fails, metres: from there the least is bisected."""
TOLERANCE = 0.001
"""A perturbation smaller by this still succeeds, metres."""
DIRECTIONS = 3
"""Directions tried of one layout: pressing harder, for one, fails nowhere."""


class NearSuccess:
    """Records one pair per call."""

    def __init__(self, num_steps: int, image_size: int, *, points: bool):
        self.num_steps, self.points = num_steps, points
        self._robots = Robots(image_size)

    def __call__(self, task: str, seed: int) -> tuple[Episode, Episode] | None:
        """(success, near-success) from the layout of `seed`; None where the expert fails, or nothing makes it fail."""
        sim, renderer = self._robots.of(task)
        rng = np.random.default_rng([seed, sim.task.stream, 1])
        if not succeeds(sim, seed, self.num_steps):
            return None
        for _ in range(DIRECTIONS):
            group, direction = str(rng.choice(["first", "last"])), rng.normal(size=3)
            direction /= np.linalg.norm(direction)
            size = least(sim, seed, group, direction, self.num_steps)
            if size is not None:
                break
        else:
            return None
        pair = [
            record_expert(
                sim, renderer, seed, DEMONSTRATION, _errors(sim, seed), self.num_steps, points=self.points, shift=shift
            )
            for shift in (None, (group, size * direction))
        ]
        pair[0].extra["quality"] = "success"
        pair[1].extra |= {"quality": "near_success", "perturbed": group, "perturbation_mm": round(1000 * size, 2)}
        return pair[0], pair[1]


def least(sim: Sim, seed: int, group: str, direction: np.ndarray, num_steps: int) -> float | None:
    """Metres along `direction` (3,) by which a group of waypoints must be moved to fail, where `TOLERANCE` less
    succeeds; None where none of SIZES fails."""
    works = 0.0
    for fails in SIZES:
        if not succeeds(sim, seed, num_steps, (group, fails * direction)):
            break
        works = fails
    else:
        return None
    while fails - works > TOLERANCE:
        middle = (works + fails) / 2
        if succeeds(sim, seed, num_steps, (group, middle * direction)):
            works = middle
        else:
            fails = middle
    return fails


def succeeds(sim: Sim, seed: int, num_steps: int, shift: tuple[str, np.ndarray] | None = None) -> bool:
    """Whether the demonstration with this shift (see Expert) ends in success; physics only."""
    sim.reset(seed)
    expert = Expert(sim, _errors(sim, seed), DEMONSTRATION, shift)
    for _ in range(num_steps):
        sim.step(next_action(expert, sim))
    return sim.task.outcome(sim).success


def _errors(sim: Sim, seed: int) -> np.random.Generator:
    """What drives the expert's errors: the same in every try, so that only the perturbation differs."""
    return np.random.default_rng([seed, sim.task.stream])
