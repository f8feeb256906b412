"""What a robot sends to be told what to do, as one flat dictionary, and the observation of a policy that it is.

A robot's names say which keys it may use: those of its cameras and of its state's numbers, and what openpi's clients
call them.

    observation/<camera>                        a picture of the camera of that name
    observation/exterior_image_<k>_left         the k-th exterior camera (openpi's DROID)
    observation/wrist_image_left                the first camera at the wrist (openpi's DROID)
    observation/state                           all numbers of the state, in their order
    observation/<name>                          one number of the state
    observation/cartesian_position              its position and orientation
    observation/joint_position                  its joints; taken and not read where the state has none
    observation/gripper_position                its gripper
    prompt                                      the instruction
    noise_seed                                  optional: the seed of this request's noise
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vlaw_models.errors import VlawError
from vlaw_models.plain_text import is_text
from vlaw_models.robots.frames import keeps_shape, shrink
from vlaw_models.robots.spec import EXTERIOR, WRIST, RobotSpec, wrong_numbers

if TYPE_CHECKING:
    import numpy as np

PREFIX = "observation/"
PROMPT, SEED = "prompt", "noise_seed"
CARTESIAN = ("x", "y", "z", "roll", "pitch", "yaw")
SIDES = range(16, 4097)
"""Pixels that a side of a picture may have."""
LONGEST = 1000
"""Letters of an instruction."""
_REMEDY = "Send what the server's metadata lists under 'observation'."


@dataclass(frozen=True)
class Part:
    """What one key holds."""

    camera: int | None = None
    """Index of the camera whose picture it is."""
    numbers: tuple[int, ...] = ()
    """Which numbers of the state it holds, in this order. A part with neither is taken and not read."""


class Asked(NamedTuple):
    """One observation, as `Observation` stacks it."""

    images: np.ndarray
    """(V, height, width, 3) uint8."""
    state: np.ndarray
    """(D,) float32."""
    prompt: str
    seed: int | None


def parts_of(robot: RobotSpec) -> dict[str, Part]:
    """Key -> what it holds; every key that this robot may send but prompt and noise_seed."""
    found: dict[str, Part] = {}

    def add(name: str, part: Part) -> None:
        found.setdefault(PREFIX + name, part)

    names = robot.state.names
    for index, camera in enumerate(robot.cameras):
        add(camera.name, Part(camera=index))
    of_role = {role: [i for i, c in enumerate(robot.cameras) if c.role == role] for role in (EXTERIOR, WRIST)}
    for number, index in enumerate(of_role[EXTERIOR], 1):
        add(f"exterior_image_{number}_left", Part(camera=index))
    for index in of_role[WRIST][:1]:
        add("wrist_image_left", Part(camera=index))
    add("state", Part(numbers=tuple(range(len(names)))))
    groups = {
        "cartesian_position": [i for i, name in enumerate(names) if name in CARTESIAN],
        "joint_position": [i for i, name in enumerate(names) if name.startswith("joint")],
        "gripper_position": [i for i, name in enumerate(names) if name.startswith("gripper")],
    }
    for name, places in groups.items():
        if places or name == "joint_position":
            add(name, Part(numbers=tuple(places)))
    for index, name in enumerate(names):
        add(name, Part(numbers=(index,)))
    return found


def described(robot: RobotSpec) -> dict[str, str]:
    """`parts_of` in words, for clients: key -> what to send under it."""
    text = {}
    for key, part in parts_of(robot).items():
        if part.camera is not None:
            text[key] = f"camera {robot.cameras[part.camera].name}: picture (height, width, 3) uint8"
        elif part.numbers:
            units = [robot.state.units[i] for i in part.numbers]
            listed = (f"{robot.state.names[i]} {unit}".strip() for i, unit in zip(part.numbers, units, strict=True))
            text[key] = f"{len(part.numbers)} of the state: {', '.join(listed)}"
        else:
            text[key] = "taken and not read: the state has no such numbers"
    return {**text, PROMPT: "the instruction, a text", SEED: "optional: a whole number, the seed of the noise"}


def read_observation(robot: RobotSpec, sent: Mapping[str, Any], size: tuple[int, int]) -> Asked:
    """What a robot sent, checked, its pictures resized to `size` (height, width) as an import resizes them.

    Raises VlawError, naming the key and what is expected, for anything missing, unknown, sent twice, of another shape
    or type, not finite, or outside the limits of the robot.
    """
    import numpy as np

    known = parts_of(robot)
    unknown = sorted(str(key) for key in sent if key not in known and key not in (PROMPT, SEED))
    if unknown:
        raise _refused(
            f"unknown key {unknown[0][:80]!r}", "observation", f"Send some of: {', '.join(known)}, {PROMPT}."
        )
    pictures: dict[int, str] = {}
    numbers: dict[int, str] = {}
    state = np.zeros(len(robot.state), np.float32)
    for key, part in known.items():
        if key not in sent:
            continue
        if part.camera is not None:
            _once(pictures, part.camera, key, f"camera {robot.cameras[part.camera].name}")
        elif part.numbers:
            values = _numbers(key, sent[key], len(part.numbers))
            for place, value in zip(part.numbers, values, strict=True):
                _once(numbers, place, key, f"{robot.state.names[place]} of the state")
                state[place] = value
    _complete(robot, known, pictures, numbers)
    wrong = wrong_numbers("state", state[None], robot.state, None)
    if wrong:
        raise _refused(wrong, f"observation of robot {robot.name!r}", "Check units, frame and order of the numbers.")
    images = [_picture(pictures[i], sent[pictures[i]], size) for i in range(len(robot.cameras))]
    return Asked(np.stack(images), state, _prompt(sent.get(PROMPT)), _seed(sent.get(SEED)))


def _once(found: dict[int, str], place: int, key: str, what: str) -> None:
    if place in found:
        raise _refused(f"{what} was sent twice", f"{found[place]} and {key}", "Send it under one of the two keys.")
    found[place] = key


def _complete(
    robot: RobotSpec, known: Mapping[str, Part], pictures: Mapping[int, str], numbers: Mapping[int, str]
) -> None:
    """Raises VlawError for a camera or a number of the state that was not sent, naming the keys it may have."""
    for index, camera in enumerate(robot.cameras):
        if index not in pictures:
            keys = [key for key, part in known.items() if part.camera == index]
            raise _refused(f"no picture of camera {camera.name}", "observation", f"Send it as {' or '.join(keys)}.")
    missing = [index for index in range(len(robot.state)) if index not in numbers]
    if missing:
        keys = [key for key, part in known.items() if set(missing) <= set(part.numbers)]
        listed = ", ".join(robot.state.names[index] for index in missing)
        if keys:
            raise _refused(f"no {listed} of the state", "observation", f"Send it as {' or '.join(keys)}.")
        keys = [key for key, part in known.items() if part.numbers]
        raise _refused(f"no {listed} of the state", "observation", f"Send all of the state by {', '.join(keys)}.")


def _numbers(key: str, value: Any, count: int) -> np.ndarray:
    """(count,) float32."""
    import numpy as np

    single = isinstance(value, int | float) and not isinstance(value, bool)
    plain = isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    if not (single or plain or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiu")):
        raise _refused(f"{_kind(value)} where {count} numbers are expected", key, _REMEDY)
    with np.errstate(over="ignore"):  # too large is infinite, which is refused
        found = np.asarray(value, np.float64).astype(np.float32)
    if found.shape != (count,) and not (count == 1 and found.shape == ()):
        raise _refused(f"numbers of shape {found.shape} where ({count},) is expected", key, _REMEDY)
    if not np.isfinite(found).all():
        raise _refused("a number that is not finite", key, "Send it once the robot knows it.")
    return found.reshape(count)


def _picture(key: str, value: Any, size: tuple[int, int]) -> np.ndarray:
    """(*size, 3) uint8."""
    import numpy as np
    from PIL import Image

    if not isinstance(value, np.ndarray):
        raise _refused(f"{_kind(value)} where a picture is expected", key, "Send (height, width, 3) uint8.")
    if value.dtype != np.uint8:
        raise _refused(
            f"a picture of {value.dtype}",
            key,
            "Send uint8, 0 to 255; openpi_client.image_tools.convert_to_uint8 turns floats of 0 to 1 into it.",
        )
    if value.ndim != 3 or value.shape[2] != 3:
        first = value.ndim == 3 and value.shape[0] == 3
        raise _refused(
            f"a picture of shape {value.shape}{': channels come last' if first else ''}",
            key,
            f"Send (height, width, 3){': numpy.moveaxis(picture, 0, -1)' if first else ', red, green, blue'}.",
        )
    height, width = value.shape[:2]
    if height not in SIDES or width not in SIDES:
        raise _refused(
            f"a picture of {height}x{width} pixels", key, f"Send {SIDES[0]} to {SIDES[-1]} pixels on each side."
        )
    if not keeps_shape((height, width), size):
        raise _refused(
            f"a picture of {height}x{width} pixels would be squeezed into {size[0]}x{size[1]}",
            key,
            "Send the camera's own picture, without bars (no resize_with_pad): the server resizes it.",
        )
    return value if (height, width) == size else shrink(Image.fromarray(value), size)


def _prompt(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST or not is_text(value):
        what = "no instruction" if value is None or value == "" else "what is no instruction"
        raise _refused(what, PROMPT, f"Send it as a text of 1 to {LONGEST} letters.")
    return value


def _seed(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise _refused(f"{_kind(value)} where a seed is expected", SEED, "Send a whole number, 0 to 2**63 - 1.")
    return value


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def _refused(what: str, where: str, remedy: str) -> VlawError:
    return VlawError(what, where=where, remedy=remedy)
