"""What `vlaw plan` says that a training takes of a GPU, held against what it takes.

    python benchmarks/plan_memory.py [--preset toy | paper] [--samples 2] [--steps 3]

World model, policy and judge of the preset, new ones with random weights, are trained by the learners themselves,
--samples at once, with activations kept and computed again. Predicted are the bytes of vlaw_models/planning, measured
those of torch.cuda.max_memory_allocated. Limit at preset 'paper': predicted is within 15 % of measured (a toy is
smaller than what cuBLAS takes for itself). What the GPU is too small for is left out. Without a GPU the toys are
trained all the same, and nothing is measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from common.limits import Limits, options
from torch import nn

from vlaw_models import presets
from vlaw_models.device import compute_device, seeded
from vlaw_models.episodes import Episode
from vlaw_models.learners.flow_matching import train_policy
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.learners.reward_model import add_lora, train_reward_model
from vlaw_models.learners.world_model import train_world_model, world_model_loop
from vlaw_models.planning.choose import SPARE, Settings, memory_of
from vlaw_models.planning.needs import WORDS, Models, Training, of_judge, of_policy, of_world_model
from vlaw_models.robots.registry import find_robot
from vlaw_models.world_models.latents import LatentEpisodes

ROBOT = find_robot("droid")
GIB, RANK, FRAMES, OFF = 2**30, 8, 40, 0.15


@dataclass(frozen=True)
class Case:
    """A model, what it needs by the plan, and a short training of it."""

    name: str
    needs: Callable[[Models], Training]
    build: Callable[[Models], nn.Module]
    train: Callable[..., object]
    """(model, episode, samples and keys of LoopConfig)"""
    averaged: bool = True
    """Whether averages of its weights are kept."""


def judge_with_lora(models: Models) -> nn.Module:
    judge = models.new_judge()
    if "weights" in presets.REWARD_MODEL[models.preset]:
        judge.to(torch.bfloat16)  # as published
    add_lora(judge, RANK, seed=0)
    return judge


def train_world(model: Any, _episode: Episode, samples: int, steps: int, **loop: Any) -> None:
    latents = torch.randn(FRAMES, *model.latent_shape).half()
    data = LatentEpisodes(latents, torch.zeros(FRAMES, model.pose_dim), np.array([0, FRAMES]), [WORDS])
    settings = world_model_loop(steps, 1e-5, ema=0.99, **loop)
    train_world_model(model, data, loop=settings, batch_size=samples, change_weight=0.0, seed=0)


def train_acting(policy: Any, episode: Episode, samples: int, steps: int, **loop: Any) -> None:
    settings = LoopConfig(steps=steps, learning_rate=1e-5, ema=0.99, **loop)
    train_policy(policy, [episode], settings, batch_size=samples, seed=0)


def train_judging(judge: Any, episode: Episode, samples: int, steps: int, **loop: Any) -> None:
    train_reward_model(judge, [episode], [True], steps=steps, batch_size=samples, seed=0, **loop)


CASES = (
    Case("world model", partial(of_world_model, heads=False), lambda models: models.world_model, train_world),
    Case("policy", partial(of_policy, frozen_encoder=False), lambda models: models.policy, train_acting),
    Case("judge", partial(of_judge, rank=RANK), judge_with_lora, train_judging, averaged=False),
)


def recording(models: Models) -> Episode:
    """Of the preset's picture size, as if nothing moved."""
    poses = np.tile(np.mean(ROBOT.state.scale, axis=0).astype(np.float32), (FRAMES, 1))
    pictures = np.zeros((FRAMES, *models.picture()), np.uint8)
    own = {"cameras": ROBOT.camera_names, "control_hz": ROBOT.control_hz}
    return Episode("", WORDS, 0, pictures, poses, poses[1:], **own)


@contextmanager
def with_weights(device: torch.device, _dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Models that are made inside the block have weights, on the device."""
    with seeded(0), device:
        yield


def trained(case: Case, models: Models, episode: Episode, device: torch.device, **how: Any) -> int | None:
    """Most bytes that were allocated on the GPU during a training; None without one."""
    model = case.build(models).to(device)
    if device.type != "cuda":
        case.train(model, episode, **how)
        return None
    torch.cuda.reset_peak_memory_stats(device)
    case.train(model, episode, **how)
    return torch.cuda.max_memory_allocated(device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("toy", "paper"), default="toy")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    args, limits = options(parser, steps=1), Limits()
    device = compute_device()
    gpu = device.type == "cuda"
    room = torch.cuda.get_device_properties(device).total_memory * (1 - SPARE) if gpu else 0
    planned = Models(args.preset, ROBOT)
    episode = recording(planned)
    print(f"preset {args.preset} on {device}, {args.samples} samples at once")
    print(f"{'training of the':16s} {'activations':12s} {'predicted':>11s} {'measured':>11s}")
    for case in CASES:
        needs = case.needs(planned)
        for recompute in (False, True)[: 1 if needs.recomputed is None else 2]:
            way = Settings(args.samples, recompute, sharded=False)
            predicted = memory_of(needs, way, 1, averaged=case.averaged)
            said, measured = "-", None
            if gpu and predicted > room:
                said = "too large"
            elif gpu or args.preset == "toy":
                models = Models(args.preset, ROBOT, making=partial(with_weights, device))
                how = {"samples": args.samples, "steps": args.steps, "recompute": recompute}
                measured = trained(case, models, episode, device, **how)
            if measured is not None:
                said = f"{measured / GIB:.3f} GiB, {predicted / measured - 1:+.1%}"
            kind = "again" if recompute else "kept"
            print(f"{case.name:16s} {kind:12s} {predicted / GIB:7.3f} GiB {said:>11s}", flush=True)
            if measured is not None and args.preset == "paper":
                off = abs(predicted / measured - 1)
                limits.at_most(f"{case.name}, {kind}: share by which the plan is off", off, OFF)
    if not gpu:
        print("no GPU (VLAW_DEVICE): nothing was measured, no limit was looked at")
        return 0
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
