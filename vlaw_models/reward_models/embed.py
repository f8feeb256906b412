"""Embeddings of episodes: what a judge sees in them, as vectors of length 1 that can be compared by their angle.

The judge's features (`RewardModel.features`), of the frames it samples for scoring. Why the judge: its features were
learned to tell what matters for the tasks (what stands on what), and it reads real and imagined frames alike. Vectors
of different judges are not comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.reward_models.base import RewardModel, frame_indices, load_reward_model
from vlaw_models.threads import on_threads

BATCH = 16
"""Episodes embedded at once."""


def embed_episodes(
    judge_dir: Path | str | RewardModel,
    episodes: Iterable[Episode],
    *,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> np.ndarray:
    """One vector per episode in the order given, (N, D) float32 of Euclidean length 1; N may be 0, then D is 0.

    `judge_dir` is a checkpoint folder, or a judge already loaded. An episode may hold all its frames, or only those of
    `steps_seen`. Deterministic: no augmentation, no dropout. Episodes are read one batch at a time; small batches are
    quicker on a CPU. VlawError for a damaged checkpoint, an episode whose frames the judge cannot read, and features
    that are not finite or all zero.
    """
    judge = judge_dir if isinstance(judge_dir, RewardModel) else load_reward_model(judge_dir)
    device = next(judge.parameters()).device
    total = len(episodes) if isinstance(episodes, Sized) else 0
    vectors: list[np.ndarray] = []
    done = 0
    stream = iter(episodes)
    while batch := list(islice(stream, batch_size)):
        frames, states = (tensor.to(device) for tensor in judge.clips([_whole(judge, episode) for episode in batch]))
        # These pictures are small: on two busy cores a second thread cost 4 x the CPU time and 5 x the wall time.
        with torch.inference_mode(), on_threads(1):
            part = judge.features(frames, [episode.instruction for episode in batch], states).double().cpu().numpy()
        lengths = np.linalg.norm(part, axis=1, keepdims=True)  # NaN and infinity in a vector show in its length
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise VlawError(
                "the judge's features are not finite, or all zero",
                where=str(judge_dir)[:200],
                remedy="The judge's training diverged: use another reward model.",
            )
        vectors.append((part / lengths).astype(np.float32))
        done += len(batch)
        if progress is not None:
            progress(done, max(total, done), f"embedded {done} episodes")
    return np.concatenate(vectors) if vectors else np.empty((0, 0), dtype=np.float32)


def embedding(inputs: Mapping[str, Path], _settings: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """The heavy part of many embeddings (spread.py): a batch of episodes -> their vectors."""
    judge = load_reward_model(inputs["reward_model"])
    return lambda part: embed_episodes(judge, part["items"])


def steps_seen(num_frames: int, num_steps: int) -> list[int]:
    """The steps whose frames a judge of `num_frames` looks at in an episode of `num_steps` steps, ascending, each
    once."""
    return sorted(set(frame_indices(num_steps + 1, num_frames).tolist()))


def _whole(judge: RewardModel, episode: Episode) -> Episode:
    """The episode with a frame at every step; where only `steps_seen` were loaded, the others are blank (never
    read)."""
    length = episode.num_steps + 1
    if len(episode.images) == length:
        return episode
    seen = steps_seen(judge.num_frames, episode.num_steps)
    if len(episode.images) != len(seen):
        raise VlawError(
            f"the episode has {len(episode.images)} frames for {episode.num_steps} steps",
            where=f"episode {episode.episode_id or episode.seed} of task {episode.task}",
            remedy="Embed episodes recorded with a frame at every step.",
        )
    images = np.zeros((length, *episode.images.shape[1:]), episode.images.dtype)
    images[seen] = episode.images
    return replace(episode, images=images)
