"""Which of a recording's videos is which of the robot's cameras, and whether their pictures fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlaw_models.errors import VlawError
from vlaw_models.robots.frames import keeps_shape
from vlaw_models.robots.spec import EXTERIOR, WRIST, RobotSpec

WRIST_WORDS = ("wrist", "hand", "gripper")
DEPTH_WORD = "depth"


def choose_cameras(
    pictures: Sequence[str], robot: RobotSpec, cameras: Mapping[str, str], *, where: str, depth: Sequence[str] = ()
) -> dict[str, str]:
    """{the robot's camera: feature key}, as `cameras` says.

    Where that is empty: features named like the cameras, else by role, those whose names speak of a wrist or hand and
    the others, each in alphabetical order. Raises VlawError where that is not clear.

    Args:
        pictures: keys of the features that hold colours.
        depth: of those that hold depth: never a camera.
    """
    known, wanted = sorted(pictures), robot.camera_names
    listed = ", ".join(known) or "none"
    if depth:
        listed += f" (and depth, which is none: {', '.join(sorted(depth))})"
    if cameras:
        if set(cameras) != set(wanted):
            unknown = sorted(set(cameras) - set(wanted))
            what = f"has no camera {unknown[0]!r}" if unknown else f"has more cameras than {', '.join(cameras)}"
            raise VlawError(f"robot {robot.name!r} {what}", where=where, remedy=_mapping(wanted, listed))
        missing = sorted(set(cameras.values()) - set(known))
        if missing:
            raise VlawError(
                f"the dataset has no video of camera {missing[0]!r}",
                where=where,
                remedy=f"Choose from its cameras: {listed}.",
            )
        return {name: cameras[name] for name in wanted}
    # A feature whose name alone speaks of depth is one only by a person's word.
    clear = [key for key in known if DEPTH_WORD not in _last(key).lower()]
    named = {name: [key for key in clear if _last(key) in (name, f"{name}_left")] for name in wanted}
    if all(len(keys) == 1 for keys in named.values()):
        return {name: keys[0] for name, keys in named.items()}
    at_wrist = [key for key in clear if any(word in _last(key).lower() for word in WRIST_WORDS)]
    found = {WRIST: at_wrist, EXTERIOR: [key for key in clear if key not in at_wrist]}
    of_role = {role: [camera.name for camera in robot.cameras if camera.role == role] for role in found}
    if any(len(found[role]) != len(of_role[role]) for role in found):
        raise VlawError(
            f"robot {robot.name!r} has {len(of_role[EXTERIOR])} exterior cameras and {len(of_role[WRIST])} at the "
            f"wrist; the dataset's videos are: {listed}",
            where=where,
            remedy=_mapping(wanted, listed),
        )
    key_of = {name: key for role in found for name, key in zip(of_role[role], found[role], strict=True)}
    return {name: key_of[name] for name in wanted}


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _mapping(wanted: Sequence[str], listed: str) -> str:
    return (
        f"Say which is which: --camera NAME=FEATURE for each of {', '.join(wanted)}; one feature may serve for "
        f"several. The dataset has: {listed}."
    )


def check_shape(robot: RobotSpec, recorded: tuple[int, int], *, where: str) -> None:
    """VlawError for recorded frames (height, width) of another shape than those of the robot's cameras."""
    if robot.frame_size is None:
        return
    full, (height, width) = robot.frame_size, recorded
    if not keeps_shape(recorded, full):
        raise VlawError(
            f"the recorded frames are {height}x{width} pixels, those of robot {robot.name!r} are {full[0]}x{full[1]}: "
            "they would be squeezed",
            where=where,
            remedy="Name the robot that it was recorded on, crop the videos, or describe your robot: one file with a "
            "RobotSpec.",
        )
