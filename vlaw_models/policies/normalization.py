"""Normalisation of states and action chunks: quantiles 1 % and 99 % to [-1, 1], actions relative to the state.

The statistics, their JSON form (part of a policy's checkpoint) and both directions; what comes out is clipped by the
robot (RobotSpec.clip). Finetuning keeps the statistics of the policy it starts from, as openpi does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vlaw_models.robots.spec import wrapped

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
    """(H, A) float32, 1 % quantile of the relative action."""
    action_high: np.ndarray
    absolute: tuple[int, ...]
    """Action dimensions taken as they are, not relative to the state, with least and greatest value (the gripper)."""
    wraps: tuple[int, ...] = ()
    """Action dimensions that are angles in [-pi, pi]: relative to the state the short way round."""

    @classmethod
    def fit(
        cls,
        states: Sequence[np.ndarray],
        actions: Sequence[np.ndarray],
        *,
        chunk_size: int,
        absolute: Sequence[int],
        wraps: Sequence[int] = (),
    ) -> Normalization:
        """Statistics over all chunks of episodes: states[i] (T+1, D) or (T, D), actions[i] (T, A) absolute targets."""
        relative = []
        for state, action in zip(states, actions, strict=True):
            steps = np.minimum(np.arange(len(action))[:, None] + np.arange(chunk_size), len(action) - 1)
            chunk = action[steps].astype(np.float32)
            change = chunk - _base(state[: len(action)], chunk.shape[-1], absolute)[:, None]
            change[..., list(wraps)] = wrapped(change[..., list(wraps)])
            relative.append(change)
        chunks, observed = np.concatenate(relative), np.concatenate(list(states))
        action_low, action_high = _range(chunks)
        every = list(absolute)
        action_low[:, every] = chunks[..., every].min((0, 1))
        action_high[:, every] = np.maximum(chunks[..., every].max((0, 1)), action_low[:, every] + MIN_RANGE)
        state_low, state_high = _range(observed)
        return cls(state_low, state_high, action_low, action_high, tuple(absolute), tuple(wraps))

    @property
    def chunk_size(self) -> int:
        return self.action_low.shape[0]

    @property
    def action_dim(self) -> int:
        return self.action_low.shape[1]

    @property
    def state_dim(self) -> int:
        return len(self.state_low)

    def state(self, state: torch.Tensor) -> torch.Tensor:
        """(B, D) state to about [-1, 1]."""
        low, high = _tensor(self.state_low, state), _tensor(self.state_high, state)
        return (state - low) / (high - low) * 2 - 1

    def actions(self, actions: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(B, H, A) absolute targets to normalised relative ones."""
        low, high = _tensor(self.action_low, state), _tensor(self.action_high, state)
        return (self._short(actions - self._offset(state)[:, None]) - low) / (high - low) * 2 - 1

    def targets(self, normalized: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The inverse of `actions`."""
        low, high = _tensor(self.action_low, state), _tensor(self.action_high, state)
        return self._short((normalized + 1) / 2 * (high - low) + low + self._offset(state)[:, None])

    def to_json(self) -> dict[str, Any]:
        quantiles = {name: getattr(self, name).tolist() for name in _QUANTILES}
        wraps = {"wraps": list(self.wraps)} if self.wraps else {}
        return {**quantiles, "absolute": list(self.absolute), **wraps}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Normalization:
        quantiles = {name: np.asarray(stored[name], dtype=np.float32) for name in _QUANTILES}
        return cls(**quantiles, absolute=tuple(stored["absolute"]), wraps=tuple(stored.get("wraps", ())))

    def _offset(self, state: torch.Tensor) -> torch.Tensor:
        offset = state[:, : self.action_dim].clone()
        offset[:, list(self.absolute)] = 0
        return offset

    def _short(self, values: torch.Tensor) -> torch.Tensor:
        """The same with the angles of `wraps` as the equal ones in [-pi, pi]."""
        if not self.wraps:
            return values
        turns = torch.zeros_like(values)
        turns[..., list(self.wraps)] = torch.round(values[..., list(self.wraps)] / (2 * torch.pi))
        return values - 2 * torch.pi * turns


_QUANTILES = ("state_low", "state_high", "action_low", "action_high")


def _base(state: np.ndarray, action_dim: int, absolute: Sequence[int]) -> np.ndarray:
    base = state[:, :action_dim].astype(np.float32).copy()
    base[:, list(absolute)] = 0
    return base


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
