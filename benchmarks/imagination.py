"""Imagination speed: frames per second, all trajectories in one batch against one by one, on all cores.

    python benchmarks/imagination.py [--policy DIR] [--world-model DIR] [--autoencoder DIR] [--batch 100]

A frame is one time step with all its cameras. Policy, world model and autoencoder: the shipped ones, or the folders
given. Limit: the batch is at least 3 times as fast.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from common.limits import Limits, options

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.config import Sampling
from vlaw_models.episodes import Start
from vlaw_models.policies.base import load_policy
from vlaw_models.presets import foundation
from vlaw_models.robots.tabletop.controller import HOME
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.rollout import rollout
from vlaw_models.world_models.base import load_world_model
from vlaw_models.world_models.imagined_world import ImaginedWorld

LIMIT = 3


def seconds(policy, world, starts, num_steps: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    rollout(policy, world, starts, num_steps=num_steps, seed=0)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, default=foundation("tiny", "base_policy"))
    parser.add_argument("--world-model", type=Path, default=foundation("tiny", "world_model"))
    parser.add_argument("--autoencoder", type=Path, default=foundation("tiny", "autoencoder"))
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--sampling-steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args, limits = options(parser, steps=8), Limits()
    torch.set_num_threads(args.threads)
    policy, model = load_policy(args.policy), load_world_model(args.world_model)
    autoencoder = load_autoencoder(args.autoencoder)
    world = ImaginedWorld(model, autoencoder, SPEC, sampling=Sampling(args.sampling_steps))
    rng = np.random.default_rng(0)
    size = world.image_size
    starts = [
        Start(
            "stack",
            i,
            "stack the red block on the blue block",
            rng.integers(0, 255, (model.views, size, size, 3)).astype(np.uint8),
            HOME,
        )
        for i in range(args.batch)
    ]
    print(
        f"world model {model.num_parameters() / 1e6:.2f} M, autoencoder {autoencoder.num_parameters() / 1e6:.2f} M, "
        f"{args.sampling_steps} sampling steps, {args.threads} thread(s)"
    )
    rates = {}
    for batch, count in ((1, min(8, args.batch)), (args.batch, args.batch)):
        seconds(policy, world, starts[:batch], 4)
        spent = [seconds(policy, world, starts[i : i + batch], args.steps) for i in range(0, count, batch)]
        wall, cpu = np.sum(spent, axis=0)
        rates[batch] = count * args.steps / wall
        print(f"batch {batch:4d}: {rates[batch]:8.1f} frames/s (wall), {count * args.steps / cpu:8.1f} per CPU second")
    gain = rates[args.batch] / rates[1]
    print(f"batched / one by one: {gain:.2f} x (wanted: at least {LIMIT})")
    limits.at_least("batched next to one by one", gain, LIMIT)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
