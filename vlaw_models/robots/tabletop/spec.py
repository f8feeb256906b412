"""The embedded robot: a Cartesian gripper above a table, five tasks, a simulator.

State and action are commanded poses of the pinch point: x, y, z, the pitch of the hand, the gripper (0 open .. 1
closed). A test compares the cameras' calibration with the simulator's.
"""

from __future__ import annotations

from dataclasses import replace

from vlaw_models.robots.spec import EXTERIOR, WRIST, Camera, Pinhole, RobotSpec, Vector

_POSE = Vector(
    names=("x", "y", "z", "pitch", "gripper"),
    units=("m", "m", "m", "rad", ""),
    low=(-0.20, -0.20, 0.0, -1.8, 0.0),
    high=(0.20, 0.20, 0.26, 1.8, 1.0),
    orientation="pitch",
)

SPEC = RobotSpec(
    name="tabletop",
    cameras=(
        Camera(
            "exterior_1",
            EXTERIOR,
            pinhole=Pinhole((0.44, 0.0, 0.56), (0.0, 1.0, 0.0), (-0.7837, 0.0, 0.6211), 0.334595),
        ),
        Camera(
            "exterior_2",
            EXTERIOR,
            pinhole=Pinhole((0.0, -0.44, 0.56), (1.0, 0.0, 0.0), (0.0, 0.7837, 0.6211), 0.334595),
        ),
        Camera(
            "wrist",
            WRIST,
            pinhole=Pinhole((0.085, 0.0, 0.10), (0.0, 1.0, 0.0), (-0.866, 0.0, 0.5), 0.726543, on_hand=True),
        ),
    ),
    control_hz=5.0,
    state=_POSE,
    action=replace(_POSE, largest_step=(0.05, 0.05, 0.05, 0.5, 1.0), as_is=(4,)),
    world="tabletop",
    success="the simulator says whether the task stands accomplished at the last step, by the paper's criterion",
    tasks=("stack", "book", "erase", "scoop", "draw"),
    simulator="vlaw_models.robots.tabletop.simulator:SIMULATOR",
)
