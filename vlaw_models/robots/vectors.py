"""The numbers that a state or an action consists of: names, units, limits, which of them are angles that wrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import numpy as np

ROLL_PITCH_YAW = "roll pitch yaw"
TOLERANCE = 1e-3
"""By how much a recorded number may lie outside a limit, in its own unit: recorders round."""


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
    """How it is written: 'pitch' (one angle about y), ROLL_PITCH_YAW (about the fixed axes x, y, z), or '' for none."""
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

    def repeated(self, count: int) -> Vector:
        """`count` of them one after the other, as commands within a control step: names end in .1, .2, ..."""
        size = len(self)

        def places(own: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(step * size + place for step in range(count) for place in own)

        columns = ("units", "low", "high", "largest_step", "usual_low", "usual_high")
        return replace(
            self,
            names=tuple(f"{name}.{step}" for step in range(1, count + 1) for name in self.names),
            wraps=places(self.wraps),
            as_is=places(self.as_is),
            **{column: getattr(self, column) * count for column in columns},
        )

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
