"""What every world model of the platform is: a denoiser of the frames that follow, given context frames and poses.

The abstract class, its conditioning, the choice of frames, loading by class name. Objective and sampler are the same
for all (edm.py).

Dimensions: B batch, K context frames (oldest first, the current one last), H frames of one chunk, F latents that the
network denoises (H / r, where r frames share one; one more where it also denoises the current frame, as Ctrl-World
does), C latent channels, D pose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from vlaw_models.autoencoders.base import Autoencoder
from vlaw_models.checkpoint import (
    described,
    describing,
    load_checkpoint,
    load_config,
    load_tensors,
    load_weights,
    preset_class,
    save_checkpoint,
)
from vlaw_models.device import seeded
from vlaw_models.errors import VlawError
from vlaw_models.robots.spaces import ActionSpace
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.tokenize import InstructionTokenizer
from vlaw_models.world_models.edm import EdmConfig
from vlaw_models.world_models.heads import Heads, HeadsConfig, heads_of, load_heads, new_tokenizer, with_eyes_of
from vlaw_models.world_models.registry import WORLD_MODELS

if TYPE_CHECKING:
    from vlaw_models.policies.flow_policy import FlowPolicy

HEADS = "reward_heads"
"""Entry of config.json with the sizes of the heads; not there in a checkpoint without."""
SPACE = "conditioned_in"
"""Entry of config.json with the space of the poses; not there where the robot does not say."""
ANCHOR = 1_000_000
"""A context offset that always means the first frame of the trajectory (offsets are clipped there)."""


@dataclass(frozen=True)
class Condition:
    """What the frames to come depend on."""

    context: torch.Tensor
    """(B, K, C, height, width) latents of the context frames, the current one last."""
    poses: torch.Tensor
    """(B, K + H, D) commanded poses of the context frames and of the frames to come, in robot units."""
    text: torch.Tensor | None = None
    """(B, E) embedding of the instruction, or None for a model without language."""
    drop: torch.Tensor | None = None
    """(B,) bool: samples whose action and text are hidden (classifier-free guidance), or None."""
    words: torch.Tensor | None = None
    """(B, length) ids of the instruction's words, for the heads; or None for a model without."""

    def with_context(self, context: torch.Tensor) -> Condition:
        return replace(self, context=context)

    def unconditional(self) -> Condition:
        """The same frames with action and text hidden."""
        return replace(self, drop=torch.ones(len(self.context), dtype=torch.bool, device=self.context.device))


class WorldModel(nn.Module, ABC):
    """A conditional denoiser of H latent frames; subclasses hold the network."""

    config_class: ClassVar[type]
    """The dataclass of a preset's sizes, the constructor's only argument."""
    edm: EdmConfig
    chunk: int
    """H: frames (= control steps) that one call predicts."""
    frames_per_latent = 1
    """r: coming frames that share one latent picture, as the autoencoder has them; H / r of them are a chunk."""
    views: int
    latent_shape: tuple[int, int, int]
    """(C, V*h, w) of one stacked frame."""
    pose_dim: int
    includes_current = False
    """True: the network denoises the current frame too (F = H + 1)."""
    learn_current = True
    """False: what it makes of the current frame does not count in training."""
    drop_probability = 0.0
    """Share of training samples whose action and text are hidden."""
    autocast = True
    """bfloat16 arithmetic where the device has it."""
    change_patch = 1
    """Latent pixels each way of the patches that count as changed or not in training (edm.loss): around what moves a
    picture has to stay true too."""
    deterministic = False
    """True: there is no noise to remove; `predict` gives the frames, in training and sampling alike."""
    feature_shape: tuple[int, int, int] | None = None
    """(n, P, F) of what heads read (`with_features`): n equal parts of the chunk, P places, F numbers. None: the class
    has no heads."""
    latents_are_pixels = False
    """Whether heads may look at the frames (`pictures`)."""
    pose_low: torch.Tensor
    """(D,) what poses are scaled by, with `pose_high`."""
    pose_high: torch.Tensor

    def __init__(self, config: Any) -> None:
        """Takes the configuration, a `config_class`."""
        super().__init__()
        self.config = config
        self.space: ActionSpace | None = None
        """In what it is conditioned, and at which rate; None where nobody said."""
        self.heads: Heads | None = None
        """Reward and pose of the frames to come; None in a checkpoint without (`add_heads`)."""

    @abstractmethod
    def forward(self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The raw network F of the preconditioned denoiser: (B, F, C, h, w) noisy latents times c_in, sigma (B,)."""

    def predict(self, condition: Condition) -> torch.Tensor:
        """The frames to come (B, H, C, h, w), float32, of a deterministic model."""
        raise NotImplementedError

    def with_features(
        self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward`, and of the same pass the features (B, n, P, F) that heads read."""
        raise NotImplementedError

    @abstractmethod
    def offsets(self, rng: np.random.Generator | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Frames to use around a current frame t: context t - a for the first tuple, targets t + b for the second.

        Without `rng` those of inference; with it, one random choice for training.
        """

    @abstractmethod
    def augment(self, context: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Context latents with the noise that training adds, so that a closed loop tolerates its own errors."""

    @classmethod
    def of_robot(cls, robot: RobotSpec) -> dict[str, Any]:
        """The fields of the configuration that follow from the robot. VlawError for one that the class cannot model."""
        low, high = (robot.pose or robot.state).scale
        return {"views": len(robot.cameras), "pose_low": low, "pose_high": high}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model of a checkpoint folder, in evaluation mode. Raises VlawError for a damaged one."""
        values = load_config(folder)
        del values["class"]
        heads, space = values.pop(HEADS, None), values.pop(SPACE, None)
        model = cls(described(cls.config_class, values, by=cls.__name__, where=folder))
        if space is not None:
            with describing(cls.__name__, where=folder):
                model.space = ActionSpace.from_json(space)
        if heads is not None:
            model._attach(*heads_of(folder, heads))
        load_weights(model, load_tensors(folder), where=folder)
        return model.eval()

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        """Writes the checkpoint folder (config.json, model.safetensors; tokenizer.json for heads). `dtype` float16
        halves what is shipped; a model is always float32 once loaded."""
        config = {"class": type(self).__name__, **asdict(self.config)}
        words = None
        if self.space is not None:
            config[SPACE] = self.space.to_json()
        if self.heads is not None:
            config[HEADS], words = asdict(self.heads.config), self.heads.tokenizer.to_json()
        tensors = {name: value.to(dtype) for name, value in self.state_dict().items()}
        return save_checkpoint(folder, config, tensors, tokenizer=words)

    def embed_text(self, instructions: Sequence[str]) -> torch.Tensor | None:
        """(B, E) for models that read the instruction, else None."""
        del instructions
        return None

    def add_heads(self, instructions: Iterable[str], *, seed: int, config: HeadsConfig | None = None) -> None:
        """New heads that know the words of these instructions. Raises VlawError for a class that cannot have them."""
        config = config or HeadsConfig()
        with seeded(seed):
            self._attach(config, new_tokenizer(instructions, config))

    def add_seeing_heads(self, policy: FlowPolicy, *, seed: int) -> None:
        """New heads that look at the frames with the eyes of `policy`, and know its words. Raises VlawError for a class
        whose latents are no pixels, and a policy that sees other pictures."""
        if not self.latents_are_pixels:
            raise VlawError(
                f"heads of a {type(self).__name__} cannot look at its frames: they are no pixels",
                where="world model",
                remedy="Use add_heads: they read the features alone.",
            )
        config = with_eyes_of(policy)
        assert config.eyes is not None
        seen = (config.eyes.cameras * config.eyes.image_size, config.eyes.image_size)
        if seen != self.latent_shape[1:]:
            raise VlawError(
                f"the policy sees {config.eyes.cameras} pictures of {config.eyes.image_size} pixels, the frames are "
                f"{self.views} of {self.latent_shape[1] // self.views} x {self.latent_shape[2]}",
                where="world model",
                remedy="Use the eyes of a policy of the same cameras and picture size.",
            )
        with seeded(seed):
            heads = self._attach(config, policy.tokenizer)
        assert heads.eyes is not None
        heads.eyes.load_state_dict(policy.eyes.state_dict())

    def take_heads(self, folder: Path) -> None:
        """The heads in a folder of their own, trained on this model (heads.PRETRAINED). Raises VlawError where they do
        not fit."""
        heads = load_heads(folder, self._shape_of_features(), self.chunk, self.pose_dim)
        self.heads = heads.to(self.device).train(self.training)

    def need_heads(self, *, needed_by: str) -> Heads:
        """Its heads. Raises VlawError where it has none."""
        if self.heads is None:
            raise VlawError(
                f"{needed_by} needs a world model that predicts reward and state; this {type(self).__name__} has no "
                "heads",
                where="world model",
                remedy="Finetune it with world_model.reward_weight above 0, which adds them, or leave out what needs "
                "them.",
            )
        return self.heads

    def read_words(self, instructions: Sequence[str]) -> torch.Tensor | None:
        """(B, length) ids of the instructions' words on the model's device; None without heads."""
        return None if self.heads is None else self.heads.read(instructions).to(self.device)

    def tell(
        self, features: torch.Tensor, frames: torch.Tensor, condition: Condition
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reward logits (B, H) and poses (B, H, D) of the frames to come, by the heads, from features (B, n, P, F) and
        the frames as they were made (B, H, C, V*h, w)."""
        heads = self.need_heads(needed_by="the reward")
        if condition.words is None:
            raise VlawError(
                "the heads were not told the task",
                where="world model",
                remedy="Give Condition.words: read_words(instructions).",
            )
        pictures = self.pictures(frames[:, -1]) if heads.eyes is not None else None
        logits, beside = heads(features, condition.words, pictures)
        return logits, condition.poses[:, -self.chunk :].float() + beside * self.half_range

    def pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, 3, V*h, w) that are pixels to pictures (B, V, h, w, 3) uint8. No gradient passes: frames are to
        be true, not to please."""
        levels = ((latents.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return levels.unflatten(2, (self.views, -1)).permute(0, 2, 3, 4, 1).contiguous()

    @property
    def half_range(self) -> torch.Tensor:
        """(D,) half of what each number of a pose usually spans."""
        return (self.pose_high - self.pose_low).clamp_min(1e-8) / 2

    def _attach(self, config: HeadsConfig, tokenizer: InstructionTokenizer) -> Heads:
        heads = Heads(config, tokenizer, self._shape_of_features(), self.chunk, self.pose_dim)
        self.heads = heads.to(self.device).train(self.training)
        return heads

    def _shape_of_features(self) -> tuple[int, int, int]:
        if self.feature_shape is None:
            raise VlawError(
                f"a {type(self).__name__} cannot have heads: it gives no features",
                where="world model",
                remedy="Give the class `feature_shape` and `with_features`, or use another one.",
            )
        return self.feature_shape

    @property
    def num_denoised(self) -> int:
        return self.chunk // self.frames_per_latent + int(self.includes_current)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


def check_autoencoder(model: WorldModel, autoencoder: Autoencoder, *, where: str) -> None:
    """Raises VlawError where frames share latents otherwise than the world model has them."""
    if model.frames_per_latent != autoencoder.frames_per_latent:
        raise VlawError(
            f"{autoencoder.frames_per_latent} frames share a latent of this {type(autoencoder).__name__}; a "
            f"{type(model).__name__} takes {model.frames_per_latent}",
            where=where,
            remedy="Use a world model and an autoencoder that were made for each other: a CosmosWorld and a "
            "WanAutoencoder, or others and one that encodes each frame alone.",
        )


@contextmanager
def output_of(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """A list that receives what `module` gives inside the block: features of a network that does not return them."""
    kept: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _module, _given, output: kept.append(output))
    try:
        yield kept
    finally:
        handle.remove()


def load_world_model(folder: Path | str) -> WorldModel:
    """The world model in a checkpoint folder, on the device that computes, in evaluation mode. Raises VlawError."""
    return load_checkpoint(folder, WORLD_MODELS).eval()


def build_world_model(preset: Mapping[str, Any], *, robot: RobotSpec, seed: int) -> WorldModel:
    """A new world model of a preset (presets.WORLD_MODEL[...]) for a robot, seeded, on torch's default device.

    Raises VlawError for a preset of another kind, and for a robot that the class cannot model.
    """
    model = preset_class(preset, WORLD_MODELS)
    with seeded(seed):
        made = model(model.config_class(**{**preset["sizes"], **model.of_robot(robot)}))
    made.space = robot.conditioning
    return made
