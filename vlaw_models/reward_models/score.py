"""Scoring episodes with a judge: P(yes) per episode (Eq. 3 without its threshold, which the reader applies)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.reward_models.base import RewardModel, load_reward_model
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.spread import Batches, Spread, here

BATCH = 16
"""Episodes judged at once."""


def score_episodes(
    reward_dir: Path,
    episodes: Iterable[Episode],
    *,
    batch_size: int = BATCH,
    progress: Progress | None = None,
    spread: Spread = here,
) -> np.ndarray:
    """P(yes) of each episode in the order given, float64 (N,); N may be 0. Episodes are read one batch at a time.

    Deterministic: no augmentation, no dropout, no sampling. VlawError for a damaged checkpoint, an episode whose
    frames the judge cannot read, or a judge whose output is not finite. A batch depends on no other, so `spread` may
    take them elsewhere.
    """
    total = len(episodes) if isinstance(episodes, Sized) else 0
    scores: list[np.ndarray] = []
    done = 0
    parts = Batches(episodes, batch_size) if isinstance(episodes, Sequence) else _batches(episodes, batch_size)
    for part in spread(scoring, {"reward_model": reward_dir}, {}, parts):
        scores.append(part)
        done += len(part)
        if progress is not None:
            progress(done, max(total, done), f"scored {done} episodes")
    return np.concatenate(scores) if scores else np.empty(0, dtype=np.float64)


def scoring(inputs: Mapping[str, Path], _settings: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """The heavy part of `score_episodes`: a batch of episodes -> P(yes) of each."""
    score = scorer(inputs["reward_model"])
    return lambda part: score(part["items"])


def _batches(episodes: Iterable[Episode], size: int) -> Iterator[dict[str, Any]]:
    stream = iter(episodes)
    while batch := list(islice(stream, size)):
        yield {"items": batch}


def scorer(reward_dir: Path) -> Callable[[Sequence[Episode]], np.ndarray]:
    """The judge as a function: P(yes) of a batch of episodes, float64 (N,). Raises VlawError as `score_episodes`."""
    judge = load_reward_model(reward_dir)
    return lambda episodes: _p_yes(judge, episodes, where=str(reward_dir))


def reward_so_far(
    judge: RewardModel, robot: RobotSpec
) -> Callable[[Sequence[np.ndarray], Sequence[np.ndarray], Sequence[str]], np.ndarray]:
    """P(yes) of B episodes as far as they have come, in one pass: (frames, states, instructions) -> (B,) float64, see
    `Reward` of the imagined environments (world_models/gym.py)."""

    def reward(frames: Sequence[np.ndarray], states: Sequence[np.ndarray], instructions: Sequence[str]) -> np.ndarray:
        episodes = [
            Episode("", said, 0, seen, poses, poses[1:], cameras=robot.camera_names, control_hz=robot.control_hz)
            for seen, poses, said in zip(frames, states, instructions, strict=True)
        ]
        return _p_yes(judge, episodes, where="imagined environment")

    return reward


def _p_yes(judge: RewardModel, episodes: Sequence[Episode], *, where: str) -> np.ndarray:
    """P(yes) of a batch, float64 (B,)."""
    device = next(judge.parameters()).device
    frames, states = (tensor.to(device) for tensor in judge.clips(episodes))
    with torch.inference_mode():
        asked = [episode.instruction for episode in episodes]
        found = judge.p_yes(frames, asked, states, **judge.clip_times(episodes)).double().cpu().numpy()
    if not np.isfinite(found).all():
        raise VlawError(
            "the judge's output is not a finite number",
            where=where,
            remedy="The judge's training diverged: materialize the reward model again.",
        )
    return found
