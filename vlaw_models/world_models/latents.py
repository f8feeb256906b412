"""Training data of a world model: frames that were encoded once, and windows of them.

A window is chosen (`choose_windows`), its frames are read (`LatentEpisodes.stored`, also by another process), and it is
put together where the model is (`windows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vlaw_models.autoencoders.base import Autoencoder
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.sources import Frames, KeptLatents, gather, portable
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition, WorldModel


@dataclass
class LatentEpisodes:
    """E episodes with N frames in all, one after the other."""

    latents: torch.Tensor | Stored
    """(N, C, V*h, w) float16, normalised and stacked; or where they are read when they are drawn."""
    poses: torch.Tensor
    """(N, D) float32: the pose commanded when the frame was taken."""
    first: np.ndarray
    """(E + 1,) int64: episode e holds frames first[e] .. first[e + 1] - 1."""
    instructions: list[str]
    autoencoder: Autoencoder | None = None
    """One that costs nothing: what is read are frames then, and it encodes them."""

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def stored(self) -> np.ndarray | Stored:
        """What is read for a batch: numbers of frames (B, F) to (B, F, ...), for `encoded`."""
        return self.latents if isinstance(self.latents, Stored) else self.latents.numpy()

    def encoded(self, found: np.ndarray) -> torch.Tensor:
        """Latents (B, F, C, V*h, w) of what was read."""
        return torch.from_numpy(found) if self.autoencoder is None else self.autoencoder.encode(found)

    def nearest(self, episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Numbers of the frames of (B,) episodes at these steps, or the nearest to them that were recorded."""
        return self.first[episodes] + np.clip(steps, 0, np.diff(self.first)[episodes] - 1)


class Stored:
    """One array per episode, or what is read as one, by numbers of frames counted through all episodes."""

    def __init__(self, arrays: Sequence[np.ndarray | Frames], first: np.ndarray):
        self.arrays, self.first = arrays, first

    @property
    def portable(self) -> bool:
        """Whether other processes can read them."""
        return portable(self.arrays)

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """(B, F) numbers of frames to (B, F, ...)."""
        frames = index.ravel()
        which = np.searchsorted(self.first, frames, side="right") - 1
        found = gather(self.arrays, list(zip(which.tolist(), (frames - self.first[which]).tolist(), strict=True)))
        return found.reshape(*index.shape, *found.shape[1:])


def encode_episodes(
    autoencoder: Autoencoder,
    episodes: Sequence[Episode],
    *,
    when_drawn: bool = False,
    kept: KeptLatents | None = None,
) -> LatentEpisodes:
    """Latents of every frame: those that are kept, else encoded, once or `when_drawn`.

    Raises VlawError for no episodes, poses that are not finite, and an episode without kept latents.
    """
    if not episodes:
        raise VlawError(
            "there are no episodes to learn from", where="world-model data", remedy="Collect or import episodes first."
        )
    for episode in episodes:
        if len(episode.images) != len(episode.states) or not np.isfinite(episode.states).all():
            raise VlawError(
                "an episode's states do not match its frames or are not finite",
                where=f"episode {episode.episode_id or episode.seed} ({episode.task})",
                remedy="Import or collect the episode again.",
            )
    poses = torch.from_numpy(np.concatenate([episode.states for episode in episodes]).astype(np.float32))
    first = np.concatenate([[0], np.cumsum([len(episode.images) for episode in episodes])]).astype(np.int64)
    latents: torch.Tensor | Stored
    if kept is not None:
        latents = Stored([kept.of(episode) for episode in episodes], first)
    elif when_drawn:
        latents = Stored([episode.images for episode in episodes], first)
    else:
        latents = torch.cat([autoencoder.encode(episode.images).half() for episode in episodes])
    encoder = autoencoder if when_drawn and kept is None else None
    return LatentEpisodes(latents, poses, first, [episode.instruction for episode in episodes], encoder)


@dataclass(frozen=True)
class Windows:
    """B windows that were chosen, and which frames of theirs are to be read."""

    episodes: np.ndarray
    """(B,) numbers of the episodes."""
    start: np.ndarray
    """(B,) steps of the current frames; where the model imagines, of the frames from which it starts."""
    frames: np.ndarray
    """(B, F) numbers of the frames: of the context and of what is to come, or of `steps_read`."""
    drop: np.ndarray | None = None
    """(B,) bool: samples whose action and text are hidden."""
    chunks: int = 0
    """How many the model imagines itself before the current frame."""


def choose_windows(
    data: LatentEpisodes, model: WorldModel, count: int, rng: np.random.Generator, *, chunks: int = 0
) -> Windows:
    """`count` random windows, for `windows`, which begin with `chunks` chunks that the model will have imagined.

    The start is uniform over the frames that have the whole chunks after them (an episode shorter than they are ends in
    its last frame, repeated); frames before the first are the first.
    """
    usable = np.maximum(np.diff(data.first) - (chunks + 1) * model.chunk, 1)
    ends = np.cumsum(usable)
    drawn = rng.integers(ends[-1], size=count)
    which = np.searchsorted(ends, drawn, side="right")
    start = drawn - (ends[which] - usable[which])
    if chunks:
        read = [data.nearest(which, start + step) for step in steps_read(model, chunks)]
        return Windows(which, start, np.stack(read, axis=1), chunks=chunks)
    frames = []
    for episode, now in zip(which, start, strict=True):
        before, after = model.offsets(rng)
        steps = np.array([*(now - b for b in before), *(now + a for a in after)])
        frames.append(data.nearest(np.full(len(steps), episode), steps))
    drop = rng.random(count) < model.drop_probability if model.drop_probability else None
    return Windows(which, start, np.stack(frames), drop)


def steps_read(model: WorldModel, chunks: int) -> list[int]:
    """The recorded frames, as steps after the start, that are needed where the model imagines `chunks` chunks."""
    before, after = model.offsets()
    context = {chunk * model.chunk - offset for chunk in range(chunks + 1) for offset in before}
    return sorted({step for step in context if step <= 0} | {chunks * model.chunk + step for step in after})


def windows(
    data: LatentEpisodes, model: WorldModel, chosen: Windows, found: np.ndarray, generator: torch.Generator
) -> tuple[torch.Tensor, Condition]:
    """The windows that were chosen: future (B, H, C, h, w) and its condition.

    Args:
        found: `data.stored[chosen.frames]`.
        generator: of the noise from which the model imagines.
    """
    latents = data.encoded(found).float().to(model.device)
    text = model.embed_text([data.instructions[episode] for episode in chosen.episodes])
    text = None if text is None else text.to(model.device)
    if chosen.chunks:
        return _unrolled(data, model, chosen, latents, text, generator)
    context = chosen.frames.shape[1] - model.chunk
    drop = None if chosen.drop is None else torch.from_numpy(chosen.drop).to(model.device)
    poses = data.poses[torch.from_numpy(chosen.frames)].to(model.device)
    return latents[:, context:], Condition(latents[:, :context], poses, text, drop)


def _unrolled(
    data: LatentEpisodes,
    model: WorldModel,
    chosen: Windows,
    latents: torch.Tensor,
    text: torch.Tensor | None,
    generator: torch.Generator,
) -> tuple[torch.Tensor, Condition]:
    """Windows whose frames up to the current one the model itself imagines, from recorded ones.

    What a closed loop shows the model is its own work: trained on recorded frames alone it never learns to keep what is
    fading, or to take it back from the first frame. No gradient flows through what it imagined.
    """
    before, after = model.offsets()
    recorded = dict(zip(steps_read(model, chosen.chunks), latents.unbind(1), strict=True))
    imagined: list[torch.Tensor] = []

    def condition(now: int) -> Condition:
        context = [imagined[now - offset - 1] if now - offset > 0 else recorded[now - offset] for offset in before]
        steps = [now + step for step in (*(-offset for offset in before), *after)]
        frames = np.stack([data.nearest(chosen.episodes, chosen.start + step) for step in steps], axis=1)
        return Condition(torch.stack(context, dim=1), data.poses[torch.from_numpy(frames)].to(model.device), text)

    training = model.training
    model.eval()
    for chunk in range(chosen.chunks):
        imagined += edm.sample(model, condition(chunk * model.chunk), steps=1, generator=generator).unbind(1)
    model.train(training)
    now = chosen.chunks * model.chunk
    return torch.stack([recorded[now + step] for step in after], dim=1), condition(now)
