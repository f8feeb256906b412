"""Scoring episodes with a judge: P(yes) per episode (Eq. 3 without its threshold, which the reader applies)."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.reward_models.base import load_reward_model


def score_episodes(
    reward_dir: Path,
    episodes: Iterable[Episode],
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> np.ndarray:
    """P(yes) of each episode in the order given, float64 (N,); N may be 0. Episodes are read one batch at a time.

    Deterministic: no augmentation, no dropout, no sampling. VlawError for a damaged checkpoint, an episode whose
    frames the judge cannot read, or a judge whose output is not finite.
    """
    judge = load_reward_model(reward_dir)
    device = next(judge.parameters()).device
    total = len(episodes) if isinstance(episodes, Sized) else 0
    scores: list[np.ndarray] = []
    done = 0
    stream = iter(episodes)
    while batch := list(islice(stream, batch_size)):
        frames, states = (tensor.to(device) for tensor in judge.clips(batch))
        with torch.inference_mode():
            part = judge.p_yes(frames, [episode.instruction for episode in batch], states).double().cpu().numpy()
        if not np.isfinite(part).all():
            raise VlawError(
                "the judge's output is not a finite number",
                where=str(reward_dir),
                remedy="The judge's training diverged: materialize the reward model again.",
            )
        scores.append(part)
        done += len(batch)
        if progress is not None:
            progress(done, max(total, done), f"scored {done} episodes")
    return np.concatenate(scores) if scores else np.empty(0, dtype=np.float64)
