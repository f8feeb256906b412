"""Replays of recorded actions inside a world model (the protocol of the paper's Table 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.config import WorldModelMetricsConfig
from vlaw_models.episodes import REWARDS, Episode, Start
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.sources import KeptLatents
from vlaw_models.spread import Batches, Spread, here
from vlaw_models.world_models.base import load_world_model
from vlaw_models.world_models.imagined_world import ImaginedWorld, batch_seeds

BATCH = 8
"""Episodes replayed together; they take more memory than anything else that a stage holds."""


def replay(
    world_model_dir: Path,
    autoencoder_dir: Path,
    episodes: Sequence[Episode],
    cfg: WorldModelMetricsConfig,
    *,
    robot: RobotSpec,
    seed: int,
    latents: KeptLatents | None = None,
    batch_size: int = BATCH,
    spread: Spread = here,
) -> Iterator[list[Episode]]:
    """The recorded states of each episode, at most cfg.num_steps, as poses executed in the world model from its first
    frame.

    Yields batches of one episode per input, in order, as long as its recording (or cfg.num_steps); success None,
    `start_episode_id` set, and in extra["rewards"] what the world model predicts, if it does. Actions are taken as they
    were executed: nothing is clipped again. `latents`: those of the episodes' frames, where they were encoded before.
    A batch depends on no other, so `spread` may take them elsewhere.
    """
    yield from spread(
        replaying,
        {"world_model": world_model_dir, "autoencoder": autoencoder_dir},
        {"config": cfg, "robot": robot, "seed": seed},
        _Clips(episodes, batch_size, latents),
    )


class _Clips(Batches):
    """What a replay needs of recorded episodes: their states and actions, and of their frames the first; its latents
    beside, where they are known."""

    def __init__(self, episodes: Sequence[Episode], size: int, latents: KeptLatents | None):
        super().__init__(episodes, size)
        self._latents = latents

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        clips = [replace(episode, images=episode.images[:1]) for episode in part["items"]]
        known = [self._latents.of(episode)[0] for episode in part["items"]] if self._latents else None
        return {**part, "items": clips, "latents": known}


def replaying(inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], list[Episode]]:
    """The heavy part of `replay`: a batch of recorded episodes -> their replays."""
    cfg: WorldModelMetricsConfig = settings["config"]
    robot: RobotSpec = settings["robot"]
    model, autoencoder = load_world_model(inputs["world_model"]), load_autoencoder(inputs["autoencoder"])

    def batch(given: Mapping[str, Any]) -> list[Episode]:
        part, latents = given["items"], given["latents"]
        lengths = [min(e.num_steps, cfg.num_steps) for e in part]
        world = ImaginedWorld(
            model,
            autoencoder,
            robot,
            sampling=cfg.sampling,
            seed=batch_seeds(settings["seed"], given["begin"])[0],
            clips=False,
        )
        first = world.reset(
            [
                Start(
                    e.task,
                    e.seed,
                    e.instruction,
                    e.images[0],
                    e.states[0],
                    e.episode_id,
                    latents[number] if latents else None,
                )
                for number, e in enumerate(part)
            ]
        )
        # Shorter recordings hold their last pose until the longest is over; the surplus is cut off below.
        steps = np.minimum(np.arange(1, max(lengths) + 1), np.array(lengths)[:, None])
        states = np.stack([e.states[index] for e, index in zip(part, steps, strict=True)])
        moved = world.step(states)
        return [
            Episode(
                task=episode.task,
                instruction=episode.instruction,
                seed=episode.seed,
                images=np.concatenate([first.images[i][None], moved.images[i, :length]]),
                states=np.concatenate([first.state[i][None], moved.states[i, :length]]),
                actions=moved.actions[i, :length] if robot.motion is None else episode.actions[:length],
                extra={} if moved.reward is None else {REWARDS: moved.reward[i, :length].round(4).tolist()},
                start_episode_id=episode.episode_id,
                cameras=robot.camera_names,
                control_hz=robot.control_hz,
            )
            for i, (episode, length) in enumerate(zip(part, lengths, strict=True))
        ]

    return batch
