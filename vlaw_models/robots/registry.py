"""The robots that there are, by name: those shipped here, and those of installed packages (entry points)."""

from __future__ import annotations

import logging
from functools import cache

from vlaw_models.errors import VlawError
from vlaw_models.registry import Registry
from vlaw_models.robots.spec import RobotSpec

ROBOTS = Registry(
    "robot",
    "vlaw.robots",
    {
        "tabletop": "vlaw_models.robots.tabletop.spec:SPEC",
        "droid": "vlaw_models.robots.droid:SPEC",
        "droid_joint_velocity": "vlaw_models.robots.droid:IN_JOINT_VELOCITY",
        "droid_joint_position": "vlaw_models.robots.droid:IN_JOINT_POSITION",
        "metaworld": "vlaw_models.robots.metaworld.spec:SPEC",
        "libero": "vlaw_models.robots.libero.spec:SPEC",
    },
)
"""Name -> its RobotSpec."""
DEFAULT = "tabletop"
"""The robot of a recipe that names none; the shipped weights are for it."""


@cache
def find_robot(name: str, *, where: str = "robot") -> RobotSpec:
    """The robot of that name. Raises VlawError for one that is unknown, of two packages, or no RobotSpec of that
    name."""
    robot = ROBOTS.load(name, where=where)
    if not isinstance(robot, RobotSpec) or robot.name != name:
        raise VlawError(
            f"{ROBOTS.entry(name, where=where).target} is not the RobotSpec of a robot called {name!r}",
            where=where,
            remedy="Let the entry point name a RobotSpec, and give both the same name.",
        )
    return robot


def importable_robots() -> list[RobotSpec]:
    """All robots, by name; one whose package is broken is named in the log, and the rest goes on."""
    found = []
    for name in ROBOTS.names():
        try:
            found.append(find_robot(name))
        except VlawError as error:
            logging.getLogger("vlaw").warning("robot %s is left out: %s", name, error)
    return found
