"""What is particular about a robot, as plain values: cameras, rate, state and action, tasks, what can simulate it.

Everything else asks a spec: nothing outside `robots/` knows the name of a camera, a rate or a limit. numpy is imported
inside functions: recipes read specs, and load quickly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError
from vlaw_models.robots.spaces import POSE, ActionSpace, Motion
from vlaw_models.robots.vectors import ROLL_PITCH_YAW, TOLERANCE, Vector, wrapped, wrong_numbers

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.episodes import Episode

EXTERIOR, WRIST = "exterior", "wrist"
ROLES = (EXTERIOR, WRIST)


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
    commands: ActionSpace | None = None
    """In what it is commanded, with `motion`; `action` holds the commands of a control step. None: one absolute target
    of the state in each."""
    pose: Vector | None = None
    """What world models of it are conditioned in, with `motion`; None: its state."""
    motion: Motion | None = None
    """How its commands move it, and which pose its state is; None: what is commanded is the next state, which is the
    pose."""

    def __post_init__(self) -> None:
        names = self.camera_names
        if not names or len(set(names)) != len(names) or not self.control_hz > 0:
            raise VlawError(
                f"cameras {', '.join(names) or 'none'}, control_hz {self.control_hz}",
                where=f"robot {self.name!r}",
                remedy="Give at least one camera, each with a name of its own, and a rate above 0.",
            )
        if len({part is None for part in (self.commands, self.pose, self.motion)}) > 1:
            raise VlawError(
                "a motion, the poses that it leads to and the commands that it follows are not all given",
                where=f"robot {self.name!r}",
                remedy="Give motion, pose and commands, or none of them.",
            )
        if self.commands and len(self.action) != self.commands_per_step * len(self.commands.names):
            raise VlawError(
                f"{self.commands_per_step} commands in {self.commands} are not the {len(self.action)} numbers of an "
                "action",
                where=f"robot {self.name!r}",
                remedy="Let the action hold the commands of one control step: Vector.repeated.",
            )
        if self.action.largest_step and self.action.names != self.state.names:
            raise VlawError(
                "a largest step is a difference from the state, which has other numbers than the action",
                where=f"robot {self.name!r}",
                remedy="Leave largest_step out, or give action and state the same names.",
            )

    @property
    def commands_per_step(self) -> int:
        """Commands in one control step."""
        return self.commands.per_step(self.control_hz, where=f"robot {self.name!r}") if self.commands else 1

    @property
    def command(self) -> Vector:
        """The numbers of one command: those of an action where a control step has one."""
        if self.commands is None or self.commands_per_step == 1:
            return self.action
        width = len(self.commands.names)
        columns = ("units", "low", "high", "largest_step", "usual_low", "usual_high")
        return replace(
            self.action,
            names=self.commands.names,
            wraps=tuple(place for place in self.action.wraps if place < width),
            as_is=tuple(place for place in self.action.as_is if place < width),
            **{column: getattr(self.action, column)[:width] for column in columns},
        )

    def rows(self, actions: np.ndarray) -> np.ndarray:
        """Actions of control steps (..., H, A) as commands, one a row: (..., H * commands_per_step, W)."""
        *before, steps, numbers = actions.shape
        count = self.commands_per_step
        return actions.reshape(*before, steps * count, numbers // count)

    @property
    def conditioning(self) -> ActionSpace | None:
        """In what world models of it are conditioned; None where that is no whole pose."""
        vector = self.pose or self.state
        return ActionSpace(POSE, self.control_hz, vector.names) if vector.orientation == ROLL_PITCH_YAW else None

    def poses(self, states: np.ndarray) -> np.ndarray:
        """The poses (..., P) of states (..., D): these themselves where there is no `motion`."""
        return states if self.motion is None else self.motion.poses(states)

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
        moved = {"motion": self.motion.identity()} if self.motion else {}
        return {"name": self.name, "control_hz": self.control_hz, "cameras": cameras, **vectors, **moved}
