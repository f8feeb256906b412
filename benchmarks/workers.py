"""How much quicker two workers imagine than one (vlaw_assets/engines), each a process with one thread of torch.

    python benchmarks/workers.py

The shipped models imagine from frames of noise, in workers of engine 'forked'. Timed is what the run waits for:
starting the workers, loading the models, the parts, and reading them back; not the process that they are forks of, of
which a run has one. Needs as many idle cores as workers: the load before each run is printed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import dagster as dg
import numpy as np
from common.limits import Limits, options

import vlaw_models
from vlaw_assets.engines import elsewhere
from vlaw_assets.engines.forked import Forked
from vlaw_assets.engines.settings import FORKED, Settings
from vlaw_models.config import ImagineConfig
from vlaw_models.episodes import Start
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.imagine import imagining
from vlaw_models.spread import Batches

WEIGHTS = Path(vlaw_models.__file__).parent / "weights"
MODELS = {"policy": "base_policy", "world_model": "world_model", "autoencoder": "autoencoder"}
LIMIT = 1.7
"""Two workers over one."""
POSE = np.array([0.0, 0.0, 0.2, 0.0, 0.0], np.float32)


def seconds(workers: int, starts: list[Start], cfg: ImagineConfig, folder: Path) -> float:
    manifest = elsewhere.manifest_of(
        imagining,
        {name: WEIGHTS / given for name, given in MODELS.items()},
        {"config": cfg, "robot": SPEC, "seed": 0},
        threads=1,
        stage="benchmark",
    )
    chosen = Settings(engine=FORKED, workers=workers)
    took = 0.0

    @dg.asset
    def benchmark(context):
        nonlocal took
        begun = time.perf_counter()
        place = elsewhere.Place(folder / str(workers), manifest)
        for _ in elsewhere.made(context, Forked(chosen), chosen, place, Batches(starts, cfg.batch_size)):
            pass
        took = time.perf_counter() - begun
        return dg.MaterializeResult()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dg.materialize([benchmark], instance=dg.DagsterInstance.ephemeral())
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=400)
    given = options(parser, quick={"episodes": 8})
    rng = np.random.default_rng(0)
    shape = (len(SPEC.cameras), 64, 64, 3)
    tasks = sorted(SPEC.tasks)
    starts = [
        Start(tasks[n % len(tasks)], n, "stack it", rng.integers(0, 256, shape, dtype=np.uint8), POSE, f"e{n}")
        for n in range(given.episodes)
    ]
    cfg = ImagineConfig(batch_size=25 if given.episodes > 8 else 2)
    limits = Limits()
    with tempfile.TemporaryDirectory() as folder:
        took = {}
        seconds(1, starts[:1], cfg, Path(folder) / "before")
        for workers in (1, 2):
            load = os.getloadavg()[0]
            took[workers] = seconds(workers, starts, cfg, Path(folder))
            print(f"{workers} worker(s): {given.episodes} episodes in {took[workers]:.1f} s; load before {load:.1f}")
    print(f"two workers over one: {took[1] / took[2]:.2f}")
    if not given.quick:  # of a few episodes the start of a worker is most
        limits.at_least("two workers over one", took[1] / took[2], LIMIT)
    raise SystemExit(limits.status())


if __name__ == "__main__":
    main()
