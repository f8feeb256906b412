"""Random training clips, 11 frames of three cameras, of a recorded dataset: from a lake, and by LeRobot's own loader.

    python benchmarks/loader.py [--data FOLDER] [--clips 60] [--rounds 5] [--lerobot PYTHON]

The clips are Ctrl-World's: six frames of the past, four steps apart, the current one and the four after it. Both
loaders read the same clips in one process without workers. `--data`: a LeRobot dataset v3.0, by default the sample of
DROID. `--lerobot`: a Python that has LeRobot, by default VLAW_LEROBOT_PYTHON; without one only PyAV and a copy in
memory are beside ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common.limits import Limits, options

from vlaw_assets.importers.base import Options
from vlaw_assets.importers.registry import import_recordings
from vlaw_assets.lake import Identity, Lake
from vlaw_assets.lake.handles import Handle
from vlaw_models.episodes import Episode
from vlaw_models.world_models.latents import Stored

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "lerobot_v3_droid"
OFFSETS = (-24, -20, -16, -12, -8, -4, 0, 1, 2, 3, 4)
PYTHON = "VLAW_LEROBOT_PYTHON"
WANTED = 5.0
"""Times as fast as LeRobot's loader, of frames that a training has read before, and of latents."""
LATENT = (4, 24, 40)
"""Channels, height and width of a latent of one camera, as Stable Video Diffusion's autoencoder makes of 192 x 320."""


class Spent(NamedTuple):
    """Milliseconds for a clip."""

    wall: float
    cpu: float

    def line(self, name: str, of: Spent | None) -> str:
        beside = f"{of.wall / self.wall:7.1f} x" if of else ""
        return f"{name:52s} {self.wall:8.2f} {self.cpu:8.2f} {beside}"


def drawn(lengths: list[int], clips: int, rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Clips as (number of an item counted through all episodes, numbers of its frames)."""
    first = np.cumsum([0, *lengths])
    found = []
    for item in rng.integers(first[-1], size=clips):
        episode = int(np.searchsorted(first, item, side="right")) - 1
        found.append((int(item), np.clip(item + np.array(OFFSETS), first[episode], first[episode + 1] - 1)))
    return found


def timed(read: Callable[[Any], Any], clips: list[Any]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    for clip in clips:
        read(clip)
    scale = 1e3 / len(clips)
    return Spent((time.perf_counter() - wall) * scale, (time.process_time() - cpu) * scale)


def least(found: list[Spent]) -> Spent:
    return min(found, key=lambda spent: spent.wall)


def latents_of(lake: Lake, handle: Handle, episodes: list[Episode]) -> Stored:
    """Latents of these episodes, made up, as a lake keeps them."""
    rng = np.random.default_rng(0)
    with lake.commit(
        asset="latents", partition="", identity=Identity("latents", "benchmark", "{}", ()), run_id="benchmark"
    ) as draft:
        for episode in episodes:
            channels, height, width = LATENT
            shape = (len(episode.images), channels, episode.images.shape[1] * height, width)
            made = rng.standard_normal(shape, np.float32).astype(np.float16)
            steps = range(len(episode.images))
            draft.write_latents("made up", handle.ref.artifact_id, episode.episode_id, steps, made)
    kept = lake.read(draft.committed).latents()
    assert kept is not None
    return stored([kept.of(episode) for episode in episodes])


def stored(arrays: list[Any]) -> Stored:
    return Stored(arrays, np.cumsum([0, *map(len, arrays)]))


class PyAv:
    """Frames of the videos themselves: from the key frame before, one after the other."""

    def __init__(self, root: Path, cameras: list[str]):
        import av

        self._opened = [av.open(str(next((root / "videos" / key).rglob("*.mp4")))) for key in cameras]

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        out = []
        for container in self._opened:
            stream = container.streams.video[0]
            per = 1 / (stream.average_rate * stream.time_base)
            for frame in frames:
                container.seek(round(int(frame) * per), stream=stream)
                picture = next(one for one in container.decode(stream) if one.pts >= round(int(frame) * per))
                out.append(picture.to_ndarray(format="rgb24"))
        return np.stack(out)


def by_lerobot(python: str, root: Path, cameras: list[str], rounds: list[list[int]]) -> dict[str, Any]:
    asked = {"root": str(root), "cameras": cameras, "offsets": OFFSETS, "rounds": rounds}
    script = Path(__file__).parent / "common" / "lerobot_clips.py"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, script, json.dumps(asked)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"LeRobot's loader failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SAMPLE, help="a LeRobot dataset v3.0")
    parser.add_argument("--clips", type=int, default=60, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lerobot", default=os.environ.get(PYTHON, ""), help="a Python that has LeRobot")
    args, limits = options(parser, clips=20, rounds=4), Limits()
    if not args.data.is_dir():
        print(f"there is no dataset at {args.data}: name one with --data")
        return limits.status()
    with tempfile.TemporaryDirectory() as scratch:
        lake = Lake.open(Path(scratch) / "lake", create=True)
        ref = import_recordings(lake, "lerobot", args.data, Options(), name="sample", run_id="benchmark")
        measure(lake, lake.read(ref), args, limits)
    return limits.status()


def measure(lake: Lake, handle: Handle, args: argparse.Namespace, limits: Limits) -> None:
    source = handle.source()
    episodes = [source[number] for number in range(len(source))]
    cameras = [f"observation.images.{name}" for name in episodes[0].cameras]
    rng = np.random.default_rng(0)
    rounds = [drawn([len(e.images) for e in episodes], args.clips, rng) for _ in range(args.rounds)]
    frames = [[found for _, found in clips] for clips in rounds]
    shape = episodes[0].images.shape[1:]
    print(f"{len(episodes)} episodes, clips of {len(OFFSETS)} x {shape[0]} frames of {shape[2]}x{shape[1]} pixels")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}\n\n{'milliseconds for a clip':52s} {'wall':>8s} {'CPU':>8s}")

    pixels = stored([episode.images for episode in episodes])
    ours = [timed(pixels.__getitem__, clips) for clips in frames]
    theirs = None
    if args.lerobot:
        found = by_lerobot(args.lerobot, args.data, cameras, [[item for item, _ in clips] for clips in rounds])
        theirs = least([Spent(*(1e3 * seconds / args.clips for seconds in each)) for each in found["seconds"]])
        light = pixels[frames[0][0]].mean(axis=(2, 3, 4)).T
        assert np.abs(light - np.array(found["light"])).max() < 1.0, "both read the same frames"
        print(theirs.line(f"LeRobot {found['version']}, its own loader", None))
    print(least([timed(PyAv(args.data, cameras), clips) for clips in frames[:2]]).line("PyAV, frame by frame", theirs))
    again = least([timed(pixels.__getitem__, clips) for clips in frames])
    print(ours[0].line("the lake, frames read for the first time", theirs))
    print(again.line("the lake, as a training goes on", theirs))
    kept = latents_of(lake, handle, episodes)
    latents = least([timed(kept.__getitem__, clips) for clips in frames])
    print(latents.line("the lake, latents (made up, float16)", theirs))
    in_memory = np.stack([pixels[np.array([number])][0] for number in range(len(episodes[0].images))])
    copied = least([timed(lambda clip: in_memory[clip % len(in_memory)], clips) for clips in frames])
    print(copied.line("a copy in memory", theirs))
    print(f"\nthe lake takes {again.wall / copied.wall:.1f} times as long as a copy in memory")
    if theirs is None:
        print(f"LeRobot's loader was not measured: name a Python that has it with --lerobot or {PYTHON}")
        return
    limits.at_least("frames that a training has read before, next to LeRobot", theirs.wall / again.wall, WANTED)
    limits.at_least("latents, next to LeRobot", theirs.wall / latents.wall, WANTED)


if __name__ == "__main__":
    sys.exit(main())
