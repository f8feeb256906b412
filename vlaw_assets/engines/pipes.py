"""The Dagster Pipes session of one worker, by files of its staging folder: every engine's workers share that disk."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from vlaw_assets.engines.elsewhere import LOOK_S, Call

MODULE = "vlaw_assets.engines.worker"
PASSED_ON = ("OMP_", "MKL_NUM_", "OPENBLAS_NUM_", "MUJOCO_", "PYTHONPATH", "VLAW_DEVICE", "VLAW_RENDERER")
"""Beginnings of the names of these variables."""
# Dagster's session asks its own reader for it: the release is pinned.
warnings.filterwarnings("ignore", "Function `PipesMessageReader.expected_writer_count`", dg.PreviewWarning)


def injector(call: Call) -> dg.PipesContextInjector:
    """Tells the worker its context by a file."""
    return dg.PipesFileContextInjector(str(call.folder / "context.txt"))


def reader(call: Call) -> dg.PipesMessageReader:
    """Reads the worker's messages from a file."""
    return dg.PipesFileMessageReader(str(call.folder / "messages.txt"), include_stdio_in_messages=False)


def extras(call: Call, **more: Any) -> dict[str, Any]:
    return {"folder": str(call.folder), **more}


@contextlib.contextmanager
def ended_by(call: Call, end: Callable[[], object]) -> Iterator[None]:
    """Calls `end` once the worker is to stop, for clients that only wait."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            if call.stop.is_set():
                with contextlib.suppress(Exception):  # it may have ended by itself, in any of an engine's ways
                    end()
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def environment() -> dict[str, str]:
    """What of the run's environment workers compute by, where an engine does not pass it on by itself."""
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
