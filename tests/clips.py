"""Clips of noise as a robot records them, and replays that resemble them."""

from __future__ import annotations

import dataclasses

import numpy as np
from factories import episode

from vlaw_models.episodes import Episode
from vlaw_models.robots.tabletop.spec import SPEC


def clip(
    index: int, *, task: str = "stack", steps: int = 3, size: int = 64, success: bool = True, event: str = "success"
) -> Episode:
    return episode(
        task,
        index,
        success=success,
        event=event,
        episode_id=f"clip-{index}",
        steps=steps,
        cameras=SPEC.camera_names,
        size=(size, size),
        dims=(5, 5),
        noise=index,
    )


def replay_of(one: Episode, level: int = 20, steps: int | None = None) -> Episode:
    steps = steps or one.num_steps
    noise = np.random.default_rng(one.seed).integers(-level, level + 1, one.images.shape)
    pixels = np.clip(one.images + noise, 0, 255).astype(np.uint8)[: steps + 1]
    pixels[0] = one.images[0]
    return dataclasses.replace(
        one,
        images=pixels,
        states=one.states[: steps + 1],
        actions=one.actions[:steps],
        success=None,
        event="",
        episode_id="",
        start_episode_id=one.episode_id,
    )
