"""LIBERO's Franka: state and action are commanded poses of the hand in the world, and the gripper (0 open .. 1 closed).

A task is a suite; a start's seed says which of its ten instructions, and the layout. LIBERO steps at 20 Hz by up to
5 cm and .5 rad; a control step here is 4 of its steps.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vlaw_models.robots.spec import EXTERIOR, WRIST, Camera, RobotSpec, Vector

INNER_STEPS = 4
"""LIBERO's own steps in a control step."""
_POSE = Vector(
    names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    units=("m", "m", "m", "rad", "rad", "rad", ""),
    low=(-1.0, -1.0, -0.1, -math.pi, -math.pi, -math.pi, 0.0),
    high=(1.0, 1.0, 2.0, math.pi, math.pi, math.pi, 1.0),
    orientation="roll pitch yaw",
    wraps=(3, 4, 5),
)

SPEC = RobotSpec(
    name="libero",
    cameras=(Camera("agentview", EXTERIOR), Camera("robot0_eye_in_hand", WRIST)),
    control_hz=20 / INNER_STEPS,
    state=_POSE,
    action=replace(_POSE, largest_step=(0.05 * INNER_STEPS,) * 3 + (0.5 * INNER_STEPS,) * 3 + (1.0,), as_is=(6,)),
    world="libero",
    success="LIBERO's own goal predicates, at any of its steps so far",
    tasks=("libero_spatial", "libero_object", "libero_goal", "libero_10"),
    simulator="vlaw_models.robots.libero.simulator:SIMULATOR",
)
