"""The Policy protocol, and what every trained policy has: an observation encoded once, the weighted error of a chunk
that imitation minimises (paper Eq. 4), checkpoints.

How a chunk follows from the encoded observation is up to the kind of policy: flow_matching.py, openvla_oft.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
import torch
from torch import nn

from vlaw_models.checkpoint import (
    describing,
    load_checkpoint,
    load_config,
    load_tensors,
    load_weights,
    read_tokenizer,
    save_checkpoint,
)
from vlaw_models.device import seeded
from vlaw_models.episodes import Observation
from vlaw_models.errors import VlawError
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.registry import POLICIES
from vlaw_models.robots.spaces import ActionSpace
from vlaw_models.tokenize import InstructionTokenizer

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
        """(B, H, A) float32: what the robot is commanded in each of H control steps, as its spec says."""

    def save(self, folder: Path) -> Path:
        """The checkpoint that `load_policy` reads."""


class TrainedPolicy(nn.Module, ABC):
    """A network that predicts normalised action chunks, and learns from chunks of actions with a weight each."""

    plain: ClassVar[tuple[str, ...]] = ("execute_steps",)
    """The constructor's values, and attributes, that presets and config.json hold beside the sizes."""

    def __init__(self, tokenizer: InstructionTokenizer, normalization: Normalization, *, execute_steps: int):
        super().__init__()
        self.tokenizer, self.normalization = tokenizer, normalization
        self.chunk_size, self.action_dim = normalization.chunk_size, normalization.action_dim
        self.execute_steps = execute_steps
        self._adapted: tuple[Any, ...] = ()
        """peft's handle, in a tuple: it holds a part of this module, and must not be one."""
        self.space: ActionSpace | None = None
        """In what it acts; None where nobody said."""

    @staticmethod
    def said(instruction: str) -> str:
        """The instruction as it stands in what the policy reads."""
        return instruction

    def read(self, instructions: Sequence[str], state: Any) -> torch.Tensor:
        """The tokens (B, L) of what the policy is told in words; the state (B, D), as it is, where it is written
        there."""
        del state
        return self.tokenizer([self.said(text) for text in instructions])

    @abstractmethod
    def encode(self, images: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor) -> Any:
        """Context of a batch: images (B, V, h, w, 3) uint8, normalised state (B, D), tokens (B, L)."""

    can_freeze: bool = False
    """True where `picture_features`, `encode_features` and `head_parameters` are there: pictures can be encoded once
    and for all."""
    can_steer: bool = False
    """True where `forget_head` is there too and the context is `context_of(features)`, of features (B, C): its noise
    can be chosen by them (DSRL)."""

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

    can_adapt: bool = False
    """True where `lora_part` and `beside_lora` are there: LoRA can train it (`adapt`)."""

    def lora_part(self) -> tuple[nn.Module, list[str]]:
        """The network that LoRA adapts, and the names of its linear layers that it changes."""
        raise NotImplementedError

    def beside_lora(self) -> list[nn.Parameter]:
        """What is trained as it is while LoRA trains the rest."""
        raise NotImplementedError

    def adapt(self, rank: int, *, seed: int) -> None:
        """Freezes the policy but for `beside_lora` and puts LoRA layers into it, which change nothing before they learn
        (alpha = rank, as in openpi). `save` merges them. Raises VlawError for a class that has no targets."""
        from peft import LoraConfig, LoraModel

        if not self.can_adapt:
            raise VlawError(
                f"a {type(self).__name__} has no layers for LoRA",
                where="policy.lora_rank",
                remedy="Set policy.lora_rank = 0, which trains all weights.",
            )
        beside, (part, targets) = self.beside_lora(), self.lora_part()
        config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=targets, bias="none")
        with seeded(seed):
            self._adapted = (LoraModel(part, config, "default"),)
        for parameter in beside:
            parameter.requires_grad_(requires_grad=True)

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
    def sizes(self) -> dict[str, Any]:
        """The plain values from which `build` makes the same network."""

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
        """Mean over the batch of w(o, a) * error (Eq. 4), a scalar.

        images (B, V, h, w, 3) uint8, state (B, D), instructions B strings or tokens (B, L), actions (B, H, A) as
        executed, weight (B,), points (B, V, P, 2) see policies/data.py, advantage (B,) see `condition`. `generator` is
        a CPU generator: it decides noise, times and augmentation.
        """
        device = self.device
        tokens = instructions if isinstance(instructions, torch.Tensor) else self.read(instructions, state)
        images, points = self.augment(images, points, generator)
        state = state.to(device).float()
        context = self.encode(images.to(device), self.normalization.state(state), tokens.to(device))
        if advantage is not None:
            context = self.condition(context, advantage.to(device))
        return self.chunk_error(context, state, actions, weight, generator, points)

    @abstractmethod
    def chunk_error(
        self,
        context: Any,
        state: torch.Tensor,
        actions: torch.Tensor,
        weight: torch.Tensor,
        generator: torch.Generator,
        points: torch.Tensor | None = None,
        samples: int | None = None,
    ) -> torch.Tensor:
        """The part of `loss` after the observation is encoded. `samples`: draws per observation, where the error has
        chance in it."""

    @abstractmethod
    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        """(B, H, A) float32 actions, as `Policy.sample`; no chance in them at `noise_scale` 0.

        `generator`: one CPU generator, or B of them. Raises VlawError where the observation does not fit the policy.
        """

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
        return self.observed(state, images=images, tokens=self.read(instructions, state).to(device)), state

    def observed(
        self,
        state: torch.Tensor,
        *,
        images: torch.Tensor | None = None,
        tokens: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
    ) -> Any:
        """`observe` of tensors on the policy's device: the state (B, D) as it is, with images (B, V, h, w, 3) uint8 and
        tokens (B, L), or with what `picture_features` made of them."""
        normalized = self.normalization.state(state)
        if features is not None:
            context = self.encode_features(features, normalized)
        else:
            assert images is not None
            assert tokens is not None
            context = self.encode(images, normalized, tokens)
        return self.condition(context, torch.ones(len(state), dtype=torch.int64, device=state.device))

    def targets(self, normalized: torch.Tensor, state: torch.Tensor) -> np.ndarray:
        """(B, H, A) float32 actions of normalised commands (B, R, >= W)."""
        return self.normalization.targets(normalized[..., : self.normalization.rows[1]].detach(), state).cpu().numpy()

    def config(self) -> dict[str, Any]:
        """What config.json holds: everything but weights and vocabulary, as plain values."""
        return {
            "class": type(self).__name__,
            **{name: getattr(self, name) for name in self.plain},
            "instruction_length": self.tokenizer.length,
            "instruction_template": self.tokenizer.template,
            "normalization": self.normalization.to_json(),
            "sizes": self.sizes(),
            **({"space": self.space.to_json()} if self.space else {}),
        }

    def save(self, folder: Path | str, dtype: torch.dtype = torch.float32) -> Path:
        """Writes the checkpoint: sizes and normalisation in config.json, weights (LoRA merged), tokenizer.json.

        `dtype` float16 halves what is shipped; a policy is always float32 once loaded.
        """
        for adapted in self._adapted:
            adapted.merge_and_unload()
        self._adapted = ()
        tensors = {name: value.to(dtype) for name, value in self.state_dict().items()}
        return save_checkpoint(folder, self.config(), tensors, tokenizer=self.tokenizer.to_json())

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """The policy of a checkpoint, in evaluation mode. Raises VlawError where the folder is not a complete one."""
        return cls.from_parts(load_config(folder), load_tensors(folder), read_tokenizer(folder), where=folder)

    @classmethod
    def from_parts(
        cls, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], vocabulary: str, *, where: Path | str
    ) -> Self:
        """`load` from what the files hold: config.json, the tensors and the text of tokenizer.json."""
        with describing(cls.__name__, where=where):
            tokenizer = InstructionTokenizer.from_json(
                vocabulary,
                length=config["instruction_length"],
                where=where,
                template=config["instruction_template"],
            )
            policy = cls(
                tokenizer,
                Normalization.from_json(config["normalization"]),
                **{name: config[name] for name in cls.plain},
                **config["sizes"],
            )
            policy.space = ActionSpace.from_json(config["space"]) if "space" in config else None
        load_weights(policy, tensors, where=where)
        return policy.eval()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def load_policy(folder: Path | str) -> TrainedPolicy:
    """The policy in a checkpoint, whichever class it is. Raises VlawError for anything that is not a policy."""
    return load_checkpoint(folder, POLICIES)
