"""The Policy protocol and the flow matching that all policies share (convention of pi0: t = 1 is noise, t = 0 data).

Loss with a weight per sample (paper Eq. 4), Euler sampling with explicit noise, checkpoints. The networks
(flow_policy.py, pi0.py) say how an observation is encoded, once, and what velocity follows from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import nn

from vlaw_models.checkpoint import (
    load_checkpoint,
    load_config,
    load_tensors,
    load_weights,
    preset_class,
    read_tokenizer,
    save_checkpoint,
)
from vlaw_models.device import seeded
from vlaw_models.episodes import Observation
from vlaw_models.errors import VlawError
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.registry import POLICIES
from vlaw_models.policies.tokenize import InstructionTokenizer
from vlaw_models.robots.spec import RobotSpec

Generators: TypeAlias = "torch.Generator | Sequence[torch.Generator]"
"""One generator for the batch, or one per sample: then a sample does not depend on what else is in the batch."""


class Policy(Protocol):
    """What a world needs from a policy."""

    chunk_size: int
    """H, predicted control steps."""
    execute_steps: int
    """Steps of a chunk that are executed before the policy looks again."""

    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        """(B, H, A) float32 absolute pose targets."""

    def save(self, folder: Path) -> Path:
        """The checkpoint that `load_policy` reads."""


class FlowMatchingPolicy(nn.Module, ABC):
    """Flow matching over normalised action chunks: x_t = t * eps + (1 - t) * a, velocity u = eps - a."""

    noise_dim: int
    """Width of the flow's space; larger than the action where a network has padded dimensions."""
    flow_samples: int = 1
    """Pairs (eps, t) per observation in the loss. More is cheap where encoding the observation is the dear part."""

    def __init__(
        self, tokenizer: InstructionTokenizer, normalization: Normalization, *, execute_steps: int, euler_steps: int
    ):
        super().__init__()
        self.tokenizer, self.normalization = tokenizer, normalization
        self.chunk_size, self.action_dim = normalization.chunk_size, normalization.action_dim
        self.execute_steps, self.euler_steps = execute_steps, euler_steps

    @abstractmethod
    def encode(self, images: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor) -> Any:
        """Context of a batch: images (B, V, h, w, 3) uint8, normalised state (B, D), tokens (B, L)."""

    can_freeze: bool = False
    """True where `picture_features`, `encode_features`, `forget_head` and `head_parameters` are there: pictures can be
    encoded once and for all. The context then is `context_of(features)`, of features (B, C)."""

    def picture_features(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """What the encoder makes of pictures and instruction alone, (B, F): all that a frozen one needs to be asked."""
        raise NotImplementedError

    def encode_features(self, features: torch.Tensor, state: torch.Tensor) -> Any:
        """The context from what `picture_features` gives and the normalised state (B, D)."""
        raise NotImplementedError

    context_size: int
    """C."""

    def context_of(self, features: torch.Tensor) -> Any:
        """The context whose `.features` are these (B, C)."""
        raise NotImplementedError

    def forget_head(self, seed: int) -> None:
        """Gives the parameters of `head_parameters` new random values."""
        raise NotImplementedError

    def head_parameters(self) -> list[nn.Parameter]:
        """What is trained while the encoder is frozen: everything after `picture_features`."""
        raise NotImplementedError

    can_condition: bool = False
    """Whether the policy can be conditioned on how good what it should do is (RECAP): see `condition_on_advantage`."""

    @property
    def conditioned(self) -> bool:
        """Whether the policy gets an advantage: in training by the data, in `sample` always that it is positive."""
        return False

    def condition_on_advantage(self) -> None:
        """Makes the policy a conditioned one that behaves, untrained, as it did before. Raises VlawError if it
        cannot."""
        raise VlawError(
            f"a {type(self).__name__} cannot be conditioned on the advantage",
            where="learner 'recap'",
            remedy="Choose another policy.learner, or the preset 'tiny' (FlowPolicy).",
        )

    def condition(self, context: Any, advantage: torch.Tensor) -> Any:
        """The context of a conditioned policy, per sample (B,): 1 positive, 0 negative, -1 nothing."""
        del advantage
        return context

    @abstractmethod
    def velocity(self, context: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Predicted u at x (N, H, noise_dim) and t (N,); N is B, or a multiple of it in blocks of B."""

    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """The plain values from which `build` makes the same network."""

    def auxiliary(self, context: Any, target: torch.Tensor, points: torch.Tensor | None) -> torch.Tensor | float:
        """A further training error per sample (B,), weighted like the flow's; none by default. `target` (B, H, A)."""
        del context, target, points
        return 0.0

    def augment(
        self, images: torch.Tensor, points: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Training-time change of the images, and of the points in them; none by default."""
        del generator
        return images, points

    def loss(
        self,
        images: torch.Tensor,
        state: torch.Tensor,
        instructions: Sequence[str] | torch.Tensor,
        actions: torch.Tensor,
        weight: torch.Tensor,
        generator: torch.Generator,
        points: torch.Tensor | None = None,
        advantage: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean over the batch of w(o, a) * flow-matching error (Eq. 4), a scalar.

        images (B, V, h, w, 3) uint8, state (B, D), instructions B strings or tokens (B, L), actions (B, H, A) absolute
        targets, weight (B,), points (B, V, P, 2) see policies/data.py, advantage (B,) see `condition`. `generator` is a
        CPU generator: it decides noise, times and augmentation.
        """
        device = self.device
        tokens = instructions if isinstance(instructions, torch.Tensor) else self.tokenizer(instructions)
        images, points = self.augment(images, points, generator)
        state = state.to(device).float()
        context = self.encode(images.to(device), self.normalization.state(state), tokens.to(device))
        if advantage is not None:
            context = self.condition(context, advantage.to(device))
        return self.flow_error(context, state, actions, weight, generator, points)

    def flow_error(
        self,
        context: Any,
        state: torch.Tensor,
        actions: torch.Tensor,
        weight: torch.Tensor,
        generator: torch.Generator,
        points: torch.Tensor | None = None,
        samples: int | None = None,
    ) -> torch.Tensor:
        """The part of `loss` after the observation is encoded. `samples` instead of `flow_samples`."""
        device, batch, samples = self.device, len(state), samples or self.flow_samples
        state, actions = state.to(device).float(), actions.to(device).float()
        target = nn.functional.pad(self.normalization.actions(actions, state), (0, self.noise_dim - self.action_dim))
        target = target.repeat(samples, 1, 1)
        noise = torch.randn(target.shape, generator=generator).to(device)
        # The inverse distribution function of Beta(1.5, 1) is u^(1/1.5): one uniform number per time.
        time = torch.rand(batch * samples, generator=generator).to(device) ** (1 / 1.5) * 0.999 + 0.001
        t = time[:, None, None]
        predicted = self.velocity(context, t * noise + (1 - t) * target, time).float()
        error = (predicted - (noise - target))[..., : self.action_dim] ** 2
        per_sample = error.mean(dim=(1, 2)).view(samples, batch).mean(0)
        per_sample = per_sample + self.auxiliary(context, target[:batch], points)
        return (weight.to(device) * per_sample).mean()

    def draw_noise(self, batch: int, generator: Generators) -> torch.Tensor:
        """(B, H, noise_dim) standard normal numbers."""
        shape = (self.chunk_size, self.noise_dim)
        if isinstance(generator, torch.Generator):
            return torch.randn((batch, *shape), generator=generator)
        return torch.stack([torch.randn(shape, generator=one) for one in generator])

    @torch.no_grad()
    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        """(B, H, A) float32 absolute pose targets, by Euler steps from noise (t = 1) to data (t = 0).

        `generator`: one CPU generator, or B of them. Raises VlawError where the observation does not fit the policy.
        """
        context, state = self.observe(observation, instructions)
        noise = self.draw_noise(len(observation), generator).to(state.device) * noise_scale
        return self.chunk(context, noise, state)

    def observe(self, observation: Observation, instructions: Sequence[str]) -> tuple[Any, torch.Tensor]:
        """The context in which actions are sampled, and the state (B, D) as it is. Raises VlawError as `sample`."""
        device = self.device
        if observation.state.shape[-1] != self.normalization.state_dim or len(instructions) != len(observation):
            raise VlawError(
                f"the policy takes states of {self.normalization.state_dim} numbers and one instruction per "
                f"observation, "
                f"got states {observation.state.shape} and {len(instructions)} instructions",
                where=type(self).__name__,
                remedy="Use a policy that was trained for this robot.",
            )
        state = torch.as_tensor(observation.state, dtype=torch.float32, device=device)
        images = torch.from_numpy(np.ascontiguousarray(observation.images)).to(device)
        context = self.encode(images, self.normalization.state(state), self.tokenizer(instructions).to(device))
        return self.condition(context, torch.ones(len(state), dtype=torch.int64, device=device)), state

    def chunk(self, context: Any, noise: torch.Tensor, state: torch.Tensor) -> np.ndarray:
        """(B, H, A) float32 absolute pose targets that the flow makes of `noise` (B, H, noise_dim)."""
        return self.normalization.targets(self.denoise(context, noise)[..., : self.action_dim], state).cpu().numpy()

    def denoise(self, context: Any, x: torch.Tensor) -> torch.Tensor:
        """(B, H, noise_dim) normalised actions, from noise of the same shape by `euler_steps` Euler steps."""
        for step in range(self.euler_steps):
            t = torch.full((len(x),), 1 - step / self.euler_steps, device=x.device)
            x = x - self.velocity(context, x, t).float() / self.euler_steps
        return x

    def config(self) -> dict[str, Any]:
        """What config.json holds: everything but weights and vocabulary, as plain values."""
        return {
            "class": type(self).__name__,
            "execute_steps": self.execute_steps,
            "euler_steps": self.euler_steps,
            "instruction_length": self.tokenizer.length,
            "instruction_template": self.tokenizer.template,
            "normalization": self.normalization.to_json(),
            "sizes": self.sizes(),
        }

    def save(self, folder: Path | str, dtype: torch.dtype = torch.float32) -> Path:
        """Writes the checkpoint: sizes and normalisation in config.json, weights, tokenizer.json.

        `dtype` float16 halves what is shipped; a policy is always float32 once loaded.
        """
        tensors = {name: value.to(dtype) for name, value in self.state_dict().items()}
        return save_checkpoint(folder, self.config(), tensors, tokenizer=self.tokenizer.to_json())

    @classmethod
    def load(cls, folder: Path | str) -> FlowMatchingPolicy:
        """The policy of a checkpoint, in evaluation mode. Raises VlawError where the folder is not a complete one."""
        return cls.from_parts(load_config(folder), load_tensors(folder), read_tokenizer(folder), where=folder)

    @classmethod
    def from_parts(
        cls, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], vocabulary: str, *, where: Path | str
    ) -> FlowMatchingPolicy:
        """`load` from what the files hold: config.json, the tensors and the text of tokenizer.json."""
        try:
            tokenizer = InstructionTokenizer.from_json(
                vocabulary,
                length=config["instruction_length"],
                where=where,
                template=config["instruction_template"],
            )
            policy = cls(
                tokenizer,
                Normalization.from_json(config["normalization"]),
                execute_steps=config["execute_steps"],
                euler_steps=config["euler_steps"],
                **config["sizes"],
            )
        except (KeyError, TypeError) as error:
            raise VlawError(
                f"config.json does not describe a {cls.__name__}: {error}",
                where=str(where),
                remedy="Use a checkpoint written by this version, or make it again.",
            ) from error
        load_weights(policy, {name: value.float() for name, value in tensors.items()}, where=where)
        return policy.eval()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def load_policy(folder: Path | str) -> FlowMatchingPolicy:
    """The policy in a checkpoint, whichever class it is. Raises VlawError for anything that is not a policy."""
    return load_checkpoint(folder, POLICIES)


def build_policy(
    preset: Mapping[str, Any],
    normalization: Normalization,
    *,
    robot: RobotSpec,
    seed: int,
    instructions: Sequence[str] = (),
    tokenizer: InstructionTokenizer | None = None,
) -> FlowMatchingPolicy:
    """A new policy of a preset (presets.POLICY[...]) for a robot, seeded.

    The tokenizer is made from the words of `instructions` unless one is given (PaliGemma's, for published weights).
    """
    length = preset["instruction_length"]
    tokenizer = tokenizer or InstructionTokenizer.from_instructions(instructions, length=length)
    policy_class = preset_class(preset, POLICIES)
    sizes = {**preset["sizes"], **({"cameras": len(robot.cameras)} if "cameras" in preset["sizes"] else {})}
    with seeded(seed):
        return policy_class(
            tokenizer,
            normalization,
            execute_steps=preset["execute_steps"],
            euler_steps=preset["euler_steps"],
            **sizes,
        )
