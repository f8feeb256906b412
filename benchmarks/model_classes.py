"""What one training step and one sampled frame cost in each world-model class, on one thread.

    python benchmarks/model_classes.py

Evidence for the tiny preset's choice: Ctrl-World's spatio-temporal U-Net at about 2 M parameters and the U-Net with
frames in channels, both on the latents of three 64-pixel views (32 x 24 x 8), against the one that moves pixels; random
weights.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from common.limits import options

from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition, WorldModel
from vlaw_models.world_models.chunk_unet import ChunkUNet, ChunkUNetConfig
from vlaw_models.world_models.chunk_warp import ChunkWarp, ChunkWarpConfig
from vlaw_models.world_models.ctrl_world import CtrlWorld, CtrlWorldConfig


def small_ctrl_world() -> CtrlWorld:
    config = CtrlWorldConfig(
        latent_channels=32,
        latent_height=8,
        latent_width=8,
        vae_scale=1.0,
        **CtrlWorld.of_robot(SPEC),
        block_out_channels=(32, 64),
        layers=1,
        heads=(2, 4),
        token_dim=64,
        addition_time_embed_dim=32,
    )
    return CtrlWorld(replace(config, edm=edm.EdmConfig(sigma_max=80.0)))


def condition(model: WorldModel, batch: int) -> Condition:
    frames = len(model.offsets()[0])
    return Condition(torch.randn(batch, frames, *model.latent_shape), torch.zeros(batch, frames + model.chunk, 5))


def measure(model: WorldModel, *, train_batch: int, sample_batch: int, sampling_steps: int, repeats: int) -> None:
    generator = torch.Generator().manual_seed(0)
    future, given = torch.randn(train_batch, model.chunk, *model.latent_shape), condition(model, train_batch)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def train() -> None:
        optimizer.zero_grad()
        edm.loss(model, future, given, generator)[0].mean().backward()
        optimizer.step()

    many = condition(model, sample_batch)

    def sample() -> None:
        edm.sample(model, many, steps=sampling_steps, generator=generator)

    figures = []
    for work in (train, sample):
        model.train(work is train)
        work()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            work()
        figures.append(((time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats))
    (train_wall, train_cpu), (wall, cpu) = figures
    frames = sample_batch * model.chunk
    print(
        f"{type(model).__name__:10s} {model.num_parameters() / 1e6:5.2f} M | step of {train_batch}: "
        f"{1e3 * train_wall:6.0f} ms (CPU {1e3 * train_cpu:6.0f}) | {sampling_steps} sampling steps at {sample_batch}: "
        f"{frames / wall:6.0f} frames/s (per CPU second {frames / cpu:6.0f}), without decoding"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = options(parser, repeats=1)
    torch.set_num_threads(args.threads)
    warp = ChunkWarp(ChunkWarpConfig(**ChunkWarp.of_robot(SPEC)))
    chunk = ChunkUNet(ChunkUNetConfig(**ChunkUNet.of_robot(SPEC)))
    for model, sampling_steps in ((warp, 1), (chunk, 1), (small_ctrl_world(), 2)):
        measure(model, train_batch=16, sample_batch=100, sampling_steps=sampling_steps, repeats=args.repeats)


if __name__ == "__main__":
    main()
