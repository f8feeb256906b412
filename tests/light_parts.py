"""A heavy part that takes a moment, for workers that start in one: without models, the lake or Dagster."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from vlaw_models.episodes import Episode

TASKS = ("stack", "book")


def light_part(_inputs: Any, settings: Any) -> Any:
    """One episode of noise per task for each seed."""

    def batch(part: Any) -> list[Episode]:
        time.sleep(0.05)
        steps, rng = settings["steps"], np.random.default_rng(part["seed"])
        return [
            Episode(
                task,
                f"{task} it",
                part["seed"],
                rng.integers(0, 256, (steps + 1, 1, 2, 2, 3), dtype=np.uint8),
                rng.random((steps + 1, 2), dtype=np.float32),
                rng.random((steps, 2), dtype=np.float32),
                cameras=("one",),
            )
            for task in TASKS
        ]

    return batch
