"""Simulator speed: control steps and pictures per second of every task, on one thread and on two.

    python benchmarks/simulator.py [--episodes 6] [--renders 60] [--repeats 3]

Steps: scripted experts' episodes played again (so contacts are those of real work), without resets, experts and
pictures. Pictures: single cameras at 64 px, ray-cast in the middle of an episode. Medians of the repeats, each next to
its limit (800 steps/s, 1,000 pictures/s) as a ratio. Numbers per CPU second tell a slow simulator from a busy machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from common.limits import Limits, options

from vlaw_models.config import RolloutConfig
from vlaw_models.robots.tabletop.render import RayRenderer
from vlaw_models.robots.tabletop.scene import Sim
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.tasks import TASKS, Expert, Quality
from vlaw_models.robots.tabletop.world import make_sim

STEPS_LIMIT, IMAGES_LIMIT = 800, 1000
"""Least control steps and pictures per second."""
SIZE = 64
NUM_STEPS = RolloutConfig.num_steps


def expert_actions(sim: Sim, seed: int) -> list[np.ndarray]:
    """What the expert commands in one episode from the layout of `seed`."""
    sim.reset(seed)
    expert = Expert(sim, np.random.default_rng(seed), Quality())
    return [sim.step(expert.act(sim) if expert.index < len(expert.plan) else sim.state) for _ in range(NUM_STEPS)]


def play(sim: Sim, actions: Sequence[np.ndarray]) -> None:
    """Executes the commands one after the other."""
    for action in actions:
        sim.step(action)


def draw(renderer: RayRenderer, sim: Sim, count: int) -> None:
    """Takes `count` pictures from every camera."""
    for _ in range(count):
        renderer.render(sim.model, sim.data)


def timed(pool: ThreadPoolExecutor, work: Callable[..., None], *arguments: Sequence) -> np.ndarray:
    """Wall and CPU seconds of `work` over the arguments, one call per thread."""
    wall, cpu = time.perf_counter(), time.process_time()
    list(pool.map(work, *arguments))
    return np.array([time.perf_counter() - wall, time.process_time() - cpu])


def measure(task: str, threads: int, episodes: int, renders: int, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and pictures, each per second of wall time and of CPU time: medians of the repeats."""
    sims, renderers = [make_sim(task) for _ in range(threads)], [RayRenderer(SIZE) for _ in range(threads)]
    seeds = list(range(episodes))
    plans = [expert_actions(sims[0], seed) for seed in seeds]
    steps, images = [], []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats):
            spent = np.zeros(2)
            for seed, plan in zip(seeds, plans, strict=True):
                for sim in sims:
                    sim.reset(seed)
                spent += timed(pool, play, sims, [plan] * threads)
            steps.append(threads * episodes * NUM_STEPS / spent)
            for sim in sims:
                sim.reset(0)
                play(sim, plans[0][: NUM_STEPS // 2])
            images.append(
                threads * renders * len(SPEC.cameras) / timed(pool, draw, renderers, sims, [renders] * threads)
            )
    return np.median(steps, axis=0), np.median(images, axis=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=6, help="episodes per repeat")
    parser.add_argument("--renders", type=int, default=60, help="pictures of all cameras per repeat and thread")
    parser.add_argument("--repeats", type=int, default=3)
    args, limits = options(parser, episodes=2, renders=20, repeats=1), Limits()
    print(f"limits: {STEPS_LIMIT} control steps/s, {IMAGES_LIMIT} pictures/s of {SIZE} px; 1.00 x meets the limit")
    print(
        f"{'task':8s} threads | {'steps/s':>8s} {'ratio':>7s} {'per CPU s':>10s} | "
        f"{'images/s':>8s} {'ratio':>7s} {'per CPU s':>10s}"
    )
    for task in TASKS:
        for threads in (1, 2):
            steps, images = measure(task, threads, args.episodes, args.renders, args.repeats)
            print(
                f"{task:8s} {threads:7d} | {steps[0]:8.0f} {steps[0] / STEPS_LIMIT:5.2f} x {steps[1]:10.0f} | "
                f"{images[0]:8.0f} {images[0] / IMAGES_LIMIT:5.2f} x {images[1]:10.0f}",
                flush=True,
            )
            limits.at_least(f"{task}, {threads} threads, control steps/s", steps[0], STEPS_LIMIT)
            limits.at_least(f"{task}, {threads} threads, pictures/s", images[0], IMAGES_LIMIT)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
