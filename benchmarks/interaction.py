"""An interaction of policy, world model and judge, as set for speed against the reference's settings, in frames/s.

    python benchmarks/interaction.py [--preset toy | paper] [--batch 16] [--steps 5] [--frames 32]

The policy gives a chunk of actions, the world model imagines it, its pictures are decoded, until an episode of --frames
is whole and the judge says whether it succeeded. New models of the preset, random weights: what they cost does not
depend on what they have learned. A frame is one time step with all its cameras.

Reference (Ctrl-World's own rollouts): 50 steps by the published schedule, guidance 2, one trajectory at a time, and the
recorded frames decoded beside the imagined ones. Here: --steps by the schedule 'trained', no guidance, --batch
trajectories, decoded what is kept. Limit: 10 times as fast. On a GPU (VLAW_DEVICE) memory and the share of what the
GPU does at most (--peak) are printed too, and the limit at preset 'paper' is 23 frames/s. The rate per GPU is
what `vlaw plan --tflops` takes.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from common.limits import Limits, options

from vlaw_models import presets
from vlaw_models.autoencoders.base import build_autoencoder
from vlaw_models.config import Sampling
from vlaw_models.device import compute_device
from vlaw_models.episodes import Start
from vlaw_models.planning.needs import Models, of_acting, of_decoding, of_imagining, of_judging
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.reward_models.base import build_reward_model
from vlaw_models.robots.registry import find_robot
from vlaw_models.rollouts.rollout import rollout
from vlaw_models.world_models.base import build_world_model
from vlaw_models.world_models.imagined_world import ImaginedWorld

ROBOT = find_robot("droid")
WORDS = "put the red block on the blue block"
REFERENCE = Sampling(50, "karras", guidance=2.0)
GAIN, PAPER_RATE = 10, 23


@dataclass
class Cast:
    """Policy, world model, autoencoder and judge of a preset, new ones."""

    preset: str
    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        preset, numbers = presets.POLICY[self.preset], len(ROBOT.action)
        low, high = (np.array(values, np.float32) for values in ROBOT.state.scale)
        reach = np.full((preset["chunk_size"], numbers), 0.01, np.float32)
        norm = Normalization(low, high, -reach, reach, ROBOT.action.as_is, ROBOT.action.wraps)
        judge = {key: value for key, value in presets.REWARD_MODEL[self.preset].items() if key != "weights"}
        with self.device:
            self.policy = build_policy(preset, norm, robot=ROBOT, seed=0, instructions=[WORDS])
            self.model = build_world_model(presets.WORLD_MODEL[self.preset], robot=ROBOT, seed=0)
            self.autoencoder = build_autoencoder(presets.AUTOENCODER[self.preset], seed=0)
            self.judge = build_reward_model(judge, robot=ROBOT, instructions=[WORDS])
        for part in (self.policy, self.model, self.autoencoder, self.judge):
            part.to(self.device).eval()  # some of diffusers' parameters are made on the CPU, whatever the device
        if "weights" in presets.REWARD_MODEL[self.preset]:
            self.judge.to(torch.bfloat16)  # as published
        for name, part, method in (
            ("policy", self.policy, "sample"),
            ("world model", self.model, "forward"),
            ("decoding", self.autoencoder, "decode"),
        ):
            setattr(part, method, self._timed(name, getattr(part, method)))

    def episodes(self, sampling: Sampling, batch: int, frames: int, *, twice: bool) -> None:
        """Imagines `batch` episodes and judges them; `twice`: decodes as many frames again, as of a recording."""
        height, width = self.model.latent_shape[1] // self.model.views, self.model.latent_shape[2]
        factor = self.autoencoder.factor
        picture = np.zeros((self.model.views, height * factor, width * factor, 3), np.uint8)
        pose = np.mean(ROBOT.state.scale, axis=0).astype(np.float32)
        world = ImaginedWorld(self.model, self.autoencoder, ROBOT, sampling=sampling)
        starts = [Start("", i, WORDS, picture, pose) for i in range(batch)]
        made = rollout(self.policy, world, starts, num_steps=frames, seed=0)
        if twice:
            latents = torch.zeros(batch, frames, *self.model.latent_shape, device=self.device)
            self.autoencoder.decode(latents, self.model.views)
        with self._clock("judge"), torch.inference_mode():
            pictures, states = (part.to(self.device) for part in self.judge.clips(made))
            self.judge.p_yes(pictures, [WORDS] * batch, states).cpu()

    @contextmanager
    def _clock(self, name: str):
        self._wait()
        began = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def _timed(self, name: str, function):
        def timed(*args, **kwargs):
            with self._clock(name):
                return function(*args, **kwargs)

        return timed

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measured(cast: Cast, sampling: Sampling, batch: int, frames: int, *, twice: bool) -> float:
    """Seconds for a frame, after a first short run; prints where they went."""
    cast.episodes(sampling, batch, min(frames, cast.policy.execute_steps), twice=twice)
    cast.seconds.clear()
    if cast.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(cast.device)
    began = time.perf_counter()
    cast.episodes(sampling, batch, frames, twice=twice)
    spent = (time.perf_counter() - began) / (batch * frames)
    parts = ", ".join(f"{name} {1e3 * value / (batch * frames):.1f}" for name, value in cast.seconds.items())
    guided = f"guidance {sampling.guidance:g}" if sampling.guidance > 1 else "no guidance"
    print(
        f"{sampling.steps:2d} steps ({sampling.schedule}), {guided}, batch {batch:3d}: {1 / spent:8.2f} frames/s; "
        f"ms a frame: {parts}",
        flush=True,
    )
    return spent


def flop_of_a_frame(preset: str, cast: Cast, sampling: Sampling, frames: int) -> float:
    """Operations, from the same classes with fake weights."""
    models, steps = Models(preset, ROBOT), cast.policy.execute_steps
    chunks = -(-steps // cast.model.chunk)
    passes = sampling.steps * (2 if sampling.guidance > 1 else 1)
    return (
        (of_acting(models).run.flop + chunks * passes * of_imagining(models).run.flop) / steps
        + cast.model.views * of_decoding(models).run.flop / cast.autoencoder.batch_size
        + of_judging(models).run.flop / frames
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("toy", "paper"), default="toy")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s that the GPU does at most; an H100's")
    parser.add_argument("--threads", type=int, default=1)
    args, limits = options(parser, frames=8, batch=4), Limits()
    torch.set_num_threads(args.threads)
    device = compute_device()
    cast = Cast(args.preset, device)
    _, rows, columns = cast.model.latent_shape
    factor = cast.autoencoder.factor
    print(
        f"preset {args.preset} on {device}: {cast.model.views} views of {rows * factor // cast.model.views} x "
        f"{columns * factor}, world model {cast.model.num_parameters() / 1e6:.1f} M, {args.frames} frames an episode"
    )
    quick = Sampling(args.steps, "trained")
    before = measured(cast, REFERENCE, 1, args.frames, twice=True)
    now = measured(cast, quick, args.batch, args.frames, twice=False)
    print(f"against the reference: {before / now:.1f} x (wanted: at least {GAIN})")
    limits.at_least("against the reference", before / now, GAIN)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**30
        rate = flop_of_a_frame(args.preset, cast, quick, args.frames) / now / 1e12
        print(f"memory {memory:.1f} GiB; {rate:.1f} TFLOP/s, {100 * rate / args.peak:.0f} % of {args.peak:g}")
        if args.preset == "paper":
            limits.at_least("frames/s at the paper's size", 1 / now, PAPER_RATE)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
