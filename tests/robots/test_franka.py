"""The arm of DROID: its kinematics against recorded poses, how well commands in its joints are followed, and what
policies see of its angles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vlaw_assets.importers.ctrl_world_annotation import annotation
from vlaw_models.policies.normalization import Normalization
from vlaw_models.robots.droid import IN_JOINT_POSITION, IN_JOINT_VELOCITY, SPEC
from vlaw_models.robots.franka import AHEAD, BEHIND, JOINTS, PANDA, by_position, by_velocity
from vlaw_models.robots.kinematics import flange
from vlaw_models.robots.spec import wrapped

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "droid_sample" / "droid_subset" / "annotation"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="the DROID sample is not there")
STRIDE = 5
"""Rows between the windows on which Ctrl-World's adapter was measured."""


def annotations(split: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((SAMPLE / split).glob("*.json"))]


def test_the_stretched_arm_is_where_its_links_add_up_to():
    position, rotation = flange(np.zeros((2, JOINTS)), PANDA)
    assert position == pytest.approx(np.tile([0.088, 0, 0.333 + 0.316 + 0.384 - 0.107], (2, 1)), abs=1e-12)
    assert rotation[0] == pytest.approx(np.diag([1.0, -1.0, -1.0]), abs=1e-12)
    turned, _ = flange(np.array([np.pi / 2, 0, 0, 0, 0, 0, 0]), PANDA)
    assert turned == pytest.approx([0, 0.088, position[0, 2]], abs=1e-12)


@needs_sample
def test_recorded_joints_are_the_recorded_poses():
    """To less than a thousandth of a millimetre, in all 11 episodes."""
    for split in ("train", "val"):
        for found in annotations(split):
            joints = np.array(found["observation.state.joint_position"])
            poses = np.array(found["observation.state.cartesian_position"])
            told = IN_JOINT_VELOCITY.poses(np.concatenate([joints, np.zeros((len(joints), 1))], axis=1))
            assert told.dtype == np.float32
            position, _ = flange(joints, PANDA)
            assert np.abs(position - poses[:, :3]).max() < 1e-6
            assert np.abs(wrapped(told[:, 3:6] - poses[:, 3:])).max() < 1e-5
            assert np.abs(told[:, 3:6]).max() <= np.pi + 1e-6


def errors(split: str, action: str, follow) -> np.ndarray:
    """(N, AHEAD) millimetres at the flange of all windows of a split."""
    rows = []
    for found in annotations(split):
        joints, commands = np.array(found["observation.state.joint_position"]), np.array(found[action])
        first = np.zeros((BEHIND, JOINTS)) if action.endswith("velocity") else np.repeat(joints[:1], BEHIND, axis=0)
        told = np.concatenate([first, commands])
        changes = np.concatenate([np.zeros((BEHIND, JOINTS)), np.diff(joints, axis=0)])
        for t in range(0, len(joints) - AHEAD - 1, STRIDE):
            past = changes[t : t + BEHIND], told[t : t + BEHIND]
            rows.append((joints[t], *past, commands[t : t + AHEAD], joints[t + 1 : t + 1 + AHEAD]))
    *given, truth = (np.stack(column) for column in zip(*rows, strict=True))
    found = follow(*given)
    return 1000 * np.linalg.norm(flange(found, PANDA)[0] - flange(truth, PANDA)[0], axis=-1)


@needs_sample
def test_commands_are_followed_better_than_by_the_reference():
    """Ctrl-World's adapter: 18.9 mm after 15 commands (1 s) of the 147 windows of the four validation episodes."""
    found = errors("val", "action.joint_velocity", by_velocity)
    assert found.shape == (147, AHEAD)
    assert found[:, 14].mean() == pytest.approx(17.4, abs=0.1)
    assert found[:, 7].mean() < 11.0
    assert errors("val", "action.joint_position", by_position)[:, 14].mean() < 9.5


@needs_sample
def test_angles_of_recorded_commands_do_not_jump_for_a_policy():
    """Of all chunks of 8 commands: from the state to the first one, from one to the next."""
    chunk, angles = 8, list(SPEC.action.wraps)
    read = [annotation(found, "", len(SPEC.cameras)) for split in ("train", "val") for found in annotations(split)]
    states, actions = [one.states for one in read], [one.actions for one in read]

    def seen(norm: Normalization) -> tuple[float, list[bool], list[bool]]:
        """The widest fitted range of an action's angle in radians; which chunks jump, and which episodes' states."""
        wide, low = (norm.action_high - norm.action_low)[:, angles], norm.action_low[:, angles]
        chunks, episodes = [], []
        for state, action in zip(states, actions, strict=True):
            rows = np.arange(len(action) - chunk + 1)[:, None] + np.arange(chunk)
            told = norm.actions(torch.from_numpy(action[rows]), torch.from_numpy(state[: len(rows)])).numpy()
            away = (told[..., angles] + 1) / 2 * wide + low
            chunks += (np.abs(np.diff(away, axis=1, prepend=0)) > np.pi).any((1, 2)).tolist()
            turned = norm.state(torch.from_numpy(state)).numpy() / 2 * (norm.state_high - norm.state_low)
            episodes.append(bool((np.abs(np.diff(turned[:, angles], axis=0)) > np.pi).any()))
        return float(wide.max()), chunks, episodes

    widest, chunks, episodes = seen(Normalization.of_robot(SPEC, states, actions, chunk_size=chunk))
    assert (len(chunks), len(episodes)) == (766, 11)
    assert widest == pytest.approx(2.2, abs=0.05)
    assert not any(chunks)
    assert not any(episodes)
    widest, chunks, episodes = seen(Normalization.fit(states, actions, chunk_size=chunk, absolute=SPEC.action.as_is))
    assert widest == pytest.approx(12.5, abs=0.05), "as numbers that are no angles"
    assert np.mean(chunks) == pytest.approx(0.29, abs=0.005)
    assert sum(episodes) == 9


@pytest.mark.parametrize("robot", [IN_JOINT_VELOCITY, IN_JOINT_POSITION], ids=lambda robot: robot.name)
def test_an_arm_that_is_told_to_stay_stays_and_reach_is_limited(robot):
    state = np.array([[0, -0.6, 0, -2.4, 0, 1.9, 0, 0.5]], np.float32)
    memory = robot.motion.begin(state)
    stay = np.tile(state[0] if robot is IN_JOINT_POSITION else np.array([0.0] * 7 + [0.5]), 3)[None, None]
    _, states = robot.motion.follow(memory, np.repeat(stay, 4, axis=1))
    assert states.shape == (1, 4, 8)
    assert states.dtype == np.float32
    there, start = (flange(one[..., :JOINTS], PANDA)[0] for one in (states[0, -1], state[0]))
    assert np.linalg.norm(there - start) < 0.02, "a second and less of drift"
    assert states[0, :, -1] == pytest.approx(0.5)
    low, high = np.array(robot.state.low), np.array(robot.state.high)
    far = np.tile(high if robot is IN_JOINT_POSITION else np.ones(8), 3)[None, None]
    for _ in range(8):
        memory, states = robot.motion.follow(memory, np.repeat(far, 5, axis=1))
    assert ((states >= low - 1e-6) & (states <= high + 1e-6)).all()
    assert states[0, -1, -1] == pytest.approx(1.0), "the gripper has closed, at the speed that it has"


def test_an_arm_remembers_from_chunk_to_chunk_and_arms_do_not_mix():
    """Two calls of two control steps by positions are one of four; a batch is what its rows are alone."""
    rng = np.random.default_rng(0)
    motion, low, high = (
        IN_JOINT_POSITION.motion,
        *(np.array(end) for end in (IN_JOINT_POSITION.state.low, IN_JOINT_POSITION.state.high)),
    )
    states = (low + (high - low) * rng.uniform(0.3, 0.7, (3, 8))).astype(np.float32)
    actions = np.tile(states[:, None], (1, 4, 3)) + rng.normal(0, 0.05, (3, 4, 24)).astype(np.float32)
    memory, whole = motion.follow(motion.begin(states), actions)
    half, first = motion.follow(motion.begin(states), actions[:, :2])
    again, second = motion.follow(half, actions[:, 2:])
    assert np.allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    assert np.allclose(again, memory)
    alone, row = motion.follow(motion.begin(states[1:2]), actions[1:2])
    assert np.allclose(row, whole[1:2])
    assert np.allclose(alone, memory[1:2])
