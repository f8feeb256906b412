"""Training data of a world model: frames that were encoded once, and windows of them.

A window is chosen (`Runs`), its frames are read (`LatentEpisodes.stored`, also by another process), and it is put
together where the model is (`windows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from vlaw_models.autoencoders.base import Autoencoder
from vlaw_models.episodes import REWARDS, Episode
from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.sources import Frames, KeptLatents, gather, portable
from vlaw_models.world_models.base import Condition, WorldModel
from vlaw_models.world_models.heads import Targets

SUCCESS_FRAMES = 4
"""Last frames of a success whose reward is 1 where nobody recorded when it was reached."""


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
    """One that encodes when a batch is drawn (`Autoencoder.when_drawn`): what is read are frames then."""
    rewards: torch.Tensor | None = None
    """(N,) float32: whether the task stands accomplished in the frame, 0 or 1 (`frame_rewards`), nan where nobody
    knows; what reward heads learn."""
    commands: torch.Tensor | None = None
    """(N, D) float32: the pose commanded for the frame, where it is another than the one reached; what models with
    heads are told instead of `poses`."""

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def stored(self) -> np.ndarray | Stored:
        """What is read for a batch: numbers of frames (B, F) to (B, F, ...), for `encoded`."""
        return self.latents if isinstance(self.latents, Stored) else self.latents.numpy()

    def encoded(self, found: np.ndarray, chunk: int = 0) -> torch.Tensor:
        """Latents (B, K + H / r, C, V*h, w) of what was read of K context frames and the `chunk` = H that follow."""
        if self.autoencoder is None:
            return torch.from_numpy(found)
        if self.autoencoder.frames_per_latent == 1:
            return self.autoencoder.encode(found)
        before, coming = found[:, : -chunk - 1], self.autoencoder.encode_chunk(found[:, -chunk - 1 :])
        return torch.cat([self.autoencoder.encode(before), coming], dim=1) if before.shape[1] else coming

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


def conditioned(episodes: Sequence[Episode], robot: RobotSpec) -> Sequence[Episode]:
    """The episodes as a world model is told them: poses for states and actions, by the robot's own `motion`; without
    one, these themselves. Frames are not read."""
    if robot.motion is None:
        return episodes
    found = []
    for episode in episodes:
        poses = robot.poses(episode.states)
        found.append(replace(episode, states=poses, actions=poses[1:]))
    return found


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
    rewards = torch.from_numpy(np.concatenate([frame_rewards(episode) for episode in episodes]))
    commands = torch.from_numpy(np.concatenate([_commanded(episode) for episode in episodes]).astype(np.float32))
    first = np.concatenate([[0], np.cumsum([len(episode.images) for episode in episodes])]).astype(np.int64)
    latents: torch.Tensor | Stored
    when_drawn = when_drawn or (autoencoder is not None and autoencoder.frames_per_latent > 1)
    if kept is not None:
        latents = Stored([kept.of(episode) for episode in episodes], first)
    elif when_drawn:
        latents = Stored([episode.images for episode in episodes], first)
    else:
        latents = torch.cat([autoencoder.encode(episode.images).half() for episode in episodes])
    encoder = autoencoder if when_drawn and kept is None else None
    instructions = [episode.instruction for episode in episodes]
    return LatentEpisodes(latents, poses, first, instructions, encoder, rewards, commands)


def frame_rewards(episode: Episode) -> np.ndarray:
    """(T+1,) float32: 1 for a frame in which the task stands accomplished, 0 for others, nan where nobody knows.

    What was recorded with each step (`extra["rewards"]`, by worlds that tell), else by convention from the outcome: a
    failure's are 0; of a success the first is 0, the last `SUCCESS_FRAMES` are 1, and when it was reached in between
    nobody knows. Raises VlawError for rewards outside [0, 1].
    """
    given = episode.extra.get(REWARDS)
    if given is None:
        rewards = np.full(len(episode.states), np.nan if episode.success is None else 0.0, np.float32)
        if episode.success:
            rewards[1:-SUCCESS_FRAMES] = np.nan
            rewards[1:][-SUCCESS_FRAMES:] = 1
        return rewards
    rewards = np.array([0.0, *given], np.float32)
    if len(rewards) != len(episode.states) or not ((rewards >= 0) & (rewards <= 1)).all():
        raise VlawError(
            f"an episode of {episode.num_steps} steps has {len(given)} rewards, or some outside [0, 1]",
            where=f"episode {episode.episode_id or episode.seed} ({episode.task})",
            remedy=f"Give extra[{REWARDS!r}] one number from 0 to 1 for each step.",
        )
    return rewards


def _commanded(episode: Episode) -> np.ndarray:
    """(T+1, D) the pose commanded for each frame; the state's where actions are something else."""
    if episode.actions.shape != (len(episode.states) - 1, episode.states.shape[1]):
        return episode.states
    return np.concatenate([episode.states[:1], episode.actions])


@dataclass(frozen=True)
class Windows:
    """B windows that were chosen, and which frames of theirs are to be read."""

    episodes: np.ndarray
    """(B,) numbers of the episodes."""
    age: np.ndarray
    """(B,) chunks before the current frame that the model has imagined itself, since its run began."""
    frames: np.ndarray
    """(B, K + H) numbers of the frames: of the context and of what is to come."""
    runs: np.ndarray
    """(B,) numbers of the runs that they are of."""
    drop: np.ndarray | None = None
    """(B,) bool: samples whose action and text are hidden."""

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, which: slice) -> Windows:
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        chosen: dict[str, Any] = {name: None if value is None else value[which] for name, value in given.items()}
        return Windows(**chosen)


class Runs:
    """Chooses windows: the next chunk of each of `count` runs, every time it is called.

    A run begins in recorded frames, and each further chunk, `unroll` of them at most, goes on from what the model made
    of those before: what a closed loop shows the model is its own work, and trained on recorded frames alone it never
    learns to keep what is fading. So every pass of the network both imagines and is learned from. With `unroll` = 0
    every window begins in recorded frames.
    """

    def __init__(self, data: LatentEpisodes, model: WorldModel, count: int, rng: np.random.Generator, unroll: int = 0):
        self.data, self.model, self.rng, self.unroll = data, model, rng, unroll
        self.episodes, self.start = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.age, self.left = np.zeros(count, np.int64), np.zeros(count, np.int64)

    def __call__(self) -> Windows:
        ended = self.left == 0
        self.age = np.where(ended, 0, self.age + 1)
        if ended.any():
            self._begin(ended)
        self.left -= 1
        now = self.start + self.age * self.model.chunk
        frames = []
        for episode, step in zip(self.episodes, now, strict=True):
            before, after = self.model.offsets(self.rng)
            steps = np.array([*(step - b for b in before), *(step + a for a in after)])
            frames.append(self.data.nearest(np.full(len(steps), episode), steps))
        probability = self.model.drop_probability
        drop = self.rng.random(len(now)) < probability if probability else None
        return Windows(self.episodes.copy(), self.age.copy(), np.stack(frames), np.arange(len(now)), drop)

    def _begin(self, ended: np.ndarray) -> None:
        """New runs in place of those that have ended: from a frame with a whole chunk after it, uniformly; where the
        model imagines, half of them from an episode's first frame, as rollouts do. An episode shorter than a chunk ends
        in its last frame, repeated; frames before the first are the first."""
        chunk, count = self.model.chunk, int(ended.sum())
        lengths = np.diff(self.data.first)
        usable = np.maximum(lengths - chunk, 1)
        ends = np.cumsum(usable)
        drawn = self.rng.integers(ends[-1], size=count)
        which = np.searchsorted(ends, drawn, side="right")
        start = drawn - (ends[which] - usable[which])
        if self.unroll:
            start[self.rng.random(count) < 0.5] = 0
        self.episodes[ended], self.start[ended] = which, start
        self.left[ended] = np.clip((lengths[which] - 1 - start) // chunk, 1, self.unroll + 1)


class Imagined:
    """What the model made of the chunks of each run so far. No gradient flows through it."""

    def __init__(self, count: int):
        self._frames: list[list[torch.Tensor]] = [[] for _ in range(count)]

    def put(self, context: torch.Tensor, chosen: Windows, model: WorldModel) -> torch.Tensor:
        """The context (B, K, C, h, w) with imagined frames in the place of those after a run's beginning."""
        before, _ = model.offsets()
        context = context.clone()
        for row, (run, chunks) in enumerate(zip(chosen.runs, chosen.age, strict=True)):
            frames = self._frames[run]
            for place, offset in enumerate(before):
                step = int(chunks) * model.chunk - offset
                if 0 < step <= len(frames):
                    context[row, place] = frames[step - 1]
        return context

    def state_dict(self) -> list[list[torch.Tensor]]:
        return self._frames

    def load_state_dict(self, state: list[list[torch.Tensor]]) -> None:
        self._frames = state

    def keep(self, made: torch.Tensor, chosen: Windows) -> None:
        """The chunk (B, H, C, h, w) that was made of each window."""
        for run, chunks, chunk in zip(chosen.runs, chosen.age, made.detach().clone(), strict=True):
            frames = self._frames[run]
            if chunks == 0:
                frames.clear()
            frames.extend(chunk.unbind(0))


def windows(
    data: LatentEpisodes, model: WorldModel, chosen: Windows, found: np.ndarray, imagined: Imagined | None = None
) -> tuple[torch.Tensor, Condition]:
    """The windows that were chosen: future (B, H, C, h, w) and its condition.

    Args:
        found: `data.stored[chosen.frames]`.
        imagined: of these runs, where they are longer than a chunk.
    """
    latents = data.encoded(found, model.chunk).float().to(model.device)
    text = model.embed_text([data.instructions[episode] for episode in chosen.episodes])
    text = None if text is None else text.to(model.device)
    drop = None if chosen.drop is None else torch.from_numpy(chosen.drop).to(model.device)
    numbers = torch.from_numpy(chosen.frames)
    poses = data.poses[numbers]
    if model.heads is not None and data.commands is not None:
        poses[:, -model.chunk :] = data.commands[numbers[:, -model.chunk :]]
    coming = model.chunk // model.frames_per_latent
    context, future = latents.split((latents.shape[1] - coming, coming), dim=1)
    if imagined is not None:
        context = imagined.put(context, chosen, model)
    words = model.read_words([data.instructions[episode] for episode in chosen.episodes])
    return future, Condition(context, poses.to(model.device), text, drop, words)


def targets(data: LatentEpisodes, model: WorldModel, chosen: Windows) -> Targets | None:
    """What the heads are to tell of these windows; None for a model without."""
    if model.heads is None:
        return None
    coming = torch.from_numpy(chosen.frames[:, -model.chunk :])
    rewards = torch.full(coming.shape, torch.nan) if data.rewards is None else data.rewards[coming]
    return Targets(rewards.to(model.device), data.poses[coming].to(model.device))
