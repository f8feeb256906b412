"""The Franka arm of DROID, as Ctrl-World lays its recordings out: 5 Hz, three cameras of 192 x 320, seven numbers.

Poses are of the flange in the frame of the arm's base. Limits are the arm's data sheet: reach .855 m about the
shoulder, which stands .333 m high, 1.7 m/s and 2.5 rad/s; the gripper (Robotiq 2F-85) closes 85 mm at 150 mm/s. The
usual range is the 1 % and 99 % quantiles that Ctrl-World scales poses by.

`droid` is commanded in poses, once per control step. `droid_joint_velocity` and `droid_joint_position` are the same arm
commanded in its joints at 15 Hz, three times per control step, as pi0.5's DROID policies are; their state is the
joints. Their world models are conditioned in the poses of `droid`, and are the same (franka.py).
"""

from __future__ import annotations

import math
from dataclasses import replace

from vlaw_models.robots.franka import JOINT_HIGH, JOINT_LOW, JOINTS, FrankaMotion
from vlaw_models.robots.spaces import JOINT_POSITION, JOINT_VELOCITY, ActionSpace
from vlaw_models.robots.spec import EXTERIOR, ROLL_PITCH_YAW, WRIST, Camera, RobotSpec, Vector

_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
_UNITS = ("m", "m", "m", "rad", "rad", "rad", "")
_LOW = (-0.855, -0.855, -0.36, -math.pi, -math.pi, -math.pi, 0.0)
_HIGH = (0.855, 0.855, 1.19, math.pi, math.pi, math.pi, 1.0)
_USUAL_LOW = (0.26767, -0.44172, -0.04278, -3.13737, -1.21439, -2.11582, 0.0)
_USUAL_HIGH = (0.78105, 0.43667, 0.78440, 3.13747, 0.90391, 1.99158, 0.99119)
_POSE = Vector(
    names=_NAMES,
    units=_UNITS,
    low=_LOW,
    high=_HIGH,
    orientation=ROLL_PITCH_YAW,
    wraps=(3, 4, 5),
    usual_low=_USUAL_LOW,
    usual_high=_USUAL_HIGH,
)

SPEC = RobotSpec(
    name="droid",
    cameras=(
        Camera("exterior_1", EXTERIOR, 192, 320),
        Camera("exterior_2", EXTERIOR, 192, 320),
        Camera("wrist", WRIST, 192, 320),
    ),
    control_hz=5.0,
    state=_POSE,
    action=replace(_POSE, largest_step=(0.34, 0.34, 0.34, 0.5, 0.5, 0.5, 0.35), as_is=(6,)),
    world="droid",
    success="the person who recorded an episode says whether its instruction was carried out",
    recorded_as=("panda", "franka", "franka_panda", "fr3"),
)

_COMMAND_HZ, _PER_STEP = 15.0, 3
_JOINTS = tuple(f"joint_{number}" for number in range(1, JOINTS + 1))
_ANGLES = Vector(
    names=(*_JOINTS, "gripper"),
    units=(*("rad",) * JOINTS, ""),
    low=(*JOINT_LOW, 0.0),
    high=(*JOINT_HIGH, 1.0),
    as_is=(JOINTS,),
)
_VELOCITIES = Vector(
    names=(*(f"{name}_velocity" for name in _JOINTS), "gripper"),
    units=("",) * (JOINTS + 1),
    low=(*(-1.0,) * JOINTS, 0.0),
    high=(1.0,) * (JOINTS + 1),
    as_is=tuple(range(JOINTS + 1)),
)


def _in_joints(kind: str, command: Vector) -> RobotSpec:
    name = f"droid_{kind.replace(' ', '_')}"
    return replace(
        SPEC,
        name=name,
        world=name,
        state=replace(_ANGLES, as_is=()),
        action=command.repeated(_PER_STEP),
        recorded_as=(),
        commands=ActionSpace(kind, _COMMAND_HZ, command.names),
        pose=_POSE,
        motion=FrankaMotion(kind, _PER_STEP, gripper_step=SPEC.action.largest_step[-1] / _PER_STEP),
    )


IN_JOINT_VELOCITY = _in_joints(JOINT_VELOCITY, _VELOCITIES)
IN_JOINT_POSITION = _in_joints(JOINT_POSITION, _ANGLES)
