"""Rollouts that end when the reward says done: their length, what was saved, and that the others go on."""

from __future__ import annotations

import numpy as np
import pytest

from vlaw_models.episodes import Observation, Outcome, Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.tasks.stack import Stack
from vlaw_models.robots.tabletop.world import TabletopWorld
from vlaw_models.rollouts.rollout import rollout
from vlaw_models.worlds import Transition, ended

STARTS = [Start("count", seed) for seed in range(4)]
DONE_AT = np.array([3, 100, 6, 8])


class Counter:
    """Row i is accomplished once DONE_AT[i] steps were executed. Pictures and states say row and step."""

    name, robot, image_size = "counter", SPEC, 1

    def __init__(self, done_above: float | None, *, tells: bool = True):
        self.done_above, self.tells, self.executed = done_above, tells, 0

    def reset(self, starts):
        self.rows, self.step_count = np.arange(len(starts)), 0
        return Observation(self._images(0 * self.rows), np.zeros((len(starts), 5), np.float32))

    def _images(self, steps):
        return np.stack([self.rows, steps, steps], axis=1).astype(np.uint8)[:, None, None, None]

    def instructions(self):
        return [f"row {row}" for row in self.rows]

    def step(self, actions):
        self.executed += actions.shape[0] * actions.shape[1]
        steps = self.step_count + 1 + np.arange(actions.shape[1])
        self.step_count = int(steps[-1])
        images = np.stack([self._images(np.full(len(self.rows), step)) for step in steps], axis=1)
        reward = (steps >= DONE_AT[self.rows][:, None]).astype(np.float32) if self.tells else None
        states = np.zeros((*actions.shape[:2], 5), np.float32)
        return Transition(images, states, actions.copy(), reward, ended(reward, self.done_above))

    def keep(self, rows):
        self.rows = self.rows[rows]

    def outcomes(self):
        won = self.step_count >= DONE_AT[self.rows]
        return [Outcome(success=bool(one), event="success" if one else "late") for one in won]


class Told:
    execute_steps = 4

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        assert [f"row {image[0, 0, 0, 0]}" for image in observation.images] == list(instructions)
        return np.zeros((len(observation), 4, 5), np.float32)


def test_episodes_end_where_the_reward_says_so_and_the_saving_is_told():
    world = Counter(0.9)
    episodes = rollout(Told(), world, STARTS, num_steps=12, seed=0)
    assert [e.num_steps for e in episodes] == [3, 12, 6, 8]
    assert [e.seed for e in episodes] == [0, 1, 2, 3]
    assert [e.success for e in episodes] == [True, False, True, True]
    assert [e.extra.get("steps_saved") for e in episodes] == [8, None, 4, 4]
    assert world.executed == 4 * 12 - 16, "what was saved was not executed"
    for row, episode in enumerate(episodes):
        assert len(episode.images) == len(episode.states) == episode.num_steps + 1
        assert (episode.images[:, 0, 0, 0, 0] == row).all()
        assert episode.images[:, 0, 0, 0, 1].tolist() == list(range(episode.num_steps + 1))
        assert episode.extra["rewards"] == [0.0] * (episode.num_steps - 1) + [float(row != 1)]


def test_without_a_threshold_nothing_ends():
    episodes = rollout(Told(), Counter(None), STARTS, num_steps=10, seed=0)
    assert [e.num_steps for e in episodes] == [10] * 4
    assert not any("steps_saved" in e.extra for e in episodes)
    assert episodes[0].extra["rewards"] == [0.0] * 2 + [1.0] * 8


def test_a_world_that_tells_no_reward_cannot_end_anything():
    assert "rewards" not in rollout(Told(), Counter(None, tells=False), STARTS, num_steps=4, seed=0)[0].extra
    with pytest.raises(VlawError, match=r"above 0\.9, and world 'counter' tells none"):
        rollout(Told(), Counter(0.9, tells=False), STARTS, num_steps=4, seed=0)


def test_the_robot_tells_rewards_and_stays_where_it_ended(monkeypatch):
    def outcome(_task, sim):
        won = sim.step_count >= 2
        return Outcome(success=won, event="success" if won else "late")

    monkeypatch.setattr(Stack, "outcome", outcome)
    starts = [Start("stack", seed) for seed in (1, 2)]
    moved = {}
    for done_above in (None, 0.5):
        world = TabletopWorld(32, threads=1)
        world.done_above = done_above
        state = world.reset(starts).state
        moved[done_above] = world.step(np.repeat(state[:, None] - 0.02, 4, axis=1))
        assert moved[done_above].reward.tolist() == [[0, 1, 1, 1]] * 2
    whole, cut = moved[None], moved[0.5]
    assert (whole.ended.tolist(), cut.ended.tolist()) == ([False] * 2, [True] * 2)
    assert np.array_equal(cut.images[:, :2], whole.images[:, :2])
    assert np.array_equal(cut.images[:, 2:], np.repeat(cut.images[:, 1:2], 2, axis=1))
    assert [sim.step_count for sim in world.sims] == [2, 2]
    world.keep(np.array([1]))
    assert len(world.outcomes()) == 1
    assert world.step(np.repeat(state[1:, None], 1, axis=1)).reward.shape == (1, 1)
