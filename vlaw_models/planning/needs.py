"""What models need: each is built at its size, a preset's or a checkpoint's, and run once, with fake weights (fake.py).

One sample's forward and backward for what is trained, one call for what generates. Losses and calls are those of the
learners and rollouts themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vlaw_models import presets
from vlaw_models.autoencoders.base import Autoencoder, build_autoencoder
from vlaw_models.autoencoders.registry import AUTOENCODERS
from vlaw_models.checkpoint import load_without_weights
from vlaw_models.config import Sampling
from vlaw_models.device import mixed
from vlaw_models.learners.recompute import layers_of, recomputing
from vlaw_models.learners.reward_model import add_lora
from vlaw_models.planning.fake import Run, call, faking, take_step
from vlaw_models.policies.base import TrainedPolicy
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.noise_policy import NoisePolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.registry import POLICIES
from vlaw_models.reward_models.base import RewardModel, build_reward_model
from vlaw_models.reward_models.registry import REWARD_MODELS
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition, WorldModel, build_world_model
from vlaw_models.world_models.heads import Targets
from vlaw_models.world_models.registry import WORLD_MODELS

Making = Callable[..., AbstractContextManager[None]]
WORDS = "put the red block on the blue block"
"""An instruction, of the usual length."""


@dataclass(frozen=True)
class Training:
    """What training a model needs, whatever the number of samples and GPUs."""

    model: str
    """Its class."""
    parameters: int
    weights: int
    """Bytes of all parameters."""
    trained: int
    """Bytes of those that are trained: of their gradients too, and half of Adam's moments."""
    whole: int
    """Bytes of what is whole at once where weights are sharded: the largest layer, and all that is in none."""
    kept: Run
    """Of one sample, activations kept for the backward pass."""
    recomputed: Run | None
    """Of one sample, activations computed again; None where the class names no layers for it."""


@dataclass(frozen=True)
class Generation:
    """What a call of a model needs."""

    model: str
    parameters: int
    weights: int
    run: Run
    """Of one sample; of an autoencoder a pass of its own size."""
    grows: bool = True
    """Whether more samples take more memory."""


class Models:
    """The models that a foundation starts from, for a robot: each built when it is asked for, and once but where
    training changes it."""

    def __init__(
        self,
        preset: str,
        robot: RobotSpec,
        checkpoints: Mapping[str, Path] | None = None,
        *,
        making: Making = faking,
    ):
        """`checkpoints`: name, as in presets.MODELS, -> the folder that says class and sizes; the others are the
        preset's. `making`: of a type, a context in which these are made; with fake weights, unless another is given."""
        self.preset, self.robot, self.checkpoints, self.making = preset, robot, dict(checkpoints or {}), making

    @cached_property
    def world_model(self) -> WorldModel:
        if folder := self.checkpoints.get("world_model"):
            with faking():
                return load_without_weights(folder, WORLD_MODELS)
        with self.making():
            return build_world_model(presets.WORLD_MODEL[self.preset], robot=self.robot, seed=0)

    @cached_property
    def autoencoder(self) -> Autoencoder:
        if folder := self.checkpoints.get("autoencoder"):
            with faking():
                return load_without_weights(folder, AUTOENCODERS).eval()
        with self.making():
            return build_autoencoder(presets.AUTOENCODER[self.preset], seed=0).eval()

    @cached_property
    def policy(self) -> TrainedPolicy:
        return self.new_policy()

    @cached_property
    def judge(self) -> RewardModel:
        return self.new_judge()

    def new_policy(self) -> TrainedPolicy:
        """One to be changed. Of a policy that chooses another's noise it is the other: all but a small part of it."""
        if folder := self.checkpoints.get("base_policy"):
            with faking():
                found = load_without_weights(folder, POLICIES)
            return found.base if isinstance(found, NoisePolicy) else found
        preset, robot, rng = presets.POLICY[self.preset], self.robot, np.random.default_rng(0)
        steps = preset["chunk_size"] + 1  # of an episode of any numbers: what is counted does not depend on them
        states, actions = (rng.random((steps, len(vector)), np.float32) for vector in (robot.state, robot.action))
        normalization = Normalization.of_robot(robot, [states], [actions[1:]], chunk_size=preset["chunk_size"])
        with self.making():
            return build_policy(preset, normalization, robot=self.robot, seed=0, instructions=[WORDS])

    def new_judge(self) -> RewardModel:
        """One to be changed. Published weights are in bfloat16."""
        if folder := self.checkpoints.get("reward_model"):
            with faking():
                return load_without_weights(folder, REWARD_MODELS)
        preset = dict(presets.REWARD_MODEL[self.preset])
        with self.making(torch.bfloat16 if preset.pop("weights", None) else torch.float32):
            return build_reward_model(preset, robot=self.robot, instructions=[WORDS])

    def picture(self) -> tuple[int, int, int, int]:
        """(V, height, width, 3) of a frame with all its cameras."""
        (_, rows, columns), views = self.world_model.latent_shape, self.world_model.views
        factor = self.autoencoder.factor
        return views, rows // views * factor, columns * factor, 3


def of_world_model(models: Models, *, heads: bool, frozen_trunk: bool = False) -> Training:
    """Finetuning on a window; with `heads`, on what they tell too; with `frozen_trunk` of them alone."""
    model = models.world_model
    if heads and model.heads is None:
        with faking():
            model.add_heads([WORDS], seed=0)
    future, condition = window(model)
    generator = torch.Generator()
    told = Targets(torch.zeros(1, model.chunk), torch.zeros(1, model.chunk, model.pose_dim)) if heads else None

    def loss() -> torch.Tensor:
        found = edm.loss(model, future, condition, generator, targets=told, reward_weight=1.0, state_weight=1.0)
        return found[0].mean()

    trained = model.heads if frozen_trunk and model.heads is not None else model
    return training(model, [value for value in trained.parameters() if value.requires_grad], loss)


def of_policy(models: Models, *, frozen_encoder: bool, rank: int = 0) -> Training:
    """The update on a step of an episode by imitation; `rank`: of LoRA, 0 for all weights."""
    policy = models.policy
    if rank:
        policy = models.new_policy()
        with faking():
            policy.adapt(rank, seed=0)
    images, state, tokens = observation(models, policy)
    target, weight = torch.zeros(1, policy.chunk_size, policy.action_dim), torch.ones(1)
    generator = torch.Generator()
    if not frozen_encoder:
        given = (images, state, tokens, target, weight, generator)
        trained = [value for value in policy.parameters() if value.requires_grad]
        return training(policy, trained, lambda: policy.loss(*given), bfloat16=True)
    with torch.no_grad():
        features = policy.picture_features(images, tokens)

    def loss() -> torch.Tensor:
        context = policy.encode_features(features, policy.normalization.state(state))
        return policy.chunk_error(context, state, target, weight, generator)

    return training(policy, policy.head_parameters(), loss, bfloat16=True)


def of_judge(models: Models, *, rank: int) -> Training:
    """Finetuning with LoRA on a clip."""
    judge = models.new_judge()
    with faking():
        add_lora(judge, rank, seed=0)
    frames, states = clip(models, judge)
    right = torch.zeros(1, dtype=torch.int64)

    def loss() -> torch.Tensor:
        if judge.frozen_eyes:
            with torch.no_grad():
                features = judge.frame_features(frames, [WORDS])
            return functional.cross_entropy(judge.answer_features(features, states).float(), right)
        return functional.cross_entropy(judge(frames, [WORDS], states).float(), right)

    trained = [value for value in judge.parameters() if value.requires_grad]
    return training(judge, trained, loss, bfloat16=judge.autocast)


def training(
    model: nn.Module, trained: Sequence[nn.Parameter], loss: Callable[[], torch.Tensor], *, bfloat16: bool = False
) -> Training:
    """Forward and backward of a sample, with activations kept, and computed again where the class can. `bfloat16`:
    whether the trainer computes the loss in it (`LoopConfig`); world models see to that themselves."""

    def as_trained() -> torch.Tensor:
        with mixed("cpu", enabled=bfloat16):
            return loss()

    own = {id(value) for value in trained}
    for value in model.parameters():
        value.requires_grad_(id(value) in own)
    model.train()
    kept = take_step(model, as_trained)
    recomputed = None
    if layers_of(model):
        with recomputing(model):
            recomputed = take_step(model, as_trained)
    parts = layers_of(model) or [model]
    inside = {id(value) for part in parts for value in part.parameters()}
    outside = [value for value in model.parameters() if id(value) not in inside]
    return Training(
        type(model).__name__,
        sum(value.numel() for value in model.parameters()),
        size(model.parameters()),
        size(trained),
        max(size(part.parameters()) for part in parts) + size(outside),
        kept,
        recomputed,
    )


def of_imagining(models: Models) -> Generation:
    """One pass of the world model over a chunk."""
    model = models.world_model.eval()
    _, condition = window(model)
    generator = torch.Generator()
    return generation(model, lambda: edm.imagine(model, condition, Sampling(), generator=generator))


def of_decoding(models: Models) -> Generation:
    """As many pictures as the autoencoder decodes at once."""
    autoencoder = models.autoencoder
    _, height, width, _ = models.picture()
    count, factor = autoencoder.batch_size, autoencoder.factor
    latents = torch.zeros(count, autoencoder.latent_channels, height // factor, width // factor)
    return generation(autoencoder, lambda: autoencoder.to_pixels(latents))


def of_encoding(models: Models) -> Generation:
    """As many pictures as the autoencoder encodes at once."""
    autoencoder = models.autoencoder
    _, height, width, _ = models.picture()
    pixels = torch.zeros(autoencoder.batch_size, 3, height, width)
    return generation(autoencoder, lambda: autoencoder.to_latents(pixels))


def of_acting(models: Models) -> Generation:
    """A chunk of actions: the observation is encoded once; a step of sampling costs what one in training does."""
    policy = models.policy.eval()
    images, state, tokens = observation(models, policy)
    encoding = call(policy, lambda: policy.observed(state, images=images, tokens=tokens))
    target, weight = torch.zeros(1, policy.chunk_size, policy.action_dim), torch.ones(1)
    given = (images, state, tokens, target, weight, torch.Generator())
    whole = call(policy, lambda: policy.loss(*given))
    steps = getattr(policy, "euler_steps", 1)
    flop = encoding.flop + steps * (whole.flop - encoding.flop)
    return _generation(policy, Run(0, whole.peak, whole.copies, flop))


def of_judging(models: Models) -> Generation:
    """P(yes) of a clip."""
    judge = models.judge.eval()
    frames, states = clip(models, judge)
    return generation(judge, lambda: judge(frames, [WORDS], states))


def of_embedding(models: Models) -> tuple[Generation, int]:
    """The judge's features of a clip, and how many numbers they are."""
    judge, numbers = models.judge.eval(), list[int]()
    frames, states = clip(models, judge)
    needs = generation(judge, lambda: numbers.append(judge.features(frames, [WORDS], states).shape[1]))
    return needs, numbers[-1]


def generation(model: Any, function: Callable[[], Any]) -> Generation:
    return _generation(model, call(model, function))


def _generation(model: nn.Module, run: Run) -> Generation:
    count = sum(value.numel() for value in model.parameters())
    return Generation(
        type(model).__name__, count, size(model.parameters()), run, grows=not isinstance(model, Autoencoder)
    )


def window(model: WorldModel) -> tuple[torch.Tensor, Condition]:
    """The frames to come of one window, and what they depend on."""
    count = len(model.offsets()[0])
    context = torch.zeros(1, count, *model.latent_shape)
    poses = torch.zeros(1, count + model.chunk, model.pose_dim)
    # Instructions are embedded once each, before anything else: what is counted is how long the embedding is.
    text = model.embed_text([WORDS])
    text = None if text is None else torch.zeros(text.shape)
    condition = Condition(context, poses, text=text, words=model.read_words([WORDS]))
    return torch.zeros(1, model.chunk // model.frames_per_latent, *model.latent_shape), condition


def observation(models: Models, policy: TrainedPolicy) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures (1, V, h, w, 3), state (1, D) and tokens (1, L)."""
    images = torch.zeros(1, *models.picture(), dtype=torch.uint8)
    return images, torch.zeros(1, len(models.robot.state)), policy.tokenizer([WORDS])


def clip(models: Models, judge: RewardModel) -> tuple[torch.Tensor, torch.Tensor]:
    """What a judge looks at: frames (1, F, V, h, w, 3) of its cameras, and states (1, F, D)."""
    _, height, width, _ = models.picture()
    frames = torch.zeros(1, judge.num_frames, len(judge.cameras), height, width, 3, dtype=torch.uint8)
    return frames, torch.zeros(1, judge.num_frames, len(models.robot.state))


def size(values: Any) -> int:
    """Bytes of parameters."""
    return sum(value.numel() * value.element_size() for value in values)
