"""Meta-World as a robot: what is said without it; with it its worlds, experts and replays, and an iteration.

Without the extra only the first test runs. `MUJOCO_GL=egl pytest tests/robots/test_metaworld.py` where it is installed.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import numpy as np
import pytest
import torch
from smoke_place import Place
from toy_iteration import run_iteration

from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.gym import RobotEnv
from vlaw_models.robots.metaworld.simulator import SIMULATOR
from vlaw_models.robots.metaworld.spec import SPEC
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.rollouts.rollout import rollout

THERE = importlib.util.find_spec("metaworld") is not None and bool(os.environ.get("MUJOCO_GL"))
needs_metaworld = pytest.mark.skipif(not THERE, reason="needs the extra 'metaworld', and MUJOCO_GL")
TASKS = ["reach", "drawer-close"]


def test_it_says_what_is_missing(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "opengl")
    with pytest.raises(VlawError, match=r"unknown OpenGL 'opengl'.*\n.*\n.*MUJOCO_GL=egl"):
        SIMULATOR.renderer()
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "metaworld", None)
    for name in ("scene", "world"):
        monkeypatch.delitem(sys.modules, f"vlaw_models.robots.metaworld.{name}", raising=False)
    for ask in (SIMULATOR.world, lambda: SIMULATOR.demonstrator(num_steps=28), SIMULATOR.player):
        with pytest.raises(VlawError, match=r"Meta-World cannot be imported.*\n.*\n.*pip install 'vlaw\[metaworld\]'"):
            ask()


class Wanders:
    """A policy that knows nothing."""

    execute_steps = 2

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        way = torch.randn((len(observation), 2, len(SPEC.action)), generator=generator).numpy() * 0.1
        return observation.state[:, None] + way.cumsum(1, dtype=np.float32)


@pytest.fixture(scope="module")
def demonstrations():
    return list(iterate_demonstrations(TASKS, 1, robot=SPEC, purpose="demonstration", seed=0, threads=1))


@needs_metaworld
def test_experts_demonstrate_what_can_be_played_again(demonstrations):
    assert [episode.task for episode in demonstrations] == TASKS
    play = SIMULATOR.player()
    for episode in demonstrations:
        assert episode.success
        assert episode.images.shape == (29, 3, 64, 64, 3)
        assert min(episode.images[:, view].std() for view in range(3)) > 10, "every camera draws something"
        assert np.array_equal(episode.states[1:], episode.actions)
        SPEC.check_episode(episode, where="metaworld")
        assert play(Start(episode.task, episode.seed), episode.actions).success
        assert not play(Start(episode.task, episode.seed), episode.states[:1].repeat(5, axis=0)).success


@needs_metaworld
def test_a_seed_is_a_layout_in_rollouts_and_demonstrations(demonstrations):
    world = SIMULATOR.world()
    starts = [Start(episode.task, episode.seed) for episode in demonstrations] + [Start("reach", 1)]
    first = rollout(Wanders(), world, starts, num_steps=4, seed=0)
    again = rollout(Wanders(), world, starts, num_steps=4, seed=0)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.states, other.states)
        assert (one.success, one.cameras) == (False, SPEC.camera_names)
    for one, shown in zip(first, demonstrations, strict=False):
        assert np.abs(one.images[0].astype(int) - shown.images[0]).mean() < 1
    assert not np.array_equal(first[0].images[0], first[2].images[0])


@needs_metaworld
def test_a_task_is_an_environment():
    env = RobotEnv("metaworld", "reach", num_steps=2)
    observation, _ = env.reset(seed=3)
    assert env.observation_space.contains(observation)
    _, _, ended, _, info = env.step(observation["state"])
    assert not ended
    assert info["success"] is False


@pytest.mark.slow
@needs_metaworld
def test_an_iteration_at_toy_size(tmp_path, demonstrations):
    """The pipeline from scripted demonstrations to an evaluated policy."""
    run_iteration(Place(tmp_path), SPEC, demonstrations, tasks=TASKS, foundation={})
