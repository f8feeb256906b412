"""What is particular about a robot, as plain values: cameras, rate, state and action, tasks, what can simulate it.

Everything else asks a spec: nothing outside `robots/` knows the name of a camera, a rate or a limit. numpy is imported
inside functions: recipes read specs, and load quickly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.episodes import Episode

EXTERIOR, WRIST = "exterior", "wrist"
ROLES = (EXTERIOR, WRIST)
TOLERANCE = 1e-3
"""By how much a recorded number may lie outside a limit, in its own unit: recorders round."""


@dataclass(frozen=True)
class Pinhole:
    """Calibration of a camera with square pixels; it looks along its negative z axis, as MuJoCo's cameras do."""

    position: tuple[float, float, float]
    """In the world, or in the hand's frame where `on_hand`; metres."""
    right: tuple[float, float, float]
    up: tuple[float, float, float]
    half: float
    """Tangent of half the field of view."""
    on_hand: bool = False


@dataclass(frozen=True)
class Camera:
    """One of a robot's cameras."""

    name: str
    role: str
    """'exterior' or 'wrist'."""
    height: int | None = None
    """Pixels of a recorded frame; episodes may be stored smaller, in the same shape. None, of both sides: any size."""
    width: int | None = None
    pinhole: Pinhole | None = None
    """Where it is, if that is known."""

    def __post_init__(self) -> None:
        if self.role not in ROLES or (self.height is None) != (self.width is None):
            raise VlawError(
                f"role {self.role!r}, size {self.height} x {self.width}",
                where=f"camera {self.name!r}",
                remedy=f"Use one of the roles {', '.join(ROLES)}, and give both sides of a frame or neither.",
            )


@dataclass(frozen=True)
class Vector:
    """The numbers that a state or an action consists of, in their order."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    """'m', 'rad', or '' for a share."""
    low: tuple[float, ...] = ()
    """What each number may be, with `high`; empty: anything."""
    high: tuple[float, ...] = ()
    largest_step: tuple[float, ...] = ()
    """Of an action: by how much each number may differ from the state in one control step; empty: by any amount."""
    orientation: str = ""
    """How it is written: 'pitch' (one angle about y), 'roll pitch yaw' (about the fixed axes x, y, z), or '' for
    none."""
    wraps: tuple[int, ...] = ()
    """Which numbers are angles in [-pi, pi] that go on at the other end."""
    as_is: tuple[int, ...] = ()
    """Which numbers of an action policies learn as they are, and not relative to the state (a gripper)."""
    usual_low: tuple[float, ...] = ()
    """Between this and `usual_high` lie nearly all that occur: what models scale by. Empty: the limits."""
    usual_high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        columns = ("units", "low", "high", "largest_step", "usual_low", "usual_high")
        wrong = [column for column in columns if len(getattr(self, column)) not in (0, len(self.names))]
        ends = (("low", "high"), ("usual_low", "usual_high"))
        wrong += [low for low, high in ends if bool(getattr(self, low)) != bool(getattr(self, high))]
        if wrong or not self.names:
            raise VlawError(
                f"{len(self.names)} names, and another number of {wrong[0] if wrong else 'values'}",
                where=f"vector of {', '.join(self.names) or 'nothing'}",
                remedy="Give one value for every name, and a low for every high.",
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(low, high) that models scale by. VlawError where neither the usual range nor limits are known."""
        low, high = (self.usual_low, self.usual_high) if self.usual_low else (self.low, self.high)
        if not low:
            raise VlawError(
                f"neither the usual range nor the limits of {', '.join(self.names)} are known",
                where="robot spec",
                remedy="Give usual_low and usual_high, e.g. the 1 % and 99 % quantiles of recordings.",
            )
        return low, high


@dataclass(frozen=True)
class RobotSpec:
    """Everything that is particular about one robot. A frozen value: `dataclasses.replace` makes a variant."""

    name: str
    cameras: tuple[Camera, ...]
    """In the order in which images are stacked: (V, height, width, 3)."""
    control_hz: float
    state: Vector
    action: Vector
    """Absolute targets of what `state` has: what an action commands is the next state."""
    world: str
    """The world that its real episodes are recorded as of."""
    success: str
    """What success is, in words, and who says so."""
    tasks: tuple[str, ...] = ()
    """Its task categories; empty: it is given any instruction."""
    simulator: str = ""
    """ "module:attribute" of the `Simulator` that it has; empty: recordings are its only source of episodes."""
    recorded_as: tuple[str, ...] = ()
    """What recordings call it (the `robot_type` of a LeRobot dataset), besides its name."""

    def __post_init__(self) -> None:
        names = self.camera_names
        if not names or len(set(names)) != len(names) or not self.control_hz > 0:
            raise VlawError(
                f"cameras {', '.join(names) or 'none'}, control_hz {self.control_hz}",
                where=f"robot {self.name!r}",
                remedy="Give at least one camera, each with a name of its own, and a rate above 0.",
            )
        if self.action.largest_step and self.action.names != self.state.names:
            raise VlawError(
                "a largest step is a difference from the state, which has other numbers than the action",
                where=f"robot {self.name!r}",
                remedy="Leave largest_step out, or give action and state the same names.",
            )

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    def cameras_of(self, roles: Sequence[str]) -> tuple[str, ...]:
        """The first camera of each role, in that order; a role that no camera has is left out."""
        found = [next((camera.name for camera in self.cameras if camera.role == role), None) for role in roles]
        return tuple(name for name in found if name is not None)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(height, width) of a frame; None where it may be any. VlawError where the cameras differ."""
        sizes = {(camera.height, camera.width) for camera in self.cameras}
        if len(sizes) > 1:
            listed = ", ".join(f"{width}x{height}" for height, width in sorted(sizes, key=str))
            raise VlawError(
                f"cameras of different sizes: {listed}",
                where=f"robot {self.name!r}",
                remedy="Give all cameras one size: images are one array (V, height, width, 3).",
            )
        height, width = sizes.pop()
        return None if height is None or width is None else (height, width)

    def clip(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """The target that the controller accepts from `state`; both (..., A), returns (..., A) float32.

        The robot and a world model clip with this same function, so an imagined state is what the robot would have had.
        """
        import numpy as np

        low, high, largest, wraps = self._limits
        target = np.asarray(action)
        if wraps:
            # The nearest of the equal angles: a step across the end is a small one.
            target = target.astype(np.float32)
            target[..., wraps] = state[..., wraps] + wrapped(target[..., wraps] - state[..., wraps])
        if largest is not None:
            target = np.clip(target, state - largest, state + largest)
        if wraps:
            target[..., wraps] = wrapped(target[..., wraps])
        return (target if low is None else np.clip(target, low, high)).astype(np.float32)

    @cached_property
    def _limits(self) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, list[int]]:
        import numpy as np

        low, high, largest = (
            np.array(values, dtype=np.float32) if values else None
            for values in (self.action.low, self.action.high, self.action.largest_step)
        )
        return low, high, largest, list(self.action.wraps)

    def check_tasks(self, tasks: Sequence[str], *, where: str = "tasks") -> None:
        """Raises VlawError for a task that the robot does not have."""
        unknown = [task for task in tasks if self.tasks and task not in self.tasks]
        if unknown:
            raise VlawError(
                f"robot {self.name!r} has no task {unknown[0]!r}",
                where=where,
                remedy=f"choose from {', '.join(self.tasks)}",
            )

    def fits_frame(self, height: int, width: int) -> bool:
        """Whether frames may have this size: the cameras' own, or smaller in the same shape."""
        if self.frame_size is None:
            return True
        full_height, full_width = self.frame_size
        return height * full_width == width * full_height and height <= full_height

    def check_episode(self, episode: Episode, *, where: str, control_hz: float | None = None) -> None:
        """Raises VlawError, saying where, what and what to do, for an episode that is not of this robot: other cameras
        or frames, another rate, other numbers, or some outside the limits.

        `control_hz`: the rate, where it is not the episode's own.
        """
        views, (height, width) = episode.images.shape[1], episode.images.shape[2:4]
        rate = episode.control_hz if control_hz is None else control_hz
        wrong = ""
        if views != len(self.cameras) or (episode.cameras and tuple(episode.cameras) != self.camera_names):
            named = ", ".join(episode.cameras) or f"{views} without names"
            wrong = f"its cameras are {named}, the robot's are {', '.join(self.camera_names)}"
        elif self.frame_size is not None and not self.fits_frame(height, width):
            full_height, full_width = self.frame_size
            wrong = f"its frames are {width}x{height} pixels, the robot's are {full_width}x{full_height}"
        elif abs(rate - self.control_hz) > TOLERANCE:
            wrong = f"its rate is {rate:g} Hz, the robot's is {self.control_hz:g} Hz"
        if wrong:
            raise self._foreign(wrong, where)
        self.check_numbers(episode.states, episode.actions, where=where)

    def check_numbers(
        self,
        states: np.ndarray,
        actions: np.ndarray,
        *,
        where: str,
        state_names: Sequence[str] | None = None,
        action_names: Sequence[str] | None = None,
    ) -> None:
        """`check_episode` of states (T, D) and actions (T, A) alone, and of their names where the recording has any."""
        wrong = wrong_numbers("states", states, self.state, state_names) or wrong_numbers(
            "actions", actions, self.action, action_names
        )
        if wrong:
            raise self._foreign(wrong, where)

    def _foreign(self, what: str, where: str) -> VlawError:
        return VlawError(
            f"this is no episode of robot {self.name!r}: {what}",
            where=where,
            remedy="Name the robot that it was recorded on, mend the recording, or describe your robot: one file with "
            "a RobotSpec.",
        )

    def identity(self) -> dict[str, Any]:
        """All of it that data made with this robot depend on, as plain values: part of an artifact's identity."""
        vectors = {
            which: {
                key: list(getattr(vector, key)) for key in ("names", "low", "high", "largest_step", "wraps", "as_is")
            }
            for which, vector in (("state", self.state), ("action", self.action))
        }
        cameras = [[camera.name, camera.height, camera.width] for camera in self.cameras]
        return {"name": self.name, "control_hz": self.control_hz, "cameras": cameras, **vectors}


def wrapped(angles: np.ndarray) -> np.ndarray:
    """Angles as the equal ones in [-pi, pi]; those that are there already stay as they are, to the bit."""
    import numpy as np

    return angles - 2 * np.pi * np.round(angles / (2 * np.pi))


def wrong_numbers(what: str, values: np.ndarray, vector: Vector, names: Sequence[str] | None) -> str:
    """What is wrong with states or actions (T, D); '' where nothing is."""
    import numpy as np

    if values.ndim != 2 or values.shape[1] != len(vector):
        return f"its {what} are {values.shape}, the robot's have {len(vector)} numbers: {', '.join(vector.names)}"
    if names is not None and tuple(names) != vector.names:
        return f"its {what} are {', '.join(names)}, the robot's are {', '.join(vector.names)}"
    if not vector.low:
        return ""
    outside = (values < np.array(vector.low) - TOLERANCE) | (values > np.array(vector.high) + TOLERANCE)
    if not outside.any():
        return ""
    step, place = (int(index) for index in np.argwhere(outside)[0])
    name, low, high = vector.names[place], vector.low[place], vector.high[place]
    return f"{name} of its {what} is {values[step, place]:.4g} at step {step}, outside {low:g} to {high:g}"
