"""Training samples for a policy: every control step of every episode, drawn uniformly.

Episodes are seen as steps, and several such views are mixed. Images are referred to, never copied: a batch is gathered
when it is read, from memory, a memory map or a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vlaw_models.device import mixed
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import TrainedPolicy
from vlaw_models.sources import Frames, gather, portable

POINTS = 2
"""P: places per picture that pretraining points out."""
EARLY_STEPS = 7
"""What `early_share` calls early: the approach to the first object."""


@dataclass(frozen=True)
class Batch:
    """B training samples."""

    images: np.ndarray
    """(B, V, h, w, 3) uint8."""
    states: np.ndarray
    """(B, D) float32."""
    actions: np.ndarray
    """(B, H, A) float32 absolute targets; after an episode's end its last action is repeated."""
    weights: np.ndarray
    """(B,) float32: w(o, a) of Eq. 4."""
    positive: np.ndarray
    """(B,) bool: the advantage's sign, for policies that are conditioned on it."""
    points: np.ndarray
    """(B, V, P, 2) float32: where in the pictures the things are that the instruction is about; NaN where not known."""
    instructions: list[str]


class StepData:
    """The control steps of some episodes. Episodes of weight 0 add nothing to the loss and are left out."""

    def __init__(
        self,
        images: Sequence[np.ndarray | Frames],
        states: Sequence[np.ndarray],
        actions: Sequence[np.ndarray],
        instructions: Sequence[str],
        *,
        weights: Sequence[float] | None = None,
        early_share: float = 0.0,
        points: Sequence[np.ndarray] | None = None,
        positive: Sequence[bool] | None = None,
    ):
        """`early_share` of the samples come from the first EARLY_STEPS steps, where the instruction decides what is
        done.

        Per episode: images (>= T, V, h, w, 3) uint8, states (>= T, D), actions (T, A), an instruction, a weight,
        points (>= T, V, P, 2) where they are known, whether its advantage is positive (all are, unless said)."""
        kept = [index for index in range(len(actions)) if weights is None or weights[index] != 0]
        if not kept or all(len(actions[index]) == 0 for index in kept):
            raise VlawError(
                "there is no control step to learn from",
                where="policy training data",
                remedy="Give at least one episode with a weight above 0 and one action.",
            )
        self.images = [images[index] for index in kept]
        self.states = [np.asarray(states[index], dtype=np.float32) for index in kept]
        self.actions = [np.asarray(actions[index], dtype=np.float32) for index in kept]
        self.instructions = [instructions[index] for index in kept]
        self.weights = np.ones(len(kept)) if weights is None else np.array([weights[index] for index in kept])
        self.positive = np.array([positive is None or bool(positive[index]) for index in kept])
        self.points = None if points is None else [points[index] for index in kept]
        self.early_share = early_share
        self.starts = np.concatenate([[0], np.cumsum([len(action) for action in self.actions])])
        for index, (state, action) in enumerate(zip(self.states, self.actions, strict=True)):
            if not (np.isfinite(state).all() and np.isfinite(action).all()):
                raise VlawError(
                    "states or actions are not finite numbers",
                    where=f"training episode {kept[index]}",
                    remedy="Leave this episode out, or record it again.",
                )
            if min(len(self.images[index]), len(state)) < len(action):
                raise VlawError(
                    "an episode has fewer images or states than actions",
                    where=f"training episode {kept[index]}",
                    remedy="Leave it out, or record it again.",
                )

    @classmethod
    def from_episodes(
        cls,
        episodes: Sequence[Episode],
        *,
        weights: Sequence[float] | None = None,
        early_share: float = 0.0,
        positive: Sequence[bool] | None = None,
    ) -> StepData:
        parts = zip(*[(e.images, e.states, e.actions, e.instruction) for e in episodes], strict=True)
        points = [e.extra["points"] for e in episodes] if all("points" in e.extra for e in episodes) else None
        return cls(
            *(parts if episodes else ([], [], [], [])),
            weights=weights,
            early_share=early_share,
            points=points,
            positive=positive,
        )

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        states: np.ndarray,
        actions: np.ndarray,
        instructions: Sequence[str],
        lengths: Sequence[int],
        *,
        weights: Sequence[float] | None = None,
    ) -> StepData:
        """One big array of N = sum(lengths) steps each (may be memory-mapped); episodes are views of it."""
        cuts = np.cumsum(lengths)[:-1]
        if sum(lengths) != len(actions):
            raise VlawError(
                f"the lengths add up to {sum(lengths)}, there are {len(actions)} steps",
                where="policy training data",
                remedy="Give the number of steps of every episode.",
            )
        split = [np.split(array, cuts) for array in (images, states, actions)]
        return cls(split[0], split[1], split[2], instructions, weights=weights)

    def __len__(self) -> int:
        """Number of control steps."""
        return int(self.starts[-1])

    @property
    def portable(self) -> bool:
        """Whether other processes can read the pictures."""
        return portable(self.images)

    def choose(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """`size` numbers of steps, for `at`, drawn with replacement: uniformly, but for the early share."""
        steps = rng.integers(len(self), size=size)
        early = round(self.early_share * size)
        if early:
            episode = rng.integers(len(self.actions), size=early)
            steps[:early] = self.starts[episode] + rng.integers(EARLY_STEPS, size=early) % np.diff(self.starts)[episode]
        return steps

    def at(self, steps: np.ndarray, chunk_size: int) -> Batch:
        """The samples of the control steps with these numbers (B,), counted through all episodes."""
        episodes = np.searchsorted(self.starts, steps, side="right") - 1
        pairs = [
            (int(episode), int(step - self.starts[episode])) for episode, step in zip(episodes, steps, strict=True)
        ]
        ahead = np.arange(chunk_size)
        return Batch(
            images=gather(self.images, pairs),
            states=np.stack([self.states[episode][t] for episode, t in pairs]),
            actions=np.stack([self.actions[e][np.minimum(t + ahead, len(self.actions[e]) - 1)] for e, t in pairs]),
            weights=self.weights[episodes].astype(np.float32),
            positive=self.positive[episodes],
            points=self._points(pairs),
            instructions=[self.instructions[episode] for episode, _ in pairs],
        )

    def _points(self, pairs: list[tuple[int, int]]) -> np.ndarray:
        if self.points is None:
            return np.full((len(pairs), self.images[0].shape[1], POINTS, 2), np.nan, dtype=np.float32)
        return np.stack([self.points[episode][t] for episode, t in pairs])


class FeatureData:
    """Steps whose pictures a frozen encoder has encoded: features, states and chunks as tensors, drawn uniformly.

    A training step on them costs a fifth of one on pictures. There is no random shift of pictures then.
    """

    def __init__(self, policy: TrainedPolicy, data: StepData, *, batch_size: int = 256):
        """`policy.can_freeze` must be true; its encoder is asked once per control step of `data`."""
        features, states, chunks, weights, positive = [], [], [], [], []
        for begin in range(0, len(data), batch_size):
            steps = np.arange(begin, min(begin + batch_size, len(data)))
            batch = data.at(steps, policy.chunk_size)
            images = torch.from_numpy(batch.images).to(policy.device)
            words = policy.read(batch.instructions, batch.states).to(policy.device)
            with torch.no_grad(), mixed(policy.device):
                features.append(policy.picture_features(images, words).bfloat16().cpu())
            states.append(batch.states)
            chunks.append(batch.actions)
            weights.append(batch.weights)
            positive.append(batch.positive)
        self.features = torch.cat(features)
        self.states, self.actions, self.weights, self.positive = (
            torch.from_numpy(np.concatenate(parts)) for parts in (states, chunks, weights, positive)
        )

    def __len__(self) -> int:
        return len(self.features)

    def choose(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """`size` numbers of steps, for `at`, drawn with replacement."""
        return rng.integers(len(self), size=size) if size else np.empty(0, np.int64)

    def at(self, steps: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Features (B, F), states (B, D), actions (B, H, A), weights (B,), positive (B,) of these steps."""
        index = torch.from_numpy(steps)
        return self.features[index], self.states[index], self.actions[index], self.weights[index], self.positive[index]


class MixedData:
    """Several sources with a fixed share of every batch each."""

    def __init__(self, sources: Sequence[StepData], shares: Sequence[float]):
        """`shares` add up to 1."""
        self.sources, self.shares = list(sources), list(shares)

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    @property
    def portable(self) -> bool:
        """Whether other processes can read the pictures."""
        return all(source.portable for source in self.sources)

    def choose(self, rng: np.random.Generator, size: int) -> list[np.ndarray]:
        """Of each source the numbers of its steps, in its share of `size`."""
        counts = np.diff(np.round(np.cumsum([0.0, *self.shares]) * size).astype(int))
        return [
            source.choose(rng, count) if count > 0 else np.empty(0, np.int64)
            for source, count in zip(self.sources, counts, strict=True)
        ]

    def at(self, chosen: Sequence[np.ndarray], chunk_size: int) -> Batch:
        """The samples that were chosen, source by source."""
        parts = [source.at(steps, chunk_size) for source, steps in zip(self.sources, chosen, strict=True) if len(steps)]
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        return Batch(**joined, instructions=[text for part in parts for text in part.instructions])


_ARRAYS = ("images", "states", "actions", "weights", "positive", "points")


def check_fits(policy: TrainedPolicy, source: StepData) -> None:
    """Raises VlawError where states or actions are not of the policy's robot."""
    expected = (policy.normalization.state_dim, policy.action_dim)
    for state, action in zip(source.states, source.actions, strict=True):
        if (state.shape[1], action.shape[1]) != expected:
            raise VlawError(
                f"the policy has {expected[0]} state and {expected[1]} action dimensions, an episode has "
                f"{state.shape[1]} and {action.shape[1]}",
                where="policy update",
                remedy="Start from a policy that was trained for this robot.",
            )
