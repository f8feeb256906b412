"""Playing scripted experts through whole episodes: shared by the tests of the tasks."""

from __future__ import annotations

from collections import Counter

import numpy as np

from vlaw_models.robots.tabletop.scene import Sim
from vlaw_models.robots.tabletop.tasks import Expert, Quality

STEPS = 28


def play(sim: Sim, seed: int, quality: Quality) -> int:
    """Plays a whole episode; returns the step at which the expert was done."""
    sim.reset(seed)
    expert = Expert(sim, np.random.default_rng(seed), quality)
    done = STEPS
    for step in range(STEPS):
        sim.step(expert.act(sim))
        if expert.index >= len(expert.plan):
            done = min(done, step + 1)
    return done


def events(sim: Sim, quality: Quality, seeds: int) -> Counter:
    """How the episodes of seeds 0 to `seeds` - 1 ended."""
    counts = Counter()
    for seed in range(seeds):
        play(sim, seed, quality)
        counts[sim.task.outcome(sim).event] += 1
    return counts
