"""Training data of a world model: frames that were encoded once, windows drawn from them.

Here: the encoded episodes and the random choice of windows. Not here: the objective, the optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vlaw_models.autoencoders.base import Autoencoder
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.sources import Frames, KeptLatents, gather
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition, WorldModel


@dataclass
class LatentEpisodes:
    """E episodes with N frames in all, one after the other."""

    latents: torch.Tensor | WhenDrawn
    """(N, C, V*h, w) float16, normalised and stacked; or read, or encoded, when they are drawn."""
    poses: torch.Tensor
    """(N, D) float32: the pose commanded when the frame was taken."""
    first: np.ndarray
    """(E + 1,) int64: episode e holds frames first[e] .. first[e + 1] - 1."""
    instructions: list[str]

    def __len__(self) -> int:
        return len(self.first) - 1


class WhenDrawn:
    """Latents that are read each time they are drawn, or frames that are then encoded: by an autoencoder that costs
    nothing."""

    def __init__(self, kept: Sequence[np.ndarray | Frames], first: np.ndarray, autoencoder: Autoencoder | None = None):
        """`kept`: one array per episode; of frames where they are to be encoded."""
        self.kept, self.first, self.autoencoder = kept, first, autoencoder

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        """(B, F) numbers of frames to (B, F, C, V*h, w)."""
        frames = index.flatten().numpy()
        which = np.searchsorted(self.first, frames, side="right") - 1
        pairs = list(zip(which.tolist(), (frames - self.first[which]).tolist(), strict=True))
        found = gather(self.kept, pairs)
        latents = torch.from_numpy(found) if self.autoencoder is None else self.autoencoder.encode(found)
        return latents.unflatten(0, tuple(index.shape))


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
    latents: torch.Tensor | WhenDrawn
    if kept is not None:
        latents = WhenDrawn([kept.of(episode) for episode in episodes], first)
    elif when_drawn:
        latents = WhenDrawn([episode.images for episode in episodes], first, autoencoder)
    else:
        latents = torch.cat([autoencoder.encode(episode.images).half() for episode in episodes])
    return LatentEpisodes(latents, poses, first, [episode.instruction for episode in episodes])


def draw_windows(
    data: LatentEpisodes, model: WorldModel, count: int, rng: np.random.Generator
) -> tuple[torch.Tensor, Condition]:
    """`count` random windows: future (B, H, C, h, w) and its condition.

    The current frame is uniform over the frames that have a whole chunk after them (an episode shorter than a chunk
    ends in its last frame, repeated); frames before the first are the first.
    """
    lengths = np.diff(data.first)
    usable = np.maximum(lengths - model.chunk, 1)
    ends = np.cumsum(usable)
    drawn = rng.integers(ends[-1], size=count)
    which = np.searchsorted(ends, drawn, side="right")
    now = drawn - (ends[which] - usable[which])
    frames = []
    for episode, t in zip(which, now, strict=True):
        before, after = model.offsets(rng)
        local = np.clip([*(t - b for b in before), *(t + a for a in after)], 0, lengths[episode] - 1)
        frames.append(data.first[episode] + local)
    index = torch.from_numpy(np.stack(frames))
    latents, context = data.latents[index].float().to(model.device), index.shape[1] - model.chunk
    drop = torch.from_numpy(rng.random(count) < model.drop_probability) if model.drop_probability else None
    text = model.embed_text([data.instructions[e] for e in which])
    condition = Condition(
        context=latents[:, :context],
        poses=data.poses[index].to(model.device),
        text=None if text is None else text.to(model.device),
        drop=None if drop is None else drop.to(model.device),
    )
    return latents[:, context:], condition


def draw_unrolled(
    data: LatentEpisodes,
    model: WorldModel,
    count: int,
    rng: np.random.Generator,
    *,
    chunks: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, Condition]:
    """Like `draw_windows`, but the model itself has imagined `chunks` chunks up to the current frame, from recorded
    ones.

    What a closed loop shows the model is its own work: trained on recorded frames alone it never learns to keep what is
    fading, or to take it back from the first frame. No gradient flows through what it imagined.
    """
    lengths, reach = np.diff(data.first), model.chunk
    usable = np.maximum(lengths - (chunks + 1) * reach, 1)
    ends = np.cumsum(usable)
    drawn = rng.integers(ends[-1], size=count)
    which = np.searchsorted(ends, drawn, side="right")
    start, last = drawn - (ends[which] - usable[which]), lengths[which] - 1
    before, after = model.offsets()
    text = model.embed_text([data.instructions[e] for e in which])
    text = None if text is None else text.to(model.device)
    imagined: list[torch.Tensor] = []

    def recorded(offset: int) -> torch.Tensor:
        """(B, 1) numbers of the frames `offset` after the starts, or the nearest that were recorded."""
        return torch.from_numpy(data.first[which] + np.clip(start + offset, 0, last))[:, None]

    def condition(now: int) -> Condition:
        context = torch.stack(
            [
                imagined[now - offset - 1]
                if now - offset > 0
                else data.latents[recorded(now - offset)][:, 0].float().to(model.device)
                for offset in before
            ],
            dim=1,
        )
        index = torch.cat([recorded(now + step) for step in (*(-offset for offset in before), *after)], dim=1)
        return Condition(context, data.poses[index].to(model.device), text)

    training = model.training
    model.eval()
    for chunk in range(chunks):
        imagined += edm.sample(model, condition(chunk * reach), steps=1, generator=generator).unbind(1)
    model.train(training)
    now = chunks * reach
    index = torch.cat([recorded(now + step) for step in after], dim=1)
    return data.latents[index].float().to(model.device), condition(now)
