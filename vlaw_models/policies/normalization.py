"""Normalisation of states and action chunks: quantiles 1 % and 99 % to [-1, 1], actions relative to the state.

Angles do not wrap: an action's is relative to the state the short way round, a state's is counted from the middle of
those that occur, so that the cut is where there are none.

Dimensions: H control steps of a chunk, A numbers of a control step's action. Where a control step has several commands
the statistics are per command: of R = H * per_step rows with W = A / per_step numbers, as policies are published.

The statistics, their JSON form (part of a policy's checkpoint) and both directions; what comes out is clipped by the
robot (RobotSpec.clip). Finetuning keeps the statistics of the policy it starts from, as openpi does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import RobotSpec, wrapped

MIN_RANGE = 0.02
"""Smallest q99 - q01 assumed: a dimension that hardly moves must not become a huge number."""
MAX_NORMALIZED = 3.0
"""Largest size of a normalised value in the data the statistics are taken from."""


@dataclass(frozen=True)
class Normalization:
    """Statistics of one policy. Action statistics are per step of the chunk: late steps move farther than early
    ones."""

    state_low: np.ndarray
    """(D,) float32, 1 % quantile."""
    state_high: np.ndarray
    action_low: np.ndarray
    """(R, W) float32, 1 % quantile of the relative action."""
    action_high: np.ndarray
    absolute: tuple[int, ...]
    """Numbers of a command taken as they are, not relative to the state, with least and greatest value (the
    gripper)."""
    wraps: tuple[int, ...] = ()
    """Numbers of a command that are angles in [-pi, pi]: relative to the state the short way round."""
    state_wraps: tuple[int, ...] = ()
    """Numbers of the state that are angles: as the equal ones nearest to the middle of low and high."""
    per_step: int = 1
    """Commands in a control step."""

    @classmethod
    def fit(
        cls,
        states: Sequence[np.ndarray],
        actions: Sequence[np.ndarray],
        *,
        chunk_size: int,
        absolute: Sequence[int],
        wraps: Sequence[int] = (),
        state_wraps: Sequence[int] = (),
        per_step: int = 1,
    ) -> Normalization:
        """Statistics over all chunks of episodes: states[i] (T+1, D) or (T, D), actions[i] (T, A).

        `chunk_size`: H. `absolute`, `wraps`: of one command, see the fields.
        """
        relative = []
        for state, action in zip(states, actions, strict=True):
            rows = action.reshape(len(action) * per_step, action.shape[1] // per_step)
            steps = np.arange(len(action))[:, None] * per_step + np.arange(chunk_size * per_step)
            chunk = rows[np.minimum(steps, len(rows) - 1)].astype(np.float32)
            change = chunk - _base(state[: len(action)], chunk.shape[-1], absolute)[:, None]
            change[..., list(wraps)] = wrapped(change[..., list(wraps)])
            relative.append(change)
        chunks, observed = np.concatenate(relative), np.concatenate(list(states))
        action_low, action_high = _range(chunks)
        every = list(absolute)
        action_low[:, every] = chunks[..., every].min((0, 1))
        action_high[:, every] = np.maximum(chunks[..., every].max((0, 1)), action_low[:, every] + MIN_RANGE)
        state_low, state_high = _range(_unwrapped(observed, list(state_wraps)))
        return cls(
            state_low,
            state_high,
            action_low,
            action_high,
            tuple(absolute),
            tuple(wraps),
            tuple(state_wraps),
            per_step,
        )

    @classmethod
    def of_robot(
        cls, robot: RobotSpec, states: Sequence[np.ndarray], actions: Sequence[np.ndarray], *, chunk_size: int
    ) -> Normalization:
        """`fit` of a robot's episodes."""
        return cls.fit(
            states,
            actions,
            chunk_size=chunk_size,
            absolute=robot.command.as_is,
            wraps=robot.command.wraps,
            state_wraps=robot.state.wraps,
            per_step=robot.commands_per_step,
        )

    def check_robot(self, robot: RobotSpec) -> None:
        """Raises VlawError for a robot with another number of commands in a control step."""
        if self.per_step != robot.commands_per_step:
            raise VlawError(
                f"the statistics have {self.per_step} commands in a control step, robot {robot.name!r} has "
                f"{robot.commands_per_step}",
                where="new policy",
                remedy="Fit the statistics to this robot's episodes: Normalization.of_robot.",
            )

    @property
    def rows(self) -> tuple[int, int]:
        """(R, W)."""
        count, width = self.action_low.shape
        return count, width

    @property
    def chunk_size(self) -> int:
        """H."""
        return self.rows[0] // self.per_step

    @property
    def action_dim(self) -> int:
        """A."""
        return self.rows[1] * self.per_step

    @property
    def state_dim(self) -> int:
        return len(self.state_low)

    def state(self, state: torch.Tensor) -> torch.Tensor:
        """(B, D) state to about [-1, 1]."""
        low, high = _tensor(self.state_low, state), _tensor(self.state_high, state)
        counted = state - _turns(state - (low + high) / 2, self.state_wraps) if self.state_wraps else state
        return (counted - low) / (high - low) * 2 - 1

    def actions(self, actions: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(B, H, A) actions to normalised relative commands (B, R, W)."""
        low, high = _tensor(self.action_low, state), _tensor(self.action_high, state)
        actions = actions.reshape(len(actions), -1, self.rows[1])
        return (_short(actions - self._offset(state)[:, None], self.wraps) - low) / (high - low) * 2 - 1

    def targets(self, normalized: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The inverse of `actions`."""
        low, high = _tensor(self.action_low, state), _tensor(self.action_high, state)
        found = _short((normalized + 1) / 2 * (high - low) + low + self._offset(state)[:, None], self.wraps)
        return found.reshape(len(found), -1, self.action_dim)

    def to_json(self) -> dict[str, Any]:
        quantiles = {name: getattr(self, name).tolist() for name in _QUANTILES}
        later = {name: list(getattr(self, name)) for name in _LATER if getattr(self, name)}
        several = {"per_step": self.per_step} if self.per_step > 1 else {}
        return {**quantiles, "absolute": list(self.absolute), **later, **several}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Normalization:
        quantiles = {name: np.asarray(stored[name], dtype=np.float32) for name in _QUANTILES}
        return cls(
            **quantiles,
            absolute=tuple(stored["absolute"]),
            wraps=tuple(stored.get("wraps", ())),
            state_wraps=tuple(stored.get("state_wraps", ())),
            per_step=stored.get("per_step", 1),
        )

    def _offset(self, state: torch.Tensor) -> torch.Tensor:
        """(B, W) what relative numbers of a command are counted from."""
        width = self.rows[1]
        offset = functional.pad(state[:, :width], (0, max(width - state.shape[1], 0))).clone()
        offset[:, list(self.absolute)] = 0
        return offset


def _short(values: torch.Tensor, wraps: tuple[int, ...]) -> torch.Tensor:
    """The same with the angles of `wraps` as the equal ones in [-pi, pi]."""
    return values - _turns(values, wraps) if wraps else values


def _turns(values: torch.Tensor, wraps: tuple[int, ...]) -> torch.Tensor:
    """Whole turns, in radians, by which the angles of `wraps` are outside [-pi, pi]; 0 for the other numbers."""
    turns = torch.zeros_like(values)
    turns[..., list(wraps)] = torch.round(values[..., list(wraps)] / (2 * torch.pi))
    return 2 * torch.pi * turns


_QUANTILES = ("state_low", "state_high", "action_low", "action_high")
_LATER = ("wraps", "state_wraps")


def _base(state: np.ndarray, width: int, absolute: Sequence[int]) -> np.ndarray:
    base = np.zeros((len(state), width), np.float32)
    given = min(width, state.shape[1])
    base[:, :given] = state[:, :given]
    base[:, list(absolute)] = 0
    return base


def _unwrapped(values: np.ndarray, wraps: list[int]) -> np.ndarray:
    """(N, D) with the angles of `wraps` as the equal ones nearest to their mean direction."""
    if not wraps:
        return values
    found = values.copy()
    angles = values[:, wraps].astype(np.float64)
    mean = np.arctan2(np.sin(angles).mean(0), np.cos(angles).mean(0))
    found[:, wraps] = mean + wrapped(angles - mean)
    return found


def _range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles along the first axis, widened where values would exceed `MAX_NORMALIZED`.

    A dimension that is constant in 99 % of the data (a hand that seldom tilts) would otherwise rule the whole loss.
    """
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    middle = (low + high) / 2
    extreme = np.maximum(values.max(0) - middle, middle - values.min(0))
    half = np.maximum.reduce([(high - low) / 2, extreme / MAX_NORMALIZED, np.full_like(middle, MIN_RANGE / 2)])
    return (middle - half).astype(np.float32), (middle + half).astype(np.float32)


def _tensor(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)
