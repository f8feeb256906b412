"""What one training step takes on one thread and on two that wait for each other in three ways: alone, and beside a
busy job.

    python benchmarks/threads.py

A step is one of the tiny world model. The busy job is one process per core that computes without pause. Two threads
meet hundreds of times in a step: while one of them has lost its core to the other job, the other one spins, which
costs it its own share, unless it sleeps; but waking up takes longer than most waits. `vlaw_models` sets something
between the two. Numbers do not depend on it: every setting must end in the same weights as the others of as many
threads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

from common.limits import Limits, options

SPINNING, SLEEPING, OURS = "2 threads that spin", "2 threads that sleep", "2 threads as vlaw_models sets them"
SETTINGS: dict[str, tuple[int, dict[str, str]]] = {
    "1 thread": (1, {}),
    SPINNING: (2, {"OMP_WAIT_POLICY": ""}),  # as torch has it by itself
    SLEEPING: (2, {"OMP_WAIT_POLICY": "PASSIVE"}),
    OURS: (2, {}),
}
SLOWER = 1.5
"""Ours may cost so many times the better of the other two, alone and beside a job."""
BESIDE = 3
"""Steps of a round beside a job, where spinning takes many times as long."""
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"
"""Ends with whoever started it."""


def steps(count: int, batch: int) -> None:
    """Prints seconds per step and a digest of the weights after them; run in a process of its own."""
    import vlaw_models  # noqa: F401  (how threads wait, before torch is loaded)

    if not os.environ["OMP_WAIT_POLICY"]:
        del os.environ["OMP_WAIT_POLICY"]
    import torch

    from vlaw_models.robots.tabletop.spec import SPEC
    from vlaw_models.world_models import edm
    from vlaw_models.world_models.base import Condition
    from vlaw_models.world_models.chunk_warp import ChunkWarp, ChunkWarpConfig

    torch.manual_seed(0)
    model, generator = ChunkWarp(ChunkWarpConfig(**ChunkWarp.of_robot(SPEC))), torch.Generator().manual_seed(0)
    future, frames = torch.randn(batch, model.chunk, *model.latent_shape), len(model.offsets()[0])
    given = Condition(torch.randn(batch, frames, *model.latent_shape), torch.zeros(batch, frames + model.chunk, 5))
    optimizer, seconds = torch.optim.AdamW(model.parameters(), fused=True), []
    for _ in range(count + 1):
        begun = time.perf_counter()
        optimizer.zero_grad()
        edm.loss(model, future, given, generator)[0].mean().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    weights = hashlib.sha256(b"".join(value.detach().numpy().tobytes() for value in model.parameters()))
    print(json.dumps({"seconds": seconds[1:], "weights": weights.hexdigest()}))


def measure(threads: int, waiting: dict[str, str], count: int, batch: int) -> dict[str, object]:
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment |= {"OMP_NUM_THREADS": str(threads), "VLAW_DEVICE": "cpu", **waiting}
    words = [sys.executable, __file__, "--child", "--steps", str(count), "--batch", str(batch)]
    return json.loads(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)


@contextmanager
def busy(processes: int):
    """Runs a block beside so many processes that compute without pause."""
    jobs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for job in jobs:
            job.kill()
            job.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="per setting and round")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = options(parser, steps=3, rounds=1, batch=1)
    if args.child:
        steps(args.steps, args.batch)
        return 0
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, load before: {os.getloadavg()[0]:.1f}", flush=True)
    limits, digests = Limits(), {}
    for place, others in (("alone", 0), (f"beside {cores} busy processes", cores)):
        found: dict[str, list[float]] = {name: [] for name in SETTINGS}
        with busy(others):
            for _ in range(args.rounds):
                for name, (threads, waiting) in SETTINGS.items():
                    run = measure(threads, waiting, min(args.steps, BESIDE) if others else args.steps, args.batch)
                    found[name] += run["seconds"]
                    digests.setdefault(threads, set()).add(run["weights"])
        medians = {name: statistics.median(seconds) for name, seconds in found.items()}
        for name, seconds in found.items():
            spread = f"{1e3 * medians[name]:.0f} ms a step (slowest {1e3 * max(seconds):.0f})"
            print(f"{place}: {name}: {spread}", flush=True)
        best = min(medians[SPINNING], medians[SLEEPING])
        limits.at_most(f"{place}, against the better of spinning and sleeping", medians[OURS] / best, SLOWER)
    limits.at_most("different weights from one number of threads", max(map(len, digests.values())), 1)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
