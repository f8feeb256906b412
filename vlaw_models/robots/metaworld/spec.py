"""Meta-World's Sawyer: the hand is led by a point (a mocap body), and has two fingers.

State and action are commanded places of that point: x, y, z, and the gripper (0 open .. 1 closed). Meta-World moves the
point by up to 1 cm at 80 Hz; a control step here is 8 of its steps. Tasks are those of MT10 but peg-insert-side: led
ten times a second its expert lets the peg slip more often than not.
"""

from __future__ import annotations

from dataclasses import replace

from vlaw_models.robots.spec import EXTERIOR, WRIST, Camera, RobotSpec, Vector

INNER_STEPS = 8
"""Meta-World's own steps in a control step."""
REACH = 0.01
"""Metres that the point moves in one of them."""
_PLACE = Vector(
    names=("x", "y", "z", "gripper"),
    units=("m", "m", "m", ""),
    low=(-0.5, 0.4, 0.05, 0.0),
    high=(0.5, 1.0, 0.5, 1.0),
)

SPEC = RobotSpec(
    name="metaworld",
    cameras=(Camera("corner2", EXTERIOR), Camera("corner", EXTERIOR), Camera("gripperPOV", WRIST)),
    control_hz=80 / INNER_STEPS,
    state=_PLACE,
    action=replace(_PLACE, largest_step=(INNER_STEPS * REACH,) * 3 + (1.0,), as_is=(3,)),
    world="metaworld",
    success="Meta-World's own info['success'], at any of its steps so far",
    tasks=(
        "reach",
        "push",
        "pick-place",
        "door-open",
        "drawer-open",
        "drawer-close",
        "button-press-topdown",
        "window-open",
        "window-close",
    ),
    simulator="vlaw_models.robots.metaworld.simulator:SIMULATOR",
    recorded_as=("sawyer",),
)
