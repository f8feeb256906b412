"""A training of a moment for every kind of model that the trainer has: (how it is optimised) -> losses and weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from small_policies import FLOW, OFT, PI0, make
from toy_world_models import TOY

from vlaw_models.autoencoders.folded_pixels import FoldedPixels
from vlaw_models.episodes import Episode
from vlaw_models.learners.batches import Batches
from vlaw_models.learners.flow_matching import train_head, train_policy
from vlaw_models.learners.loop import LoopConfig, train
from vlaw_models.learners.reward_model import train_reward_model
from vlaw_models.learners.world_model import train_world_model, world_model_loop
from vlaw_models.policies.data import StepData
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.openvla_oft import OpenVlaOftPolicy
from vlaw_models.policies.pi0 import Pi0Policy
from vlaw_models.policies.pi05 import Pi05Policy
from vlaw_models.reward_models.clip_judge import ClipJudge, ClipJudgeConfig
from vlaw_models.reward_models.qwen_judge import QwenJudge, QwenJudgeConfig, toy_sizes
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.world_models.chunk_warp import ChunkWarp, ChunkWarpConfig
from vlaw_models.world_models.ctrl_world import CtrlWorld
from vlaw_models.world_models.latents import LatentEpisodes, encode_episodes

BATCH = 6
Trained = tuple[list[float], torch.nn.Module]


@cache
def episodes() -> tuple[Episode, ...]:
    found = iterate_demonstrations(["stack"], 2, robot=SPEC, purpose="co_training", seed=0)
    return tuple(replace(episode, success=bool(index)) for index, episode in enumerate(found))


def warp(*, steps: int, checkpoints: Any = None, progress: Any = None, **loop: Any) -> Trained:
    """The tiny world model, which goes on from what it made, co-trained."""
    data = encode_episodes(FoldedPixels(), episodes(), when_drawn=True)
    sizes = ChunkWarpConfig(**ChunkWarp.of_robot(SPEC), channels=(16, 16, 32), embedding=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ChunkWarp(sizes)
    settings = world_model_loop(steps, 1e-3, ema=0.9, **loop)
    options: dict[str, Any] = {"checkpoints": checkpoints, "progress": progress, "unroll": 2}
    options |= {"co_training_weight": 0.5, "batch_size": BATCH, "seed": 3, "loop": settings}
    return train_world_model(model, data, data, **options), model


def ctrl(*, steps: int, checkpoints: Any = None, progress: Any = None, **loop: Any) -> Trained:
    """Ctrl-World at a toy's size, going on from what it sampled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CtrlWorld(TOY)
        latents = torch.randn(40, *model.latent_shape).half()
    poses = torch.from_numpy(np.resize(episodes()[0].states, (40, model.pose_dim)).astype(np.float32))
    data = LatentEpisodes(latents, poses, np.array([0, 20, 40]), ["a", "b"])
    settings = world_model_loop(steps, 1e-3, ema=0.9, **loop)
    options: dict[str, Any] = {"checkpoints": checkpoints, "progress": progress, "unroll": 1}
    return train_world_model(
        model, data, data, co_training_weight=0.5, batch_size=BATCH, seed=3, loop=settings, **options
    ), model


def _policy(cls: Any, sizes: dict[str, Any], head: bool = False, **made: Any) -> Callable[..., Trained]:
    def train(*, steps: int, checkpoints: Any = None, progress: Any = None, **loop: Any) -> Trained:
        policy = make(cls, sizes, episodes(), execute_steps=4, **made)
        settings = LoopConfig(steps=steps, learning_rate=1e-3, ema=0.9, bfloat16=False, **loop)
        options: dict[str, Any] = {"batch_size": BATCH, "seed": 3, "progress": progress}
        if head:
            return train_head(policy, [StepData.from_episodes(episodes())], [1.0], settings, **options), policy
        return train_policy(policy, episodes(), settings, checkpoints=checkpoints, **options), policy

    return train


def _judge(build: Callable[[], Any]) -> Callable[..., Trained]:
    def train(*, steps: int, checkpoints: Any = None, progress: Any = None, **loop: Any) -> Trained:
        judge = build()
        options: dict[str, Any] = {"batch_size": BATCH, "checkpoints": checkpoints, "progress": progress, **loop}
        done = train_reward_model(
            judge, episodes(), [bool(e.success) for e in episodes()], steps=steps, seed=3, **options
        )
        return done["losses"], judge

    return train


def clip_judge(**settings: Any) -> ClipJudge:
    sizes: dict[str, Any] = {"image_size": 64, "num_frames": 4, "channels": (8, 16, 24), "width": 32, "layers": 1}
    config = ClipJudgeConfig(**{**ClipJudge.of_robot(SPEC), **sizes, **settings})
    return ClipJudge.build(config, [episodes()[0].instruction], seed=3)


def qwen_judge() -> QwenJudge:
    config = QwenJudgeConfig(**{**QwenJudge.of_robot(SPEC), "num_frames": 4, "image_size": 64, "view_size": 32})
    sizes = toy_sizes(width=32, text_layers=2, vision_layers=2)
    return QwenJudge.build(config, sizes, [episodes()[0].instruction], seed=3)


def mlp(*, steps: int, checkpoints: Any = None, progress: Any = None, **loop: Any) -> Trained:
    """Nothing but the trainer: a network with dropout and noise, in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Dropout(loop.pop("dropout", 0.1)), torch.nn.Linear(16, 1)
        ).double()
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(2)
    data = torch.from_numpy(np.random.default_rng(3).normal(size=(50, 4)))

    def loss(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(len(rows), 4, generator=generator, dtype=torch.float64)
        return (model(rows + 0.1 * noise)[:, 0] - rows.prod(1)).square().mean()

    settings = LoopConfig(steps=steps, learning_rate=1e-2, ema=0.9, bfloat16=False, **loop)
    batches = Batches(BATCH, lambda: [rng.integers(50, size=BATCH)], lambda groups: data[groups[0]])
    options: dict[str, Any] = {"checkpoints": checkpoints, "progress": progress}
    return train(model, batches, loss, settings, what="network", generator=generator, seed=5, **options), model


def _in_float32(train: Callable[..., Trained]) -> Callable[..., Trained]:
    """Also on a CPU that is quick at bfloat16, whose rounding hides what these trainings are compared for."""

    @wraps(train)
    def trained(**options: Any) -> Trained:
        with patch("vlaw_models.device.cpu_is_quick", return_value=False):
            return train(**options)

    return trained


_KINDS: dict[str, Callable[..., Trained]] = {
    "mlp": mlp,
    "warp": warp,
    "ctrl": ctrl,
    "flow": _policy(FlowPolicy, {**FLOW, "image_size": 64, "shift": 2, "flow_samples": 2}, euler_steps=2),
    "head": _policy(FlowPolicy, {**FLOW, "image_size": 64}, head=True, euler_steps=2),
    "pi0": _policy(Pi0Policy, PI0, euler_steps=2),
    "pi05": _policy(Pi05Policy, PI0, euler_steps=2),
    "oft": _policy(OpenVlaOftPolicy, OFT),
    "clip": _judge(lambda: clip_judge(dropout=0.0)),
    "clip_features": _judge(lambda: clip_judge(dropout=0.0, frozen_eyes=True)),
    "qwen": _judge(qwen_judge),
}
KINDS = {kind: _in_float32(train) for kind, train in _KINDS.items()}
