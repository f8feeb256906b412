"""Recordings of an arm that is commanded in its joints three times per control step: every row is a command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vlaw_assets.importers.ctrl_world_annotation import annotation
from vlaw_assets.importers.findings import Fault
from vlaw_assets.importers.numbers import action_kind, check_rate, control_steps
from vlaw_models.errors import VlawError
from vlaw_models.robots.droid import IN_JOINT_POSITION, IN_JOINT_VELOCITY, SPEC

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "droid_sample" / "droid_subset" / "annotation"
BOTH = (IN_JOINT_VELOCITY, IN_JOINT_POSITION)
ROWS, FRAMES = 14, 5


def recorded() -> dict:
    """Number n of row r is r + .1 n, and the gripper's .01 r."""
    table = (np.arange(ROWS)[:, None] + 0.1 * np.arange(7)).tolist()
    grips = (0.01 * np.arange(ROWS)).tolist()
    return {
        "texts": ["lift the cup"],
        "states": [[0.0] * 6 + [0.03 * frame] for frame in range(FRAMES)],
        "observation.state.cartesian_position": np.zeros((ROWS, 6)).tolist(),
        "observation.state.joint_position": table,
        "observation.state.gripper_position": grips,
        "action.cartesian_position": np.zeros((ROWS, 6)).tolist(),
        "action.joint_velocity": table,
        "action.joint_position": table,
        "action.gripper_position": grips,
        "videos": [{"video_path": "v.mp4"}],
    }


def test_the_commands_of_a_control_step_are_its_rows_in_their_order():
    one = annotation(recorded(), "1", 1)
    assert one.joints is not None
    assert one.joints[:, 0].tolist() == [0, 3, 6, 9, 12]
    for robot in BOTH:
        commands = one.joint_commands[robot.commands.kind]
        assert commands.shape == (FRAMES - 1, len(robot.action))
        rows = robot.rows(commands)
        assert rows[:, 0].tolist() == list(range(12)), "rows 12 and 13 belong to no whole step"
        assert rows[:, 7] == pytest.approx(0.01 * np.arange(12))
    assert annotation({**recorded(), "action.joint_velocity": None}, "1", 1).joint_commands.keys() == {"joint position"}
    short = {**recorded(), "action.joint_position": None}
    for key in ("action.joint_velocity", "action.gripper_position", "action.cartesian_position"):
        short[key] = short[key][:12]
    with pytest.raises(Fault, match=r"12 rows of action.* do not fit 5 states"):
        annotation(short, "1", 1)


@pytest.mark.parametrize("robot", BOTH, ids=lambda robot: robot.name)
def test_rows_of_any_recording_become_commands(robot):
    steps = control_steps(np.arange(ROWS) / 15, 15.0, robot.control_hz)
    actions = np.arange(ROWS * 8, dtype=np.float32).reshape(ROWS, 8)
    found = steps.targets(actions, np.zeros((ROWS, 8)), "absolute", robot)
    assert np.array_equal(found, actions[:12].reshape(4, 24))
    assert "3 rows, each a command" in check_rate(15.0, robot, where="here")
    assert action_kind("", "action.joint_velocity", None, robot, where="here") == "absolute", "commands as they are"
    with pytest.raises(VlawError, match=r"recorded at 10 Hz, and robot .* every row has to be one of its commands"):
        check_rate(10.0, robot, where="here")
    assert check_rate(10.0, SPEC, where="here").startswith("10 Hz: every 2. row"), "poses are targets at any rate"


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the DROID sample is not there")
def test_all_episodes_of_the_droid_sample_are_of_both_robots():
    paths = sorted(SAMPLE.rglob("*.json"))
    assert len(paths) == 11
    for path in paths:
        one = annotation(json.loads(path.read_text()), path.stem, 3)
        for robot in BOTH:
            robot.check_numbers(one.joints, one.joint_commands[robot.commands.kind], where=str(path))
        assert robot.poses(one.joints) == pytest.approx(one.states, abs=1e-4)
