"""What every reward model ("judge") shares: which frames it sees, which question it is asked, how yes/no logits become
P(yes). The threshold alpha is applied by whoever reads the scores.

Dimensions: B batch, F frames of a clip, V cameras of the judge.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from vlaw_models import checkpoint
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.reward_models.registry import REWARD_MODELS
from vlaw_models.robots.spec import RobotSpec

YES, NO = 0, 1
"""Order of the two answers in every judge's logits."""

LATE_POWER = 1.7
"""How strongly frames crowd towards the end of an episode, where success is decided; 1 would be even spacing."""

QUESTION = 'Is the task "{instruction}" completed successfully?'


class RewardModel(nn.Module, ABC):
    """A reward model. Subclasses set `cameras`, `num_frames` and `image_size` in their constructor."""

    config_class: ClassVar[type]
    """The dataclass of a preset's sizes."""
    cameras: tuple[str, ...]
    num_frames: int
    image_size: int | tuple[int, int]
    """Of the episodes' frames, pixels: one number for square ones, else height and width."""
    autocast = True
    """Whether training computes in bfloat16 where that is allowed; False where the weights' own type decides."""

    reads_times = False
    """True where `forward` also takes `times`, (B, F) seconds of the frames since the episode's first: otherwise it is
    not told them."""

    @property
    def frozen_eyes(self) -> bool:
        """True where only what comes after `frame_features` learns: then training encodes each frame once
        (`answer_features`)."""
        return False

    @abstractmethod
    def forward(self, frames: Tensor, instructions: Sequence[str], states: Tensor | None = None) -> Tensor:
        """Logits (B, 2), yes first, for frames (B, F, V, h, w, 3) in [0, 255] (uint8 or float) and B instructions.

        `states`: the robot's pose at every frame, (B, F, D); a judge may leave them out of account."""

    @abstractmethod
    def features(self, frames: Tensor, instructions: Sequence[str], states: Tensor | None = None) -> Tensor:
        """Features of the frames, the same whatever is asked about them, (B, D) float32."""

    def frame_features(self, frames: Tensor, instructions: Sequence[str]) -> Tensor:
        """The frozen encoder's features of each frame, (B, F, E); any F."""
        raise NotImplementedError

    def answer_features(self, features: Tensor, states: Tensor | None) -> Tensor:
        """`forward` from the `frame_features` of `num_frames` frames."""
        raise NotImplementedError

    @classmethod
    def of_robot(cls, robot: RobotSpec, roles: Sequence[str] | None = None) -> dict[str, Any]:
        """The fields of the configuration that follow from the robot: its cameras (the first of each of `roles`, else
        all), and pose range and frame size where the class has them. VlawError for a robot with none of the cameras."""
        cameras = robot.camera_names if roles is None else robot.cameras_of(roles)
        low, high = robot.state.scale
        found = {"cameras": check_cameras(cameras, where=f"robot {robot.name!r}"), "pose_low": low, "pose_high": high}
        if robot.frame_size is not None:
            found["image_size"] = robot.frame_size
        return {key: value for key, value in found.items() if key in {field.name for field in fields(cls.config_class)}}

    @abstractmethod
    def lora_targets(self) -> list[str]:
        """Names of the linear layers that LoRA adapts, as they appear in `named_modules`."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Writes the judge as a checkpoint folder and returns it."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> RewardModel:
        """Reads what `save` wrote; VlawError for a damaged or foreign folder."""

    def p_yes(self, frames: Tensor, instructions: Sequence[str], states: Tensor | None = None, **told: Any) -> Tensor:
        """P(yes) (B,): the softmax over the logits of the two answers only, so yes and no sum to one. `told`:
        `times_of`."""
        return self(frames, instructions, states, **told).float().softmax(-1)[:, YES]

    def times_of(self, steps: Sequence[np.ndarray], rates: Sequence[float]) -> dict[str, Tensor]:
        """What `forward` is told of the times of frames: numbers (F,) of each clip's frames, and its episode's control
        steps per second. Nothing for a judge that does not read them."""
        if not self.reads_times:
            return {}
        seconds = [np.asarray(own, np.float64) / rate for own, rate in zip(steps, rates, strict=True)]
        return {"times": torch.from_numpy(np.stack(seconds))}

    def clip_times(self, episodes: Sequence[Episode]) -> dict[str, Tensor]:
        """`times_of` of what `clips` gives."""
        steps = [frame_indices(len(episode.images), self.num_frames) for episode in episodes]
        return self.times_of(steps, [episode.control_hz for episode in episodes])

    def clips(self, episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
        """What the judge looks at in each episode, as tensors: frames (B, F, V, h, w, 3) uint8 and the robot's states
        there (B, F, D) float32. VlawError for an episode that it cannot look at."""
        frames, states = [], []
        for episode in episodes:
            views = self.views_of(episode)
            steps = frame_indices(len(episode.images), self.num_frames)
            frames.append(episode.images[steps][:, views])
            states.append(np.asarray(episode.states, dtype=np.float32)[steps])
        return torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(states))

    def pictures(self, episode: Episode) -> np.ndarray:
        """All frames of an episode from this judge's cameras, (T+1, V, h, w, 3) uint8. VlawError for an episode that it
        cannot look at."""
        return episode.images[:, self.views_of(episode)]

    def views_of(self, episode: Episode) -> list[int]:
        """The numbers of this judge's cameras among an episode's. VlawError for frames of another robot or size."""
        images = episode.images
        where = f"episode {episode.episode_id or episode.seed} of task {episode.task}"
        if images.ndim != 5 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise VlawError(
                f"the episode's images are {images.shape} {images.dtype}",
                where=where,
                remedy="Give (T+1, V, height, width, 3) uint8 frames of every step.",
            )
        missing = [name for name in self.cameras if name not in episode.cameras]
        if missing or images.shape[1] != len(episode.cameras):
            raise VlawError(
                f"this judge looks at {', '.join(self.cameras)}; the episode has {images.shape[1]} views: "
                f"{', '.join(episode.cameras) or 'without names'}",
                where=where,
                remedy="Name every view in Episode.cameras, or use a judge that was made for this robot.",
            )
        if len(images) < 2:
            raise VlawError(
                "a judge needs at least 2 frames, this episode has 1",
                where=where,
                remedy="Score episodes recorded with a frame at every step.",
            )
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        if images.shape[2:4] != (height, width):
            raise VlawError(
                f"the frames are {images.shape[3]}x{images.shape[2]} pixels, this judge was made for {width}x{height}",
                where=where,
                remedy="Resize the episode, or use a judge of that size.",
            )
        return [episode.cameras.index(name) for name in self.cameras]


def frame_indices(length: int, count: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """`count` ascending frame numbers of an episode with `length` frames: first and last always, late ones denser.

    Frame k is at the fraction 1 - (1 - k/(count-1))^LATE_POWER of the episode. With 33 frames and 16 picks the first
    half of the picks covers the first two thirds. Frames repeat where an episode is shorter than `count`. With `rng`
    the inner picks move by up to half their spacing.
    """
    position = np.linspace(0.0, 1.0, count)
    if rng is not None and count > 2:
        position[1:-1] += rng.uniform(-0.5, 0.5, count - 2) / (count - 1)
    return np.rint((1.0 - (1.0 - position) ** LATE_POWER) * (length - 1)).astype(np.int64)


def question(instruction: str) -> str:
    """The question a judge is asked about an instruction."""
    return QUESTION.format(instruction=instruction.strip())


def load_reward_model(folder: Path | str) -> RewardModel:
    """The judge in a checkpoint folder, in evaluation mode. VlawError where the folder is missing or no judge."""
    judge: RewardModel = checkpoint.load_checkpoint(folder, REWARD_MODELS)
    return judge.eval()


def build_reward_model(
    preset: Mapping[str, Any],
    *,
    robot: RobotSpec,
    instructions: Sequence[str] = (),
    seed: int = 0,
    weights: Path | str | None = None,
) -> RewardModel:
    """A judge of a preset (presets.REWARD_MODEL[...]) for a robot: new and seeded, or published weights where there
    are any. It looks at the first camera of each of the preset's `roles`, or, without them, at all.

    `instructions` are the source of a new judge's vocabulary. `weights` is a folder or hub id for the class's
    `from_pretrained`; without it, the preset's own "weights". Raises VlawError for a preset of another kind, one that
    cannot take weights, and weights that cannot be had.
    """
    judge = checkpoint.preset_class(preset, REWARD_MODELS)
    settings, network = judge_settings(preset, robot=robot), preset.get("network")
    weights = weights or preset.get("weights")
    if weights is not None and not hasattr(judge, "from_pretrained"):
        raise VlawError(
            f"a {judge.__name__} takes no published weights",
            where=str(weights),
            remedy="Use a preset whose judge does (paper), or load a checkpoint with load_reward_model.",
        )
    if weights is not None:
        return judge.from_pretrained(str(weights), settings)
    if network is None:
        return judge.build(settings, instructions, seed=seed)
    return judge.build(settings, network, instructions, seed=seed)


def judge_settings(preset: Mapping[str, Any], *, robot: RobotSpec) -> Any:
    """The configuration of a preset's judge for a robot. Raises VlawError as `build_reward_model`."""
    judge = checkpoint.preset_class(preset, REWARD_MODELS)
    own = judge.of_robot(robot, preset.get("roles"))
    size = preset["sizes"].get("image_size")
    if size is not None and robot.fits_frame(*((size, size) if isinstance(size, int) else size)):
        own["image_size"] = size
    return judge.config_class(**{**preset["sizes"], **own})


def check_cameras(cameras: Sequence[str], *, where: str) -> tuple[str, ...]:
    """The cameras as a tuple; VlawError for none, or one named twice."""
    if not cameras or len(set(cameras)) != len(cameras):
        raise VlawError(
            f"cameras {', '.join(cameras) or 'none'}",
            where=where,
            remedy="Name at least one camera of the robot, each once.",
        )
    return tuple(cameras)


def as_float(frames: Tensor) -> Tensor:
    """(..., h, w, 3) in [0, 255] -> (..., 3, h, w) float32 in [-1, 1]."""
    return frames.float().movedim(-1, -3) / 127.5 - 1.0


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """The dictionary with tuples as lists, as JSON would return it."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
