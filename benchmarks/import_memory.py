"""Memory and time of an import: neither may grow with the dataset.

    python benchmarks/import_memory.py [--episodes 1000 10000] [--per-file 10000] [--keep FOLDER]

LeRobot datasets of so many short episodes (5 rows at 5 Hz, one video of 24 x 40 pixels that serves for three cameras)
are imported by `vlaw import`, each into a new lake. Memory is the peak, over the whole import, of all its processes
together (PSS: what several share counts once). Limits: 1 GB, and per episode at most 1.2 times the time that one of the
smallest dataset takes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common.limits import Limits, options

MOST_MB, GROWTH = 1000, 1.2
ROWS, RATE, SIZE = 5, 5, (24, 40)
KEY = "observation.images.camera"
NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
SAMPLE_S = 0.1


def write_dataset(root: Path, count: int, per_file: int) -> Path:
    """A LeRobot dataset v3.0 of `count` episodes; its data and video files hold `per_file` of them each."""
    vector = {"dtype": "float32", "shape": [len(NAMES)], "names": NAMES}
    features = {
        KEY: {"dtype": "video", "shape": [*SIZE, 3], "names": ["height", "width", "channels"]},
        "observation.state": vector,
        "action": vector,
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
    }
    info = {
        "codebase_version": "v3.0",
        "fps": RATE,
        "robot_type": "franka",
        "features": features,
        "total_episodes": count,
        "total_frames": count * ROWS,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    _write(root / "meta/tasks.parquet", {"task_index": [0], "task": ["lift the cup"]})
    for file, first in enumerate(range(0, count, per_file)):
        episodes = np.arange(first, min(first + per_file, count))
        _write_file(root, file, episodes)
    return root


def _write_file(root: Path, file: int, episodes: np.ndarray) -> None:
    rows = len(episodes) * ROWS
    begin, steps = (episodes - episodes[0]) * ROWS, np.tile(np.arange(ROWS), len(episodes))
    index = episodes[0] * ROWS + np.arange(rows)
    place = {"chunk_index": [0] * len(episodes), "file_index": [file] * len(episodes)}
    _write(
        root / f"meta/episodes/chunk-000/file-{file:03d}.parquet",
        {
            "episode_index": episodes,
            "length": [ROWS] * len(episodes),
            "tasks": [["lift the cup"]] * len(episodes),
            "dataset_from_index": episodes * ROWS,
            "dataset_to_index": (episodes + 1) * ROWS,
            **{f"data/{key}": value for key, value in place.items()},
            **{f"videos/{KEY}/{key}": value for key, value in place.items()},
            f"videos/{KEY}/from_timestamp": begin / RATE,
            f"videos/{KEY}/to_timestamp": (begin + ROWS) / RATE,
        },
    )
    numbers = pa.array(np.random.default_rng(file).uniform(0.2, 0.4, rows * len(NAMES)).astype(np.float32))
    vectors = pa.FixedSizeListArray.from_arrays(numbers, len(NAMES))
    _write(
        root / f"data/chunk-000/file-{file:03d}.parquet",
        {
            "observation.state": vectors,
            "action": vectors,
            "next.success": (steps == ROWS - 1) & (np.repeat(episodes, ROWS) % 2 == 0),
            "timestamp": (steps / RATE).astype(np.float32),
            "episode_index": np.repeat(episodes, ROWS),
            "frame_index": steps,
            "index": index,
            "task_index": np.zeros(rows, np.int64),
        },
    )
    path = root / f"videos/{KEY}/chunk-000/file-{file:03d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.gop_size = 2  # as LeRobot encodes
        for row in index:
            frame = av.VideoFrame.from_ndarray(np.full((*SIZE, 3), row % 250, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write(path: Path, columns: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def imported(dataset: Path, root: Path) -> tuple[float, float, dict[str, object]]:
    """(peak in MB, seconds, what the command says) of one import."""
    words = ["import", "lerobot", str(dataset), "--name", "short", "--image-size", "24x40", "--json"]
    for camera in ("exterior_1", "exterior_2", "wrist"):
        words += ["--camera", f"{camera}={KEY}"]
    environment = os.environ | {"VLAW_LAKE": str(root / "lake"), "DAGSTER_HOME": str(root)}
    began, peak = time.monotonic(), 0.0
    with (root / "said.json").open("w") as said:
        program = [sys.executable, "-c", "from vlaw_assets.cli import app; app()", *words]
        process = subprocess.Popen(program, env=environment, stdout=said)
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(SAMPLE_S)
    seconds = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"the import failed with status {process.returncode}")
    return peak, seconds, json.loads((root / "said.json").read_text())


def memory(pid: int) -> float:
    """MB that a process and all below it have together."""
    total = 0.0
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total = int(text.split("Pss:")[1].split()[0]) * 1024 / 1e6
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(memory(int(child)) for child in (task / "children").read_text().split())
    except (OSError, IndexError):  # it has just ended
        pass
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, nargs="+", default=[1000, 10_000], help="sizes of the datasets, rising")
    parser.add_argument("--per-file", type=int, default=10_000, help="episodes of a data or video file")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and leave it there")
    args, limits = options(parser, episodes=[300, 3000]), Limits()
    each: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in args.episodes:
            root = (args.keep or Path(scratch)) / str(count)
            dataset = write_dataset(root / "dataset", count, args.per_file)
            peak, seconds, said = imported(dataset, root)
            if said["episodes"] != count:
                raise SystemExit(f"{said['episodes']} of {count} episodes were imported")
            each.append(seconds / count)
            print(
                f"{count:7,d} episodes: {peak:6.0f} MB at most, {seconds:7.1f} s, {1000 * each[-1]:6.2f} ms each, "
                f"{said['metrics']['seconds']:.1f} s of them the commit",
                flush=True,
            )
            limits.at_most(f"MB of {count} episodes", peak, MOST_MB)
            limits.at_most(f"time per episode of {count}, times that of {args.episodes[0]}", each[-1] / each[0], GROWTH)
            if not args.keep:
                shutil.rmtree(root)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
