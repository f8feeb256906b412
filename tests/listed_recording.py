"""A format for tests: a JSON file that lists its episodes and how each one behaves while it is read.

write_listed(folder, ["ok", "ok", "failed", "faulty", "hangs", "dies", "hungry", "raises"])
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vlaw_assets.importers import spool
from vlaw_assets.importers.base import Found, Read, Recordings
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.registry import IMPORTERS
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import EXTERIOR, Camera, RobotSpec, Vector

ROBOT = RobotSpec(
    name="listed",
    cameras=(Camera("front", EXTERIOR),),
    control_hz=5.0,
    state=Vector(("x", "y"), ("m", "m"), low=(-9, -9), high=(9, 9)),
    action=Vector(("x", "y"), ("m", "m")),
    world="listed",
    success="as listed",
)
FILE, READ = "episodes.json", "read.txt"
STEPS, SIDE = 3, 16


def write_listed(folder: Path, episodes: Sequence[str], *, seconds: float = 0.0, batch: int = 1000) -> Path:
    """`seconds`: how long reading each one takes; `batch`: episodes of a batch of the spool. Numbers that were read are
    added to READ."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps({"episodes": list(episodes), "seconds": seconds, "batch": batch}))
    return folder


def open_recordings(path: Path, options: Options) -> Recordings:
    root = path.resolve()
    if not (root / FILE).is_file():
        raise VlawError("nothing is listed here", where=str(root), remedy="List something.")
    found = json.loads((root / FILE).read_text())
    return Recordings(
        "listed",
        root,
        ROBOT,
        files=[root / FILE],
        index=[Found(number, f"e{number}", STEPS + 1) for number in range(len(found["episodes"]))],
        read=partial(_read, root, found, options.task),
        understood={"robot": ROBOT.name, "camera front": "as listed"},
    )


def _read(root: Path, listed: dict[str, Any], task: str, numbers: Sequence[int]) -> Iterator[Read]:
    spool.MOST_EPISODES = listed["batch"]
    assert "torch" not in sys.modules or "pytest" in sys.modules, "memory of the process that reads"
    for number in numbers:
        time.sleep(listed["seconds"])
        kind = listed["episodes"][number]
        with (root / READ).open("a") as log:
            log.write(f"{number}\n")
        if kind == "hangs":
            time.sleep(600)
        if kind == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "hungry":
            np.ones(1 << 36, np.uint8)
        if kind == "raises":
            raise KeyError("odd")
        if kind == "faulty":
            found = Finding("row_spacing", f"row 2 of e{number} is late", "excluded", episode=number, row=2)
            yield Read(number, None, (found,))
            continue
        notes = (Finding("no_instruction", f"e{number} has no text", "keep", episode=number),) if kind == "mute" else ()
        yield Read(number, _episode(number, kind, task), notes)


def _episode(number: int, kind: str, task: str) -> Episode:
    draw = np.random.default_rng(number)
    states = draw.uniform(-1, 1, (STEPS + 1, 2)).astype(np.float32)
    states[0, 0] = 99 if kind == "outside" else states[0, 0]
    return Episode(
        task=task or "reach",
        instruction="reach",
        seed=number,
        images=draw.integers(0, 256, (STEPS + 1, 1, SIDE, SIDE, 3)).astype(np.uint8),
        states=states,
        actions=states[1:],
        success={"ok": True, "mute": True, "failed": False}.get(kind),
        cameras=ROBOT.camera_names,
        control_hz=ROBOT.control_hz,
    )


IMPORTERS.add("listed", f"{__name__}:open_recordings")
