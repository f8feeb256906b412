"""From a recording's numbers and rate to a robot's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vlaw_assets.importers.numbers import action_kind, check_rate, control_steps, looks_like, select
from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.spec import wrapped

DROID = find_robot("droid")
NAMES = DROID.action.names


def times(count: int, fps: float) -> np.ndarray:
    return np.arange(count) / fps


def moving(count: int, fps: float) -> np.ndarray:
    """(rows, 7): x grows by .3 m/s, roll by 2 rad/s and over the end, the gripper closes half way."""
    seconds = times(count, fps)
    values = np.zeros((count, 7))
    values[:, 0], values[:, 3], values[:, 6] = 0.3 * seconds, wrapped(2.5 + 2 * seconds), seconds >= 1
    return values


@pytest.mark.parametrize(("fps", "stride"), [(5, 1), (10, 2), (15, 3), (50, 10)])
def test_at_a_multiple_of_the_rate_rows_are_taken_as_they_are(fps, stride):
    steps = control_steps(times(31, fps), fps, 5)
    assert steps.exact
    np.testing.assert_array_equal(steps.rows, np.arange(0, 31, stride))
    values = np.random.default_rng(0).normal(size=(31, 7)).astype(np.float32)
    np.testing.assert_array_equal(steps.states(values, DROID.state), values[::stride])
    targets = steps.targets(values, values, "absolute", DROID)
    np.testing.assert_array_equal(targets, values[stride - 1 :: stride][: len(steps) - 1])


@pytest.mark.parametrize("fps", [4, 12, 29.97, 7, 60.5])
def test_other_rates_are_resampled_by_time(fps):
    count = round(6 * fps)
    steps = control_steps(times(count, fps), fps, 5)
    seconds = np.arange(len(steps)) / 5
    assert not steps.exact
    assert seconds[-1] <= (count - 1) / fps < seconds[-1] + 0.2 + 1e-9
    assert np.abs(steps.rows / fps - seconds).max() <= 0.5 / fps + 1e-9, "the picture is of the nearest row"
    values = moving(count, fps)
    states = steps.states(values, DROID.state)
    np.testing.assert_allclose(states[:, 0], 0.3 * seconds, atol=1e-6)
    np.testing.assert_allclose(wrapped(states[:, 3] - (2.5 + 2 * seconds)), 0, atol=1e-5)
    assert np.abs(states[:, 3]).max() <= np.pi + 1e-6
    targets = steps.targets(values, values, "absolute", DROID)
    np.testing.assert_allclose(targets[1:, 0], 0.3 * (seconds[2:] - 1 / fps), atol=1e-6)


@pytest.mark.parametrize("fps", [5, 15, 12, 29.97, 4])
def test_differences_and_velocities_come_to_the_same_targets(fps):
    values = moving(round(4 * fps) + 1, fps)
    steps = control_steps(times(len(values), fps), fps, 5)
    states = steps.states(values, DROID.state)
    moved = np.diff(values, axis=0, append=values[-1:])
    moved[:, 3] = wrapped(moved[:, 3])
    moved[:, 6] = values[:, 6]  # a gripper is commanded as it is
    for kind, actions in (("delta", moved), ("velocity", np.column_stack([moved[:, :6] * fps, moved[:, 6]]))):
        targets = steps.targets(actions, values, kind, DROID)
        assert targets.dtype == np.float32
        np.testing.assert_allclose(targets[:, 0], states[1:, 0], atol=1e-5)
        np.testing.assert_allclose(wrapped(targets[:, 3] - states[1:, 3]), 0, atol=1e-5)
        np.testing.assert_array_equal(targets[:, 6], steps.targets(values, values, "absolute", DROID)[:, 6])


def test_a_recording_that_is_too_slow_is_refused_and_what_is_done_to_others_is_said():
    assert check_rate(15, DROID, where="x") == "15 Hz: every 3. row is a control step at 5 Hz"
    assert "12 Hz, resampled by time to 5 Hz" in check_rate(12, DROID, where="x")
    assert "20% of the pictures are shown twice" in check_rate(4, DROID, where="x")
    with pytest.raises(VlawError, match="recorded at 2 Hz") as caught:
        check_rate(2, DROID, where="x")
    assert "--rate" in caught.value.remedy


def test_components_units_and_gripper():
    values = np.arange(18, dtype=np.float32).reshape(2, 9)
    names = ["t", *NAMES[::-1], "u"]

    def chosen(components=(), units=(), gripper="", names=names):
        return select(values, names, components, units, DROID.state, gripper=gripper, what="state", where="x")

    np.testing.assert_array_equal(chosen(), values[:, 7:0:-1], "by name, in the robot's order")
    np.testing.assert_array_equal(chosen(["8", "7", *"123456"[:5]], names=None), values[:, [8, 7, 1, 2, 3, 4, 5]])
    np.testing.assert_allclose(
        chosen(units=["mm", "cm", "m", "deg", "deg", "rad", ""])[0],
        [7e-3, 6e-2, 5, np.radians(4), np.radians(3), 2, 1],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(chosen(gripper="open_is_1")[:, 6], 1 - values[:, 1])
    for words, options in (
        ("has no number 'w'", {"components": [*NAMES[:6], "w"]}),
        ("has no number '9'", {"components": [*NAMES[:6], "9"]}),
        ("2 components of the state, the robot has 7", {"components": ["t", "u"]}),
        ("has 9 numbers, the robot's has 7", {"names": None}),
        ("consists of t, ", {"names": ["t", *"abcdefg", "u"]}),
        ("x of the state is in rad, the robot's is in m", {"units": ["rad"] * 7}),
        ("1 units of the state", {"units": ["m"]}),
    ):
        with pytest.raises(VlawError, match=words) as caught:
            chosen(**options)
        assert caught.value.remedy


def test_what_the_action_is_must_be_clear():
    assert action_kind("", "action", NAMES, DROID, where="x") == "absolute"
    assert action_kind("", "action", None, DROID, where="x") == "absolute"
    for key, names in (
        ("action", ["delta_x"]),
        ("action.joint_velocity", None),
        ("rel_actions", None),
        ("action", ["dx", "dy"]),
        ("action", ["vx"]),
    ):
        with pytest.raises(VlawError, match="not clear") as caught:
            action_kind("", key, names, DROID, where="x")
        assert "--action-kind" in caught.value.remedy
        assert action_kind("delta", key, names, DROID, where="x") == "delta"
    other = replace(DROID, name="other", state=replace(DROID.state, names=tuple("abcdefg")), action=DROID.state)
    with pytest.raises(VlawError, match="added to the state"):
        action_kind("delta", "action", None, other, where="x")


def test_the_numbers_themselves_tell_a_difference_from_a_target():
    states = moving(40, 15) + np.array([0.5, 0.1, 0.3, 0, 0.2, 0.1, 0])
    moved = np.diff(states, axis=0, append=states[-1:])
    moved[:, 3] = wrapped(moved[:, 3])
    following = np.vstack([states[1:], states[-1:]])
    assert looks_like(states, following, 15, DROID) == "absolute"
    assert looks_like(states, moved, 15, DROID) == "delta"
    assert looks_like(states, moved * 15, 15, DROID) == "velocity"
    assert looks_like(np.zeros_like(states), np.zeros_like(states), 15, DROID) == ""
