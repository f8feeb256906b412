"""Imagined rollouts, and replays of recorded actions, inside a world model.

Here: the two stages (VLAW Algorithm 1, line 6; the protocol of the paper's Table 1). Not here: the loop (rollout.py),
the judging of what was imagined (score.py), picture metrics (metrics/video.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vlaw_models.checkpoint import load_checkpoint
from vlaw_models.config import ImagineConfig, WorldModelMetricsConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.rollout import rollout
from vlaw_models.world_models.autoencoder import load_autoencoder
from vlaw_models.world_models.base import load_world_model
from vlaw_models.worlds.imagined import ImaginedWorld

Progress = Callable[[int, int, str], None]


def imagine(
    policy_dir: Path,
    world_model_dir: Path,
    autoencoder_dir: Path,
    starts: list[Start],
    cfg: ImagineConfig,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[list[Episode]]:
    """Rolls the policy out inside the world model from recorded first frames; yields batches in the order of `starts`.

    Episodes have success None, `start_episode_id` set and images[0] equal to the start's frame. The models are loaded
    (and their errors raised, as VlawError) before the first batch is asked for.
    """
    policy = load_checkpoint(policy_dir)
    model, autoencoder = load_world_model(world_model_dir), load_autoencoder(autoencoder_dir)
    if cfg.batch_size < 1 or cfg.sampling_steps < 1:
        raise VlawError("batch_size and sampling_steps must be at least 1", where="imagine", remedy="Mend the recipe.")

    def batches() -> Iterator[list[Episode]]:
        for begin in range(0, len(starts), cfg.batch_size):
            part = starts[begin : begin + cfg.batch_size]
            world_seed, policy_seed = batch_seeds(seed, begin)
            world = ImaginedWorld(model, autoencoder, sampling_steps=cfg.sampling_steps, seed=world_seed)
            yield rollout(
                policy, world, part, num_steps=cfg.num_steps, seed=policy_seed, noise_scale=cfg.noise_scale
            )
            if progress is not None:
                progress(begin + len(part), len(starts), "imagined episodes")

    return batches()


def replay(
    world_model_dir: Path,
    autoencoder_dir: Path,
    episodes: Sequence[Episode],
    cfg: WorldModelMetricsConfig,
    *,
    seed: int,
    batch_size: int = 100,
) -> list[Episode]:
    """The recorded poses of each episode, at most cfg.num_steps, executed in the world model from its first frame.

    Returns one episode per input, in order, as long as its recording (or cfg.num_steps); success None,
    `start_episode_id` set. Actions are taken as they were executed: nothing is clipped again.
    """
    model, autoencoder = load_world_model(world_model_dir), load_autoencoder(autoencoder_dir)
    results: list[Episode] = []
    for begin in range(0, len(episodes), batch_size):
        part = episodes[begin : begin + batch_size]
        lengths = [min(e.num_steps, cfg.num_steps) for e in part]
        world = ImaginedWorld(model, autoencoder, sampling_steps=cfg.sampling_steps, seed=batch_seeds(seed, begin)[0],
                              clip=None)
        first = world.reset([Start(e.task, e.seed, e.instruction, e.images[0], e.states[0], e.episode_id) for e in part])
        # Shorter recordings hold their last pose until the longest is over; the surplus is cut off below.
        steps = np.minimum(np.arange(1, max(lengths) + 1), np.array(lengths)[:, None])
        poses = np.stack([e.states[index] for e, index in zip(part, steps, strict=True)])
        moved = world.step(poses)
        for i, (episode, length) in enumerate(zip(part, lengths, strict=True)):
            results.append(
                Episode(
                    task=episode.task,
                    instruction=episode.instruction,
                    seed=episode.seed,
                    images=np.concatenate([first.images[i][None], moved.images[i, :length]]),
                    states=np.concatenate([first.state[i][None], moved.states[i, :length]]),
                    actions=moved.actions[i, :length],
                    start_episode_id=episode.episode_id,
                )
            )
    return results


def batch_seeds(seed: int, begin: int) -> tuple[int, int]:
    """Seeds of the world's and the policy's noise for the batch that begins at index `begin`."""
    world, policy = np.random.SeedSequence([seed, begin]).generate_state(2, np.uint32)
    return int(world), int(policy)
