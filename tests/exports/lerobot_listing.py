"""What LeRobot's own loader gives of a dataset, item by item, as JSON; run by a Python that has LeRobot installed.

    python tests/exports/lerobot_listing.py FOLDER [--lance] > tests/exports/lerobot_0_6_1.json

With `--lance` the loader of lerobot-lancedb reads it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from typing import Any

DIGESTS = ("observation.state", "action", "next.success", "next.done", "timestamp")
TEXTS = ("origin", "outcome", "episode_id", "task")


def listing(root: str, *, lance: bool) -> dict[str, Any]:
    """Every item read, frames decoded: keys with types and shapes, digests of numbers, texts, brightness of frames."""
    if lance:
        from lerobot_lancedb import LanceDBDataset

        dataset = LanceDBDataset(root=root)
    else:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        dataset = LeRobotDataset("vlaw/export", root=root)
    keys: dict[str, list[Any]] = {}
    digests = {name: hashlib.sha256() for name in DIGESTS}
    texts: dict[str, list[str]] = {name: [] for name in TEXTS}
    light: list[list[float]] = []
    for number in range(len(dataset)):
        item = dataset[number]
        for name, value in item.items():
            kind = [str(value.dtype), list(value.shape)] if hasattr(value, "shape") else [type(value).__name__]
            assert keys.setdefault(name, kind) == kind, (number, name, kind)
        for name, digest in digests.items():
            digest.update(item[name].numpy().tobytes())
        for name in TEXTS:
            texts[name].append(item[name])
        light.append([round(float(item[name].mean()), 3) for name in dataset.meta.video_keys])
    return {
        "read_with": {name: version(name) for name in ("lerobot", *(["lerobot-lancedb"] if lance else []))},
        "items": len(dataset),
        "episodes": dataset.meta.total_episodes,
        "lengths": [int(episode["length"]) for episode in dataset.meta.episodes],
        "fps": dataset.meta.fps,
        "robot_type": dataset.meta.robot_type,
        "keys": keys,
        "digests": {name: digest.hexdigest() for name, digest in digests.items()},
        "texts": {
            name: [found for i, found in enumerate(of) if i == 0 or of[i - 1] != found] for name, of in texts.items()
        },
        "light": light,
    }


if __name__ == "__main__":
    json.dump(listing(sys.argv[1], lance="--lance" in sys.argv), sys.stdout, indent=1)
