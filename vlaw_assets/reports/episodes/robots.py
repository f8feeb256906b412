"""Which robot an artifact's episodes are of, and what its numbers are called."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef
    from vlaw_models.robots.spec import RobotSpec, Vector


def robot_of(ref: ArtifactRef, world: str) -> RobotSpec | None:
    """The spec of the robot that the artifact's recipe names, else of the one whose real episodes are of this world;
    None where neither is installed."""
    from vlaw_models.robots.registry import find_robot, importable_robots

    name = _recorded(ref).get("name")
    try:
        if name:
            return find_robot(str(name))
    except VlawError:
        return None
    return next((robot for robot in importable_robots() if robot.world == world), None)


def numbers_of(robot: RobotSpec | None, ref: ArtifactRef, which: str, count: int) -> list[list[str]]:
    """[name, unit] of each of the `count` numbers of a 'state' or an 'action'; plain numbers where nobody named
    them."""
    if robot is not None:
        vector: Vector = robot.state if which == "state" else robot.action
        if len(vector) == count:
            return [[name, unit] for name, unit in zip(vector.names, vector.units, strict=True)]
    named = (_recorded(ref).get(which) or {}).get("names") or []
    return [[str(name), ""] for name in named] if len(named) == count else [[f"number {i}", ""] for i in range(count)]


def _recorded(ref: ArtifactRef) -> dict[str, Any]:
    """What the recipe says of the robot (`RobotSpec.identity`)."""
    try:
        found = json.loads(ref.recipe_json).get("robot")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {"name": found} if isinstance(found, str) else {}
