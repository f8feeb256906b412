"""A world in another process: the protocol with a fake simulator, and how its failures are told; LIBERO where it is.

LIBERO's own tests run where VLAW_LIBERO_PYTHON names an environment that has it (`make test-robots`).
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from documents import ROOT
from factories import commit
from smoke_place import Place
from toy_iteration import PIXELS, run_iteration

from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.robots import process
from vlaw_models.robots.libero.settings import ASSETS, PYTHON
from vlaw_models.robots.libero.simulator import SIMULATOR
from vlaw_models.robots.libero.spec import SPEC as LIBERO
from vlaw_models.robots.process import ProcessWorld
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.rollout import rollout

FAKE = Path(__file__).with_name("fake_simulator.py")


def world(way: str = "well", python: str = sys.executable) -> ProcessWorld:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return ProcessWorld(SPEC, [python, str(FAKE), way], image_size=4, remedy="Mend it.", environment=environment)


class Still:
    """Stays at HOME with the gripper closed."""

    execute_steps = 2

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        chunk = np.repeat(observation.state[:, None], 2, axis=1)
        if chunk.shape[-1] == len(SPEC.state):
            chunk[..., 4] = 0.6
        return chunk


def test_a_rollout_in_another_process():
    seen = world()
    starts = [Start("stack", 6_000_000_000_000_007), Start("book", 3)]
    first, second = rollout(Still(), seen, starts, num_steps=3, seed=0)
    assert first.instruction == "do stack"
    assert first.images.shape == (4, 3, 4, 4, 3)
    assert (first.images[0, 0, 0, 0, 0], second.images[0, 0, 0, 0, 0]) == (6_000_000_000_000_007 % 256, 3)
    assert np.allclose(first.states[1:, 4], 0.6)
    assert first.images[-1].max() == 153
    assert (first.success, first.event) == (True, "success")
    ended = seen.process
    seen.close()
    assert ended.poll() == 0, "it ends with its world"


class Closes(Still):
    """Closes the gripper, which is what the fake takes for success, in one of two tasks."""

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        chunk = super().sample(observation, instructions, generator)
        chunk[["stack" not in said for said in instructions], :, 4] = 0
        return chunk


def test_what_has_ended_there_goes_on_no_more():
    seen = world()
    seen.done_above = 0.5
    starts = [Start(task, 3) for task in ("book", "stack", "book")]
    episodes = rollout(Closes(), seen, starts, num_steps=6, seed=0)
    assert [episode.num_steps for episode in episodes] == [6, 1, 6]
    assert [episode.success for episode in episodes] == [False, True, False]
    assert episodes[1].extra == {"rewards": [1.0], "steps_saved": 4}
    assert seen.instructions() == ["do book", "do book"]


@pytest.mark.parametrize(
    ("way", "said"),
    [("dies", "has ended; it printed: begun\nout of luck"), ("fails", "ZeroDivisionError: by nothing")],
)
def test_what_goes_wrong_there_is_told_here(way, said):
    seen = world(way)
    first = seen.reset([Start("stack", 0)])
    with pytest.raises(VlawError, match=said):
        seen.step(first.state[:, None])


@pytest.mark.slow
def test_a_simulator_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(process, "ANSWER_S", 3.0)
    seen = world("hangs")
    first = seen.reset([Start("stack", 0)])
    monkeypatch.setattr(process, "GRACE_S", 0.1)
    with pytest.raises(VlawError, match=r"has not answered for 3 s"):
        seen.step(first.state[:, None])
    assert seen.process.returncode is not None


def test_a_simulator_that_cannot_start_says_why():
    with pytest.raises(VlawError, match="no scenes"):
        world("unready")
    with pytest.raises(VlawError, match="cannot be started"):
        world(python="/nowhere/python")
    with pytest.raises(VlawError, match="has no task 'fly'"):
        world().reset([Start("fly", 0)])


# --- LIBERO


def test_libero_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.delenv(PYTHON, raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(VlawError, match=r"without a screen.*\n.*\n.*MUJOCO_GL=egl"):
        SIMULATOR.world()
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(VlawError, match=r"VLAW_LIBERO_PYTHON is not set.*\n.*\n.*pip install hf-libero"):
        SIMULATOR.world()
    monkeypatch.setenv(PYTHON, sys.executable)
    monkeypatch.setenv(ASSETS, str(tmp_path))
    with pytest.raises(VlawError, match=r"no scenes in that folder"):
        SIMULATOR.world()
    (tmp_path / "scenes").mkdir()
    with pytest.raises(VlawError, match="LIBERO is not installed"):  # by the server, in that interpreter
        SIMULATOR.world()
    with pytest.raises(VlawError, match="recorded:NAME"):
        SIMULATOR.demonstrator(num_steps=28)


needs_libero = pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no environment with LIBERO")


@pytest.mark.slow
@needs_libero
def test_a_suite_of_libero_end_to_end():
    robot = find_robot("libero")
    seen = SIMULATOR.world(32)
    starts = [Start("libero_spatial", 20), Start("libero_spatial", 31)]
    first, second = rollout(Still(), seen, starts, num_steps=2, seed=0)
    assert first.images.shape == (3, 2, 32, 32, 3)
    assert first.images.std() > 20, "something is drawn"
    assert first.instruction != second.instruction
    assert (first.success, second.success) == (False, False)
    robot.check_episode(first, where="libero")
    start = first.states[0]
    assert np.allclose(first.states, start, atol=1e-5), "a target that is the state is where it stays"
    again = seen.reset(starts[:1])
    assert np.abs(again.images[0].astype(int) - first.images[0]).mean() < 1, "a seed is a layout"
    up = np.repeat(again.state[:, None], 3, axis=1)
    up[..., 2] += 0.1
    moved = seen.step(up)
    assert np.allclose(moved.states[0, -1], LIBERO.clip(start, up[0, -1]))
    assert np.abs(moved.images[0, -1].astype(int) - first.images[0]).mean() > 2, "the arm has moved"
    seen.close()


@pytest.mark.slow
@needs_libero
def test_an_iteration_of_libero_at_toy_size(tmp_path):
    """The pipeline from recorded demonstrations to an evaluated policy; what they show is of no account here."""
    place, seen = Place(tmp_path), SIMULATOR.world(PIXELS)
    still = rollout(Still(), seen, [Start("libero_spatial", 20)], num_steps=9, seed=0)
    seen.close()
    shown = [replace(episode, success=True, event="success") for episode in still]
    commit(
        place.lake,
        "recorded_episodes",
        "shown|00",
        write=lambda draft: draft.write_episodes(shown, purpose="rollout", world=LIBERO.world, label_source="recorded"),
        recipe={"of": "shown", "robot": LIBERO.identity()},
    )
    recorded = {"demonstrations": "recorded:shown", "co_training": "recorded:shown"}
    run_iteration(place, LIBERO, shown, tasks=["libero_spatial"], foundation=recorded)
