"""What few sampling steps cost in quality: one world model, trained once, sampled with fewer and fewer steps.

    python benchmarks/sampling.py [--updates 600] [--clips 48] [--steps 1 2 3 5 8]

A CtrlWorld at toy size learns the embedded robot's demonstrations (three views of 16 pixels). Of held-out episodes
(layouts for validation) one chunk is imagined from recorded frames: its PSNR against what was recorded, by the
published schedule ('karras') and by 'trained', and its detail, the size of differences between neighbouring pixels as a
share of the recorded ones: the mean of many possible futures has a good PSNR and little detail. Limit: five steps of
'trained' lose at most 0.5 dB against 50, by whichever schedule is better at 50.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from common.limits import Limits, options

from vlaw_models.autoencoders.folded_pixels import FoldedPixels, FoldedPixelsConfig
from vlaw_models.config import Sampling, Schedule
from vlaw_models.learners.world_model import train_world_model, world_model_loop
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.world_models import edm
from vlaw_models.world_models.ctrl_world import CtrlWorld, CtrlWorldConfig
from vlaw_models.world_models.latents import LatentEpisodes, Runs, encode_episodes, windows

SIZE, FOLD, LOSS = 16, 4, 0.5
SCHEDULES: tuple[Schedule, ...] = ("karras", "trained")
MANY, CHOSEN = 50, Sampling(5, "trained")


def episodes(autoencoder: FoldedPixels, purpose: str, count: int) -> LatentEpisodes:
    made = iterate_demonstrations(("stack", "erase"), count, robot=SPEC, purpose=purpose, seed=0, image_size=SIZE)
    return encode_episodes(autoencoder, list(made))


def toy() -> CtrlWorld:
    """As published but for its sizes."""
    torch.manual_seed(0)
    cells = SIZE // FOLD
    return CtrlWorld(
        CtrlWorldConfig(
            **CtrlWorld.of_robot(SPEC),
            latent_channels=3 * FOLD**2,
            latent_height=cells,
            latent_width=cells,
            history=2,
            vae_scale=1.0,
            block_out_channels=(64, 96),
            layers=1,
            heads=(2, 3),
            token_dim=64,
            addition_time_embed_dim=32,
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 3, 5, 8])
    parser.add_argument("--threads", type=int, default=1)
    args, limits = options(parser, updates=20, clips=4), Limits()
    torch.set_num_threads(args.threads)
    autoencoder = FoldedPixels(FoldedPixelsConfig(fold=FOLD))
    data, held_out = episodes(autoencoder, "demonstration", 12), episodes(autoencoder, "validation", 6)
    model = toy()
    losses = train_world_model(
        model,
        data,
        loop=world_model_loop(args.updates, 1e-3, ema=0.99),
        batch_size=args.batch,
        seed=0,
        change_weight=0.0,
    )
    print(
        f"CtrlWorld of {model.num_parameters() / 1e6:.2f} M, {args.updates} updates of {args.batch} windows, loss "
        f"{np.mean(losses[-50:]):.4f}; {args.clips} chunks of held-out episodes"
    )
    chosen = Runs(held_out, model, args.clips, np.random.default_rng(1))()
    future, condition = windows(held_out, model, chosen, held_out.stored[chosen.frames])
    true = autoencoder.decode(future, model.views).astype(np.float64)

    def quality(sampling: Sampling) -> tuple[float, float]:
        """PSNR in dB, and detail as a share."""
        found = edm.imagine(model, condition, sampling, generator=torch.Generator().manual_seed(0))
        made = autoencoder.decode(found.frames, model.views).astype(np.float64)
        error = ((made - true) ** 2).reshape(args.clips, -1).mean(1)
        detail = np.abs(np.diff(made, axis=-2)).mean() / np.abs(np.diff(true, axis=-2)).mean()
        return float((10 * np.log10(255**2 / error)).mean()), float(detail)

    print(f"{'steps':>5s} {'karras':>18s} {'trained':>18s}    'trained' loses against {MANY} of karras, of trained")
    references: list[float] = []
    for steps in (MANY, *args.steps):
        found = [quality(Sampling(steps, schedule)) for schedule in SCHEDULES]
        references = references or [psnr for psnr, _ in found]
        both = " ".join(f"{psnr:8.2f} dB, {detail:.2f}" for psnr, detail in found)
        lost = ", ".join(f"{reference - found[-1][0]:+.2f} dB" for reference in references)
        print(f"{steps:5d} {both}    {lost}", flush=True)
    limits.at_most("dB lost with five steps", max(references) - quality(CHOSEN)[0], LOSS)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
