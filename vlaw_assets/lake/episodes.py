"""Episodes as table rows, and their content digest. How pixels are stored is in `frames.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlaw_assets.lake.durable import canonical_json
from vlaw_assets.lake.frames import Frame, camera_names, content_of
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError


def check_episode(episode: Episode, *, where: str) -> None:
    """Raises VlawError if the arrays disagree with each other or hold a value that is not finite."""
    steps = episode.num_steps
    wrong = None
    if episode.images.ndim != 5 or episode.images.dtype != np.uint8 or episode.images.shape[-1] != 3:
        wrong = f"images are {episode.images.dtype} {episode.images.shape}, must be uint8 (T', V, height, width, 3)"
    elif episode.cameras and len(episode.cameras) != episode.images.shape[1]:
        wrong = f"{len(episode.cameras)} named cameras for {episode.images.shape[1]} views"
    elif not episode.control_hz > 0:
        wrong = f"control_hz is {episode.control_hz}"
    elif len(episode.images) > steps + 1:
        wrong = f"{len(episode.images)} images for {steps} steps"
    elif episode.states.ndim != 2 or len(episode.states) != steps + 1:
        wrong = f"states are {episode.states.shape}, must be ({steps + 1}, D)"
    elif episode.actions.ndim != 2:
        wrong = f"actions are {episode.actions.shape}, must be (T, A)"
    elif not (np.isfinite(episode.states).all() and np.isfinite(episode.actions).all()):
        wrong = "states or actions hold NaN or infinity"
    if wrong:
        raise VlawError(f"not an episode: {wrong}", where=where, remedy="mend what made it; nothing was written")


def content_digest(episode: Episode, context: dict[str, Any], stored: Sequence[Frame]) -> str:
    """sha256 over what is stored of the episode: scalars, camera names, times, states, actions, frames. Ids and runs
    are left out.

    Frames as `frames.content_of` gives them: pixels where they are stored without loss, encoded bytes where they are
    not.
    """
    scalars = context | {
        "task": episode.task,
        "instruction": episode.instruction,
        "seed": int(episode.seed),
        "success": None if episode.success is None else bool(episode.success),
        "event": episode.event,
        **({} if episode.nearness is None else {"nearness": float(episode.nearness)}),
        "start_episode_id": episode.start_episode_id,
        "extra": episode.extra,
        "cameras": list(camera_names(episode)),
        "shapes": [list(array.shape) for array in (episode.images, episode.states, episode.actions)],
    }
    total = hashlib.sha256(canonical_json(scalars).encode())
    total.update(timestamps(episode).astype("<f8").tobytes())
    for array in (episode.states, episode.actions):
        total.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    for part in content_of(stored, np.asarray(episode.images)):
        total.update(part)
    return total.hexdigest()


def episode_row(
    episode: Episode,
    stored: Sequence[Frame],
    *,
    purpose: str,
    world: str | None,
    policy: str | None,
    world_model: str | None,
    label_source: str | None,
    where: str,
) -> dict[str, Any]:
    """Row of the table `episodes` without ids, owner and time, of a sound episode and its frames as they are stored.

    Raises VlawError for an `extra` that is not plain JSON.
    """
    judged = episode.success is not None
    context = {
        "purpose": purpose,
        "world": world,
        "policy": policy,
        "world_model": world_model,
        "label_source": label_source if label_source is not None else ("world" if judged else ""),
    }
    try:
        extra_json, digest = canonical_json(episode.extra), content_digest(episode, context, stored)
    except (TypeError, ValueError) as error:
        raise VlawError(
            f"episode.extra is not plain JSON: {error}", where=where, remedy="use finite float, int, str, list, dict"
        ) from error
    count, _, height, width, _ = episode.images.shape
    return context | {
        "task": episode.task,
        "instruction": episode.instruction,
        "seed": int(episode.seed),
        "start_episode_id": episode.start_episode_id,
        "num_steps": episode.num_steps,
        "success": bool(episode.success) if judged else None,
        "event": episode.event,
        "nearness": None if episode.nearness is None else float(episode.nearness),
        "num_frames": count,
        "cameras": list(camera_names(episode)),
        "height": height,
        "width": width,
        "extra_json": extra_json,
        "content_digest": digest,
    }


def timestamps(episode: Episode) -> np.ndarray:
    """(T+1,) seconds from the episode's beginning, float64."""
    return np.arange(episode.num_steps + 1) / episode.control_hz
