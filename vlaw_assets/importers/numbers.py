"""From the numbers and the rate of a recording to those of a robot: which rows, which components, which units, targets.

Control steps lie 1 / (robot's rate) apart, from the recording's first row on. Where the recording's rate is a whole
multiple, every step falls on a row: nothing is computed, rows are taken as they are. Else a step's picture is that of
the nearest row, and its state lies on the line between two rows, of angles by the shortest way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import RobotSpec, Vector, wrapped

SLOWEST = 0.75
"""Least rate of a recording, as a share of the robot's: below, most steps would have no picture of their own."""
SAME_RATE = 1e-6
"""Hertz by which a rate may differ from a whole multiple of another."""
HINTS = {
    "delta": re.compile(r"(^|[^a-z])(deltas?|rel|relative|diff|d(x|y|z|roll|pitch|yaw|rx|ry|rz))([^a-z]|$)"),
    "velocity": re.compile(r"(^|[^a-z])(vel|velocity|velocities|twist|speed|v(x|y|z)|w(x|y|z))([^a-z]|$)"),
}
"""Words in the name of an action, or of its numbers, that say that it is no absolute target."""
PER_UNIT = {("mm", "m"): 1e-3, ("cm", "m"): 1e-2, ("deg", "rad"): math.pi / 180}
GRIPPER = "gripper"
"""Part of the name of a number that says how far a gripper is closed: robots here have 0 for open and 1 for closed."""


@dataclass(frozen=True)
class ControlSteps:
    """Where the control steps of one episode lie among the rows of its recording."""

    rows: np.ndarray
    """(T+1,) int64: the row whose picture each step has."""
    at: np.ndarray
    """(T+1,) float64: where each step lies, in rows: 2.5 is half way between the rows 2 and 3."""
    fps: float
    exact: bool
    """Whether every step is a row."""

    def __len__(self) -> int:
        return len(self.rows)

    def states(self, values: np.ndarray, vector: Vector) -> np.ndarray:
        """(rows, D) of the recording -> (T+1, D) float32."""
        return self._between(values, self.at, vector) if not self.exact else np.asarray(values, np.float32)[self.rows]

    def targets(self, actions: np.ndarray, states: np.ndarray, kind: str, robot: RobotSpec) -> np.ndarray:
        """(rows, A) actions and (rows, D) states of the recording, both as the robot's numbers -> (T, A) float32
        absolute targets.

        'absolute': the last target within the step. 'delta': the state at its beginning, and all differences of its
        rows. 'velocity': likewise, each for the time of a row. Angles are added one by one. What the robot takes as it
        is (a gripper) is an absolute target in every kind.
        """
        vector = robot.action
        if robot.commands_per_step > 1:  # every row is a command: `check_rate`
            count = len(self) - 1
            return np.asarray(actions, np.float32)[: count * robot.commands_per_step].reshape(count, -1)
        if kind == "absolute":
            if self.exact:
                return np.asarray(actions, np.float32)[self.rows[1:] - 1]
            return self._between(actions, np.maximum(self.at[1:] - 1, 0), vector)
        moved = np.asarray(actions, np.float64) / (self.fps if kind == "velocity" else 1.0)
        total = np.vstack([np.zeros(moved.shape[1]), np.cumsum(moved, axis=0)])
        places = np.arange(len(total))
        along = np.stack([np.interp(self.at, places, column) for column in total.T], axis=1)
        found = self.states(states, robot.state)[:-1] + np.diff(along, axis=0)
        wraps, as_is = list(vector.wraps), list(vector.as_is)
        found[:, wraps] = wrapped(found[:, wraps])
        if as_is:
            found[:, as_is] = self.targets(actions, states, "absolute", robot)[:, as_is]
        return found.astype(np.float32)

    def _between(self, values: np.ndarray, at: np.ndarray, vector: Vector) -> np.ndarray:
        """(len(at), D) float32 on the lines between rows."""
        given = np.asarray(values, np.float64)
        wraps = list(vector.wraps)
        if wraps:
            given = given.copy()
            given[:, wraps] = np.unwrap(given[:, wraps], axis=0)
        found = np.stack([np.interp(at, np.arange(len(given)), column) for column in given.T], axis=1)
        found[:, wraps] = wrapped(found[:, wraps])
        return found.astype(np.float32)


def control_steps(times: np.ndarray, fps: float, robot_rate: float) -> ControlSteps:
    """The control steps of an episode whose rows have these times.

    Args:
        times: (rows,) seconds, ascending; at a whole multiple of the robot's rate the rows are counted instead.
        fps: rows per second, as `check_rate` has let pass.
        robot_rate: control steps per second.
    """
    count = len(times)
    stride = _stride(fps, robot_rate)
    if stride:
        rows = np.arange(0, count, stride)
        return ControlSteps(rows, rows.astype(np.float64), fps, exact=True)
    seconds = np.asarray(times, np.float64) - times[0]
    steps = np.arange(math.floor(seconds[-1] * robot_rate + SAME_RATE) + 1) / robot_rate
    at = np.interp(steps, seconds, np.arange(count))
    return ControlSteps(np.floor(at + 0.5).astype(np.int64), at, fps, exact=False)


def check_rate(fps: float, robot: RobotSpec, *, where: str) -> str:
    """How a recording of this rate becomes one of the robot's, in words. VlawError for one that is too slow."""
    rate = robot.control_hz
    stride = _stride(fps, rate)
    if robot.commands is not None and robot.commands_per_step > 1:
        if abs(fps - robot.commands.hz) > SAME_RATE:
            raise VlawError(
                f"recorded at {fps:g} Hz, and robot {robot.name!r} is commanded in {robot.commands}: every row has to "
                "be one of its commands",
                where=where,
                remedy="Record the commands as they are given, say the true rate (--rate) where this one is wrong, or "
                "name a robot that is commanded in poses (--robot).",
            )
        return f"{fps:g} Hz: {stride} rows, each a command, are a control step at {rate:g} Hz"
    if stride:
        taken = "every row" if stride == 1 else f"every {stride}. row"
        return f"{fps:g} Hz: {taken} is a control step at {rate:g} Hz"
    if fps < SLOWEST * rate:
        raise VlawError(
            f"recorded at {fps:g} Hz, and robot {robot.name!r} has {rate:g} control steps a second: most of them would "
            "have no picture of their own",
            where=where,
            remedy=f"Record at {rate:g} Hz or more, say the true rate (--rate) where this one is wrong, or name a "
            f"robot of at most {fps / SLOWEST:g} Hz (--robot).",
        )
    twice = f"; {1 - fps / rate:.0%} of the pictures are shown twice" if fps < rate else ""
    return (
        f"{fps:g} Hz, resampled by time to {rate:g} Hz: the picture of the nearest row (at most {500 / fps:.0f} ms "
        f"away), states and targets on the line between two rows{twice}"
    )


def _stride(fps: float, rate: float) -> int:
    """Rows per control step where that is a whole number, else 0."""
    stride = round(fps / rate)
    return stride if stride >= 1 and abs(stride * rate - fps) <= SAME_RATE else 0


def select(
    values: np.ndarray,
    names: Sequence[str] | None,
    components: Sequence[str],
    units: Sequence[str],
    vector: Vector,
    *,
    gripper: str = "",
    what: str,
    where: str,
) -> np.ndarray:
    """The robot's numbers, in its order and units, of a recording's: (rows, N) -> (rows, len(vector)) float32.

    Args:
        names: what the recording calls its N numbers; None where it does not say.
        components: which of them are the robot's, by name or by number from 0; empty: by `names` where those have all
            of the robot's, else all of them in their order.
        units: of those, in the robot's order; empty: the robot's.
        gripper: 'open_is_1' where the recording has 1 for open; else 1 is closed.
        what: 'state' or 'action', for messages.

    Raises VlawError for a component that is not there, another count, or a unit that is none of that number.
    """
    places = chosen_places(values.shape[1], names, components, vector, what=what, where=where)
    found = np.asarray(values, np.float32)[:, places]
    factors = unit_factors(units, vector, what=what, where=where)
    if any(factor != 1.0 for factor in factors):
        found = (found.astype(np.float64) * factors).astype(np.float32)
        wraps = list(vector.wraps)
        found[:, wraps] = wrapped(found[:, wraps])
    if gripper == "open_is_1":
        grippers = [place for place, name in enumerate(vector.names) if GRIPPER in name]
        found[:, grippers] = 1 - found[:, grippers]
    return found


def chosen_places(
    count: int, names: Sequence[str] | None, components: Sequence[str], vector: Vector, *, what: str, where: str
) -> list[int]:
    """Which of a recording's `count` numbers are the robot's, in the robot's order, see `select`."""
    listed = ", ".join(f"{place} {name}" for place, name in enumerate(names)) if names else f"0 to {count - 1}"
    remedy = f"Say which are {', '.join(vector.names)}: --component {what}=..., of {listed}."
    if components:
        if len(components) != len(vector):
            raise VlawError(
                f"{len(components)} components of the {what}, the robot has {len(vector)}", where=where, remedy=remedy
            )
        return [_place(component, count, names, what=what, where=where, remedy=remedy) for component in components]
    if names is not None and list(names) != list(vector.names):
        if all(list(names).count(name) == 1 for name in vector.names):
            return [list(names).index(name) for name in vector.names]
        raise VlawError(
            f"the {what} consists of {', '.join(names)}; the robot's of {', '.join(vector.names)}",
            where=where,
            remedy=remedy,
        )
    if count != len(vector):
        raise VlawError(
            f"the {what} has {count} numbers, the robot's has {len(vector)}: {', '.join(vector.names)}",
            where=where,
            remedy=remedy,
        )
    return list(range(count))


def _place(component: str, count: int, names: Sequence[str] | None, *, what: str, where: str, remedy: str) -> int:
    if names is not None and list(names).count(component) == 1:
        return list(names).index(component)
    if component.isdecimal() and int(component) < count:
        return int(component)
    raise VlawError(f"the {what} has no number {component[:80]!r}", where=where, remedy=remedy)


def unit_factors(units: Sequence[str], vector: Vector, *, what: str, where: str) -> list[float]:
    """By what each number is multiplied to be in the robot's unit. VlawError where one cannot be."""
    if not units:
        return [1.0] * len(vector)
    if len(units) != len(vector):
        raise VlawError(
            f"{len(units)} units of the {what}, the robot has {len(vector)} numbers",
            where=where,
            remedy=f"Give one for each of {', '.join(vector.names)}.",
        )
    factors = []
    for name, given, own in zip(vector.names, units, vector.units, strict=True):
        if given != own and (given, own) not in PER_UNIT:
            raise VlawError(
                f"{name} of the {what} is in {given or 'no unit'}, the robot's is in {own or 'no unit'}",
                where=where,
                remedy="Choose other components, or describe your robot: one file with a RobotSpec.",
            )
        factors.append(1.0 if given == own else PER_UNIT[given, own])
    return factors


def action_kind(given: str, key: str, names: Sequence[str] | None, robot: RobotSpec, *, where: str) -> str:
    """'absolute', 'delta' or 'velocity': as was said, else absolute. VlawError where names say something else and
    nobody has said which it is, and where differences are of other numbers than the state has."""
    if robot.motion is not None and given in ("", "absolute"):
        return "absolute"  # the commands themselves, whatever they are
    words = [key, *(names or ())]
    hints = {kind: word for kind, pattern in HINTS.items() for word in words if pattern.search(word.lower())}
    if not given and hints:
        kind, word = next(iter(hints.items()))
        raise VlawError(
            f"it is not clear what the action is: {word[:80]!r} speaks of a {kind}, and targets are expected",
            where=where,
            remedy="Say it: --action-kind absolute, delta (differences from the state, row by row) or velocity "
            "(per second).",
        )
    kind = given or "absolute"
    if kind != "absolute" and robot.state.names != robot.action.names:
        raise VlawError(
            f"{kind} actions are added to the state, and robot {robot.name!r} has other numbers in its state "
            f"({', '.join(robot.state.names)}) than in its action ({', '.join(robot.action.names)})",
            where=where,
            remedy="Record absolute targets, or describe a robot whose state and action have the same names.",
        )
    return kind


def looks_like(states: np.ndarray, actions: np.ndarray, fps: float, robot: RobotSpec) -> str:
    """What the numbers of one episode themselves say that the actions are: one of the kinds, '' where that is open.

    Both (rows, N), the robot's numbers. A difference or velocity that explains the way to the next state ten times
    better than a target does is one, and a target likewise.
    """
    if robot.state.names != robot.action.names or len(states) < 3:
        return ""
    places = [place for place in range(len(robot.action)) if place not in robot.action.as_is]
    now, following, action = (
        np.asarray(part, np.float64)[:, places] for part in (states[:-1], states[1:], actions[:-1])
    )
    moved = following - now
    wraps = [places.index(place) for place in robot.action.wraps if place in places]
    moved[:, wraps] = wrapped(moved[:, wraps])
    aside = action - following
    aside[:, wraps] = wrapped(aside[:, wraps])
    off = {
        "absolute": np.abs(aside).mean(),
        "delta": np.abs(action - moved).mean(),
        "velocity": np.abs(action / fps - moved).mean(),
    }
    best = min(off, key=off.__getitem__)
    other = off["absolute"] if best != "absolute" else min(off["delta"], off["velocity"])
    return best if off[best] * 10 < other else ""


def kinds_in_words(kind: str, components: Mapping[str, Sequence[str]]) -> str:
    """The kind of action for people."""
    said = {
        "absolute": "absolute targets: the last one of each control step",
        "delta": "differences: the state at the beginning of a control step and all differences within it",
        "velocity": "velocities: the state at the beginning of a control step and what they come to within it",
    }[kind]
    return f"{said}; components {', '.join(components['action'])}" if components.get("action") else said
