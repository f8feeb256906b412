"""What a robot's spec says, checks and refuses; the registry; that reading specs loads nothing heavy."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from factories import episode
from scratch_package import install

from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.robots.droid import SPEC as DROID
from vlaw_models.robots.registry import ROBOTS, find_robot, importable_robots
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import EXTERIOR, WRIST, Camera, RobotSpec, Vector, wrapped
from vlaw_models.robots.tabletop.spec import SPEC as TABLETOP

FREE = RobotSpec(
    name="free",
    cameras=(Camera("top", EXTERIOR),),
    control_hz=10.0,
    state=Vector(("a", "b"), ("", "")),
    action=Vector(("a", "b", "c"), ("", "", "")),
    world="free",
    success="nobody says",
)


# ---- the controller's limits


def test_clipping_is_that_of_the_embedded_controller_to_the_bit():
    low, high = (np.array(values, np.float32) for values in (TABLETOP.action.low, TABLETOP.action.high))
    largest = np.array(TABLETOP.action.largest_step, np.float32)
    rng = np.random.default_rng(0)
    state = rng.uniform(low, high, (500, 5)).astype(np.float32)
    action = (state + rng.normal(0, 2, (500, 5)) * largest).astype(np.float32)
    expected = np.clip(np.clip(action, state - largest, state + largest), low, high).astype(np.float32)
    assert np.array_equal(TABLETOP.clip(state, action), expected)
    assert TABLETOP.clip(state, action).dtype == np.float32
    assert np.array_equal(TABLETOP.clip(state, state), state)


def test_an_angle_goes_on_at_the_other_end_and_its_step_is_the_short_way():
    state = np.array([[0.5, 0.0, 0.3, 3.1, 0.0, -3.0, 0.2]], np.float32)
    action = state.copy()
    action[0, 3], action[0, 5] = -3.1, 3.0  # .083 and .283 rad away, not 6.2 and 6
    clipped = DROID.clip(state, action)
    assert np.allclose(clipped, action, atol=1e-6)
    action[0, 3] = 3.1 - 1.0
    assert DROID.clip(state, action)[0, 3] == pytest.approx(3.1 - 0.5)
    action[0, 3] = -3.1 + 1.0  # 1.083 rad further: as far as one step goes, over the end
    assert DROID.clip(state, action)[0, 3] == pytest.approx(3.1 + 0.5 - 2 * np.pi, abs=1e-6)


def test_seven_numbers_are_held_within_limits_and_steps():
    rng = np.random.default_rng(1)
    state = np.array([0.8, 0.0, 1.1, 0.0, 0.0, 0.0, 0.9], np.float32)
    for _ in range(200):
        before, state = state, DROID.clip(state, state + rng.normal(0, 1, 7).astype(np.float32))
        assert (np.abs(difference(state, before)) <= np.array(DROID.action.largest_step) + 1e-5).all()
        assert (state >= np.array(DROID.action.low) - 1e-6).all()
        assert (state <= np.array(DROID.action.high) + 1e-6).all()


def difference(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    change = (after - before).astype(np.float64)
    change[list(DROID.action.wraps)] = wrapped(change[list(DROID.action.wraps)])
    return change


def test_a_robot_without_limits_clips_nothing():
    action = np.array([[1e6, -1e6, 3.0]], np.float32)
    assert np.array_equal(FREE.clip(np.zeros((1, 2), np.float32), action), action)


def test_wrapping_leaves_what_is_in_range_as_it_is_to_the_bit():
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, 1000).astype(np.float32)
    assert np.array_equal(wrapped(angles), angles)
    assert np.allclose(wrapped(angles + 2 * np.pi), angles, atol=1e-5)


# ---- is an episode this robot's?


def episode_of(robot: RobotSpec = DROID, **changes) -> Episode:
    height, width = robot.frame_size or (8, 8)
    low, high = robot.state.scale
    states = np.tile((np.array(low) + np.array(high)) / 2, (4, 1)).astype(np.float32)
    made = {
        "success": None,
        "images": np.zeros((4, len(robot.cameras), height // 8, width // 8, 3), np.uint8),
        "states": states,
        "actions": states[1:],
        "cameras": robot.camera_names,
        "control_hz": robot.control_hz,
    }
    return episode(**made | changes)


def put(values: np.ndarray, step: int, place: int, value: float) -> np.ndarray:
    values = values.copy()
    values[step, place] = value
    return values


@pytest.mark.parametrize("robot", [DROID, TABLETOP], ids=lambda robot: robot.name)
def test_an_episode_of_the_robot_is_accepted(robot):
    robot.check_episode(episode_of(robot), where="here")
    robot.check_episode(episode_of(robot, cameras=()), where="views that nobody named")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"control_hz": 15.0}, "its rate is 15 Hz, the robot's is 5 Hz"),
        ({"cameras": ("front", "side", "wrist")}, "its cameras are front, side, wrist"),
        ({"cameras": ("exterior_2", "exterior_1", "wrist")}, "the robot's are exterior_1, exterior_2, wrist"),
        ({"images": np.zeros((4, 2, 24, 40, 3), np.uint8), "cameras": ()}, "its cameras are 2 without names"),
        ({"images": np.zeros((4, 3, 64, 64, 3), np.uint8)}, "64x64 pixels, the robot's are 320x192"),
        ({"images": np.zeros((4, 3, 384, 640, 3), np.uint8)}, "640x384 pixels"),
        ({"states": np.zeros((4, 5), np.float32)}, r"its states are \(4, 5\), the robot's have 7 numbers"),
        ({"actions": np.zeros((3, 8), np.float32)}, r"its actions are \(3, 8\)"),
        ({"states": put(episode_of().states, 2, 0, 1.2)}, "x of its states is 1.2 at step 2, outside -0.855 to 0.855"),
        ({"actions": put(episode_of().actions, 1, 6, 85.0)}, "gripper of its actions is 85 at step 1, outside 0 to 1"),
        ({"actions": put(episode_of().actions, 0, 3, 4.0)}, "roll of its actions is 4 at step 0"),
    ],
)
def test_an_episode_of_another_robot_says_where_what_and_what_to_do(changes, words):
    with pytest.raises(VlawError, match=words) as caught:
        DROID.check_episode(episode_of(**changes), where="file 3")
    assert caught.value.where == "file 3"
    assert "no episode of robot 'droid'" in caught.value.what
    assert "Name the robot" in caught.value.remedy


def test_names_of_numbers_are_compared_where_a_recording_has_them():
    one = episode_of()
    DROID.check_numbers(one.states, one.actions, where="here", state_names=DROID.state.names)
    moved = [f"delta_{name}" for name in DROID.action.names]
    with pytest.raises(VlawError, match=r"its actions are delta_x, .* the robot's are x, y, z, roll"):
        DROID.check_numbers(one.states, one.actions, where="here", action_names=moved)


def test_cameras_by_role_and_frames_of_the_same_shape():
    assert DROID.cameras_of((EXTERIOR, WRIST)) == ("exterior_1", "wrist")
    assert FREE.cameras_of((EXTERIOR, WRIST)) == ("top",)
    assert (DROID.frame_size, TABLETOP.frame_size) == ((192, 320), None)
    assert [DROID.fits_frame(*size) for size in ((192, 320), (48, 80), (64, 64), (384, 640))] == [
        True,
        True,
        False,
        False,
    ]
    assert TABLETOP.fits_frame(7, 11)
    uneven = replace(DROID, cameras=(*DROID.cameras[:2], Camera("wrist", WRIST, 64, 64)))
    with pytest.raises(VlawError, match="cameras of different sizes: 320x192, 64x64"):
        uneven.frame_size  # noqa: B018


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Camera("c", "ceiling"), "role 'ceiling'"),
        (lambda: Camera("c", WRIST, height=3), "size 3 x None"),
        (lambda: Vector((), ()), "0 names"),
        (lambda: Vector(("a",), ("m", "m")), "another number of units"),
        (lambda: Vector(("a",), ("m",), low=(0.0,)), "another number of low"),
        (lambda: replace(FREE, cameras=()), "cameras none"),
        (lambda: replace(FREE, cameras=FREE.cameras * 2), "cameras top, top"),
        (lambda: replace(FREE, control_hz=0.0), "control_hz 0"),
        (lambda: replace(FREE, action=replace(FREE.action, largest_step=(1.0, 1.0, 1.0))), "a largest step"),
        (lambda: FREE.state.scale, "neither the usual range nor the limits of a, b"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(make, words):
    with pytest.raises(VlawError, match=words) as caught:
        make()
    assert caught.value.remedy


def test_tasks_are_checked_where_there_are_any():
    with pytest.raises(VlawError, match="'tabletop' has no task 'juggle'") as caught:
        TABLETOP.check_tasks(["stack", "juggle"])
    assert "stack, book" in caught.value.remedy
    DROID.check_tasks(["anything at all"])


def test_an_identity_is_plain_and_changes_with_what_data_depend_on():
    text = json.dumps(DROID.identity(), allow_nan=False)
    assert json.loads(text) == DROID.identity()
    for other in (
        replace(DROID, name="other"),
        replace(DROID, control_hz=15.0),
        replace(DROID, cameras=DROID.cameras[::-1]),
        replace(DROID, action=replace(DROID.action, largest_step=(9.0,) * 7)),
        replace(DROID, state=replace(DROID.state, low=(-9.0,) * 7)),
    ):
        assert json.dumps(other.identity()) != text
    assert json.dumps(replace(DROID, success="in other words", recorded_as=("arm",)).identity()) == text


# ---- which robots there are


def test_the_shipped_robots_are_found_and_others_listed():
    assert {"droid", "libero", "metaworld", "tabletop"} <= set(ROBOTS.names())
    assert find_robot("droid") is DROID
    with pytest.raises(VlawError, match="there is no robot 'toaster'") as caught:
        find_robot("toaster", where="a recipe")
    assert caught.value.where == "a recipe"
    assert "droid, droid_joint_position, droid_joint_velocity, libero, metaworld, tabletop" in caught.value.remedy


ARM = """
from dataclasses import replace
from vlaw_models.robots.droid import SPEC
ARM = replace(SPEC, name="own_arm", simulator="own_arm_simulator:SIMULATOR")
"""


def test_a_robot_of_a_package_is_found_and_a_broken_one_is_named(tmp_path, monkeypatch, caplog):
    install(tmp_path, "own", {"own_arm.py": ARM}, {ROBOTS.group: {"own_arm": "own_arm:ARM", "misnamed": "own_arm:ARM"}})
    install(tmp_path, "torn", {"torn_arm.py": "import no_such_package\n"}, {ROBOTS.group: {"torn": "torn_arm:ARM"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_robot("own_arm").cameras == DROID.cameras
    with pytest.raises(VlawError, match=r"own_arm:ARM is not the RobotSpec of a robot called 'misnamed'"):
        find_robot("misnamed")
    with pytest.raises(VlawError, match="the robot 'torn' of package torn cannot be imported"):
        find_robot("torn")
    with caplog.at_level(logging.WARNING, "vlaw"):
        assert {"droid", "own_arm", "tabletop"} <= {robot.name for robot in importable_robots()}
    assert "robot torn is left out" in caplog.text
    with pytest.raises(VlawError, match="the simulator of robot 'own_arm' cannot be loaded: No module named"):
        simulator_of(find_robot("own_arm"), needed_by="a test", remedy="none")


def test_what_needs_a_simulator_names_itself_and_the_robot():
    with pytest.raises(VlawError, match="imagined_outcomes needs a simulator; robot 'droid' has none") as caught:
        simulator_of(DROID, needed_by="imagined_outcomes", remedy="Set [score] labels = 'judge'.")
    assert caught.value.remedy == "Set [score] labels = 'judge'."
    assert simulator_of(TABLETOP, needed_by="a test", remedy="none").renderer() == "ray"


def test_reading_specs_and_asking_for_the_renderer_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from vlaw_models.robots.registry import find_robot\n"
        "from vlaw_models.robots.simulator import simulator_of\n"
        "robots = [find_robot(name) for name in ('tabletop', 'droid')]\n"
        "simulator_of(robots[0], needed_by='x', remedy='x').renderer()\n"
        "print([name for name in ('torch', 'mujoco', 'numpy', 'gymnasium') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
