"""A served chunk against the same call in this process: milliseconds per chunk, and what many clients get.

    python benchmarks/serving.py [--requests 300] [--clients 16]

The shipped policy of the simulated robot, served by `vlaw serve-policy` in a process of its own and asked over the
loopback as openpi's client asks. Requests take turns with the same call in this process (read the observation, ask the
policy, clip the chunk), so that both see the same machine; both compute on one thread.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.limits import Limits, options
from websockets.sync.client import ClientConnection, connect

from vlaw_assets.lake import Identity, Lake
from vlaw_assets.recipes import find_recipe
from vlaw_assets.serving.served import Served, find_policy, load
from vlaw_assets.serving.session import is_served, read_session, session_ids
from vlaw_models import wire
from vlaw_models.episodes import Observation
from vlaw_models.presets import foundation
from vlaw_models.robots.observation import read_observation
from vlaw_models.rollouts.ask import accepted, ask

RATIO = 2.0
"""How many times as long as in process a chunk may take when one robot asks (median)."""
SIZES = (64, 224, 480)
"""Pixels of a side of each of the three pictures; the policy's own are 64."""
WARM = 10
EXPERIMENT = "vlaw"


def lake_with_the_shipped_policy(folder: Path) -> Lake:
    lake = Lake.open(folder / "lake")
    with lake.commit(asset="base_policy", identity=Identity("policy", "benchmark", "{}", ()), run_id="b") as draft:
        shutil.copytree(foundation("tiny", "base_policy"), draft.checkpoint_dir(), dirs_exist_ok=True)
    return lake


def start(lake: Lake) -> tuple[subprocess.Popen[bytes], str]:
    """A server, and its address."""
    words = [sys.executable, "-c", "from vlaw_assets.cli import app; app()", "serve-policy", EXPERIMENT, "0"]
    environment = {**os.environ, "VLAW_LAKE": str(lake.paths.root), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen([*words, "--port", "0"], env=environment, stdout=subprocess.DEVNULL)
    while not (found := [name for name in session_ids(lake) if is_served(lake, name)]):
        if server.poll() is not None:
            raise SystemExit("the server ended before it was asked")
        time.sleep(0.1)
    return server, read_session(lake, found[0]).address


def observation(size: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    names = ("exterior_1", "exterior_2", "wrist")
    pictures = {f"observation/{name}": rng.integers(0, 256, (size, size, 3), np.uint8) for name in names}
    state = np.array([0.05, 0.0, 0.1, 0.2, 0.5])
    prompt = "stack the red block on the blue block"
    return {**pictures, "observation/state": state, "prompt": prompt, "noise_seed": seed}


def over_the_wire(client: ClientConnection, sent: dict[str, Any]) -> np.ndarray:
    client.send(wire.pack(sent))
    answer = client.recv()
    if isinstance(answer, str):
        raise SystemExit(answer)
    return wire.unpack(answer)["actions"]


def milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def quantiles(found: list[float]) -> tuple[float, float]:
    """Median and 95 %."""
    return statistics.median(found), float(np.quantile(found, 0.95))


def in_process(served: Served, noise_scale: float, sent: dict[str, Any]) -> np.ndarray:
    one = read_observation(served.robot, sent, served.image_size)
    observation = Observation(one.images[None], one.state[None])
    generator = torch.Generator().manual_seed(sent["noise_seed"])
    steps = served.policy.execute_steps
    chunk = ask(
        served.policy, observation, [one.prompt], generator, noise_scale=noise_scale, steps=steps, where="benchmark"
    )
    return accepted(served.robot, observation.state, chunk)[0]


def one_robot(
    address: str, here: Callable[[dict[str, Any]], np.ndarray], size: int, requests: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of each served chunk, and of each in this process."""
    wired, inside = [], []
    with connect(address, compression=None, max_size=None) as client:
        client.recv()
        for number in range(requests + WARM):
            sent = observation(size, number)
            pair = milliseconds(lambda s=sent: over_the_wire(client, s)), milliseconds(lambda s=sent: here(s))
            if number >= WARM:
                wired.append(pair[0])
                inside.append(pair[1])
        np.testing.assert_allclose(over_the_wire(client, sent), here(sent), atol=2e-5)
    return wired, inside


def many_robots(address: str, clients: int, requests: int) -> tuple[list[float], float]:
    """Milliseconds of each chunk, and chunks per second, of clients that ask at once."""
    each = max(2, requests // clients)

    def robot(number: int) -> list[float]:
        with connect(address, compression=None, max_size=None) as client:
            client.recv()
            sent = observation(SIZES[0], number)
            return [milliseconds(lambda: over_the_wire(client, sent)) for _ in range(each)]

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = [took for robots in pool.map(robot, range(clients)) for took in robots]
    return found, len(found) / (time.perf_counter() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=16)
    args, limits = options(parser, requests=40), Limits()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lake = lake_with_the_shipped_policy(Path(folder))
        recipe = find_recipe(EXPERIMENT)
        served = load(lake, recipe, find_policy(lake, recipe, 0))
        here = partial(in_process, served, recipe.rollouts.noise_scale)
        server, address = start(lake)
        try:
            print(f"{'ms per chunk':34s} {'p50':>7s} {'p95':>7s} | in process {'p50':>7s} {'p95':>7s} | {'ratio':>6s}")
            for size in SIZES:
                wired, inside = (quantiles(f) for f in one_robot(address, here, size, args.requests))
                name, ratio = f"one robot, three pictures of {size} px", wired[0] / inside[0]
                beside = f"{inside[0]:18.2f} {inside[1]:7.2f} | {ratio:5.2f}x"
                print(f"{name:34s} {wired[0]:7.2f} {wired[1]:7.2f} | {beside}")
                if size == SIZES[0]:
                    limits.at_most(name, ratio, RATIO)
            found, rate = many_robots(address, args.clients, args.requests)
            p50, p95 = quantiles(found)
            print(f"{f'{args.clients} robots at once, {SIZES[0]} px':34s} {p50:7.2f} {p95:7.2f} | {rate:.0f} chunks/s")
        finally:
            server.terminate()
            server.wait()
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
