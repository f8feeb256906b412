"""Clips by LeRobot's own loader: run by a Python that has LeRobot, with one JSON argument, and answers in JSON."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """`root`, `cameras`, `offsets` (frames), `rounds` of numbers of items -> seconds (wall, CPU) of each round."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata

    torch.set_num_threads(1)
    fps = LeRobotDatasetMetadata("vlaw/sample", root=asked["root"]).fps
    deltas = {key: [offset / fps for offset in asked["offsets"]] for key in asked["cameras"]}
    options: dict[str, Any] = {"root": asked["root"], "delta_timestamps": deltas}
    try:
        dataset = LeRobotDataset("vlaw/sample", return_uint8=True, **options)
    except TypeError:  # releases before 0.6 give floats alone
        dataset = LeRobotDataset("vlaw/sample", **options)
    dataset[0]
    spent = []
    for items in asked["rounds"]:
        wall, cpu = time.perf_counter(), time.process_time()
        for item in items:
            clip = dataset[item]
        spent.append([time.perf_counter() - wall, time.process_time() - cpu])
    shapes = {key: list(clip[key].shape) for key in asked["cameras"]}
    return {"version": version("lerobot"), "seconds": spent, "shapes": shapes, "light": _light(dataset, asked)}


def _light(dataset: Any, asked: dict[str, Any]) -> list[list[float]]:
    """Mean brightness of the frames of one item, each camera: to be compared with what others read."""
    item = dataset[asked["rounds"][0][0]]
    scale = 255.0 if item[asked["cameras"][0]].dtype.is_floating_point else 1.0
    return [(item[key].float().mean(dim=(1, 2, 3)) * scale).tolist() for key in asked["cameras"]]


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
