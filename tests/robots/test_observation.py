"""What a robot sends becomes an observation of its policy, or an error that says what is expected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vlaw_models.errors import VlawError
from vlaw_models.robots import droid
from vlaw_models.robots.observation import described, parts_of, read_observation
from vlaw_models.robots.spec import Vector
from vlaw_models.robots.tabletop.spec import SPEC

JOINTS = Vector(names=(*(f"joint_{i}" for i in range(1, 8)), "gripper"), units=("rad",) * 7 + ("",))
ARM = replace(droid.SPEC, name="arm", state=JOINTS, action=JOINTS, cameras=droid.SPEC.cameras[::2])
"""What openpi's own DROID client commands: joints, one picture from outside and one of the wrist."""


def frame(height=64, width=64, value=9) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def sent(**changes) -> dict:
    values = {
        "observation/exterior_1": frame(value=1),
        "observation/exterior_2": frame(value=2),
        "observation/wrist": frame(value=3),
        "observation/state": np.array([0.1, -0.1, 0.05, 0.5, 1.0]),
        "prompt": "stack the red block on the blue block",
        **{key.replace("__", "/"): value for key, value in changes.items()},
    }
    return {key: value for key, value in values.items() if value is not None}


def test_the_names_of_a_spec_are_keys():
    found = read_observation(SPEC, sent(), (64, 64))
    np.testing.assert_array_equal(found.images[:, 0, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(found.state, np.float32([0.1, -0.1, 0.05, 0.5, 1.0]))
    assert found.state.dtype == np.float32
    assert found.seed is None


def test_numbers_of_the_state_may_come_one_by_one():
    names = dict(zip(SPEC.state.names, (0.1, -0.1, 0.05, 0.5, 1.0), strict=True))
    one_by_one = {f"observation__{name}": value for name, value in names.items()}
    grouped = {"observation__cartesian_position": [0.1, -0.1, 0.05, 0.5], "observation__gripper_position": 1}
    whole = read_observation(SPEC, sent(), (64, 64))
    for spelling in (one_by_one, grouped):
        found = read_observation(SPEC, sent(observation__state=None, **spelling), (64, 64))
        np.testing.assert_array_equal(found.state, whole.state)


def test_what_openpis_droid_client_sends_is_read_by_a_robot_of_joints():
    found = read_observation(
        ARM,
        {
            "observation/exterior_image_1_left": frame(180, 320, 1),
            "observation/wrist_image_left": frame(180, 320, 2),
            "observation/joint_position": np.arange(7) / 10,
            "observation/gripper_position": np.array([0.5]),
            "prompt": "pick up the cup",
        },
        (192, 320),
    )
    np.testing.assert_array_equal(found.state, np.float32([*(np.arange(7) / 10), 0.5]))
    assert found.images.shape == (2, 192, 320, 3)


def test_a_robot_of_poses_takes_no_joints_in_place_of_its_pose():
    joints = {"observation__joint_position": np.zeros(7), "observation__gripper_position": 1}
    joints |= {"observation__state": None}
    with pytest.raises(VlawError, match="no x, y, z, pitch of the state") as error:
        read_observation(SPEC, sent(**joints), (64, 64))
    assert "observation/cartesian_position" in error.value.remedy
    pose = {"observation__cartesian_position": np.zeros(4)}
    assert read_observation(SPEC, sent(**joints, **pose), (64, 64)).state.tolist() == [0, 0, 0, 0, 1]


def test_pictures_are_resized_as_imports_resize_them():
    rng = np.random.default_rng(0)
    large, small = rng.integers(0, 256, (2, 128, 128, 3), np.uint8), rng.integers(0, 256, (32, 32, 3), np.uint8)
    pictures = {"observation__exterior_1": large[0], "observation__exterior_2": large[1], "observation__wrist": small}
    found = read_observation(SPEC, sent(**pictures), (64, 64)).images
    mean = large[0].reshape(64, 2, 64, 2, 3).astype(float).mean((1, 3))
    assert np.abs(found[0] - mean).max() <= 1
    np.testing.assert_array_equal(found[2], Image.fromarray(small).resize((64, 64), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("changes", "what", "remedy"),
    [
        (
            {"observation__wrist": None},
            "no picture of camera wrist",
            "wrist or observation/wrist_image_left",
        ),
        ({"observation__state": None}, "no x, y, z, pitch, gripper of the state", "observation/state"),
        ({"observation__left": frame()}, "unknown key 'observation/left'", "observation/exterior_1"),
        ({"wrist": frame()}, "unknown key 'wrist'", "observation/wrist"),
        ({"observation__wrist_image_left": frame()}, "camera wrist was sent twice", "one of the two keys"),
        ({"observation__gripper": 1.0}, "gripper of the state was sent twice", "one of the two keys"),
        ({"observation__wrist": np.moveaxis(frame(), -1, 0)}, "channels come last", "moveaxis"),
        ({"observation__wrist": frame().astype(np.float32) / 255}, "a picture of float32", "convert_to_uint8"),
        ({"observation__wrist": frame()[..., 0]}, "shape", "red, green, blue"),
        ({"observation__wrist": frame()[None]}, "shape", "height, width, 3"),
        ({"observation__wrist": np.zeros((64, 64, 4), np.uint8)}, "shape", "red, green, blue"),
        ({"observation__wrist": frame(4, 4)}, "4x4 pixels", "16 to 4096"),
        ({"observation__wrist": frame(48, 64)}, "would be squeezed", "camera's own picture"),
        ({"observation__wrist": [1, 2]}, "list where a picture", "uint8"),
        ({"observation__state": np.zeros(4)}, r"shape \(4,\)", "metadata"),
        ({"observation__state": np.zeros((1, 5))}, r"shape \(1, 5\)", "metadata"),
        ({"observation__state": np.array([0.1, np.nan, 0, 0, 0])}, "not finite", "once the robot knows"),
        ({"observation__state": np.array([0.1, np.inf, 0, 0, 0])}, "not finite", "once the robot knows"),
        ({"observation__state": np.array([1e300, 0, 0, 0, 0])}, "not finite", "once the robot knows"),
        ({"observation__state": np.array([100, 0, 50, 0, 0])}, "x of its state is 100", "units"),
        ({"observation__state": "home"}, "str where 5 numbers", "metadata"),
        ({"observation__state": [True, 0, 0, 0, 0]}, "list where 5 numbers", "metadata"),
        ({"observation__state": np.zeros(5, bool)}, "ndarray where 5 numbers", "metadata"),
        ({"prompt": None}, "no instruction", "1 to 1000"),
        ({"prompt": " "}, "no instruction", "1 to 1000"),
        ({"prompt": b"stack"}, "no instruction", "1 to 1000"),
        ({"prompt": "a" * 1001}, "no instruction", "1 to 1000"),
        ({"prompt": "half \ud800"}, "no instruction", "1 to 1000"),
        ({"noise_seed": -1}, "seed is expected", "whole number"),
        ({"noise_seed": 1.5}, "seed is expected", "whole number"),
        ({"noise_seed": True}, "seed is expected", "whole number"),
        ({"noise_seed": 2**63}, "seed is expected", "whole number"),
    ],
)
def test_what_is_wrong_with_an_observation_is_said(changes, what, remedy):
    with pytest.raises(VlawError, match=what) as error:
        read_observation(SPEC, sent(**changes), (64, 64))
    assert remedy in error.value.remedy


def test_a_picture_that_was_padded_to_a_square_is_refused_for_a_wide_camera():
    values = {f"observation/{camera.name}": frame(224, 224) for camera in droid.SPEC.cameras}
    values |= {"observation/state": np.zeros(7), "prompt": "go"}
    with pytest.raises(VlawError, match="224x224 pixels would be squeezed into 192x320") as error:
        read_observation(droid.SPEC, values, (192, 320))
    assert "no resize_with_pad" in error.value.remedy


@pytest.mark.parametrize("robot", [SPEC, droid.SPEC, ARM], ids=lambda robot: robot.name)
def test_every_key_is_described_and_all_of_a_robot_can_be_sent(robot):
    parts = parts_of(robot)
    assert set(described(robot)) == {*parts, "prompt", "noise_seed"}
    assert {part.camera for part in parts.values()} == {None, *range(len(robot.cameras))}
    assert {place for part in parts.values() for place in part.numbers} == set(range(len(robot.state)))
