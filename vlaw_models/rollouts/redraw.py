"""Frames that were not kept, drawn again: recorded actions executed on the robot's own simulator.

Evaluations keep the last frame only. The simulator gives the others back, because a start is a (task, seed) and what
follows are the actions; that it did is seen by the states, which have to be the recorded ones to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlaw_models.episodes import Episode, Start
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import RobotSpec

TOGETHER = 16
"""Episodes simulated side by side."""


def redraw(episodes: Sequence[Episode], robot: RobotSpec) -> list[np.ndarray | None]:
    """(T+1, V, h, w, 3) uint8 of each episode, in the size of the frames that it has; None for one whose recorded
    states the simulator does not give back.

    Raises VlawError for a robot without a simulator.
    """
    simulator = simulator_of(
        robot, needed_by="drawing frames again", remedy="Look at the frames that were kept: --no-redraw."
    )
    drawn: list[np.ndarray | None] = [None] * len(episodes)
    groups: dict[tuple[int, int], list[int]] = {}
    for index, episode in enumerate(episodes):
        groups.setdefault((episode.images.shape[2], episode.num_steps), []).append(index)
    for (size, steps), members in groups.items():
        world = simulator.world(size)
        for begin in range(0, len(members) if steps else 0, TOGETHER):
            part = members[begin : begin + TOGETHER]
            first = world.reset([Start(episodes[i].task, episodes[i].seed) for i in part])
            moved = world.step(np.stack([episodes[i].actions for i in part]))
            for place, i in enumerate(part):
                states = np.concatenate([first.state[place][None], moved.states[place]])
                if np.array_equal(states.astype(np.float32), episodes[i].states):
                    drawn[i] = np.concatenate([first.images[place][None], moved.images[place]])
    return drawn
