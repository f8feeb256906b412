"""What every world model of the platform is: a denoiser of the frames that follow, given context frames and poses.

The abstract class, its conditioning, the choice of frames, loading by class name. Objective and sampler are the same
for all (edm.py).

Dimensions: B batch, K context frames (oldest first, the current one last), H frames of one chunk, F frames that the
network denoises (H, or H+1 where it also denoises the current frame, as Ctrl-World does), C latent channels, D pose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from vlaw_models.checkpoint import load_checkpoint, preset_class
from vlaw_models.device import seeded
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.world_models.edm import EdmConfig
from vlaw_models.world_models.registry import WORLD_MODELS

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
    views: int
    latent_shape: tuple[int, int, int]
    """(C, V*h, w) of one stacked frame."""
    pose_dim: int
    includes_current = False
    """True: the network denoises the current frame too (F = H + 1)."""
    drop_probability = 0.0
    """Share of training samples whose action and text are hidden."""
    autocast = True
    """bfloat16 arithmetic where the device has it."""
    change_patch = 1
    """Latent pixels each way of the patches that count as changed or not in training (edm.loss): around what moves a
    picture has to stay true too."""
    deterministic = False
    """True: there is no noise to remove; `predict` gives the frames, in training and sampling alike."""

    @abstractmethod
    def forward(self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The raw network F of the preconditioned denoiser: (B, F, C, h, w) noisy latents times c_in, sigma (B,)."""

    def predict(self, condition: Condition) -> torch.Tensor:
        """The frames to come (B, H, C, h, w), float32, of a deterministic model."""
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
        low, high = robot.state.scale
        return {"views": len(robot.cameras), "pose_low": low, "pose_high": high}

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> WorldModel:
        """The model of a checkpoint folder. Raises VlawError for a damaged one."""

    @abstractmethod
    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        """Writes the checkpoint folder (config.json, model.safetensors)."""

    def embed_text(self, instructions: Sequence[str]) -> torch.Tensor | None:
        """(B, E) for models that read the instruction, else None."""
        del instructions
        return None

    @property
    def num_denoised(self) -> int:
        return self.chunk + int(self.includes_current)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


def load_world_model(folder: Path | str) -> WorldModel:
    """The world model in a checkpoint folder, on the device that computes, in evaluation mode. Raises VlawError."""
    return load_checkpoint(folder, WORLD_MODELS).eval()


def build_world_model(preset: Mapping[str, Any], *, robot: RobotSpec, seed: int) -> WorldModel:
    """A new world model of a preset (presets.WORLD_MODEL[...]) for a robot, seeded, on torch's default device.

    Raises VlawError for a preset of another kind, and for a robot that the class cannot model.
    """
    model = preset_class(preset, WORLD_MODELS)
    with seeded(seed):
        return model(model.config_class(**{**preset["sizes"], **model.of_robot(robot)}))
