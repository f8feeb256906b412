"""What takes long to make is made once in a session: by the first of its processes that asks for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from vlaw_assets.lake.durable import FileLock


def made_once(tmp_path_factory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` was given, of all workers of this session; nobody may change what is in it.

    The others wait for whoever makes it, and fail with it.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    made, outcome = folder / name, folder / f"{name}.outcome"
    with FileLock(folder / f"{name}.lock").hold(
        "another worker", wait_s=3600, remedy="See what the first failure says."
    ):
        if not outcome.exists():
            outcome.write_text(f"{name} failed; the first test that asked for it says why")
            make(made)
            outcome.write_text("made")
    assert (said := outcome.read_text()) == "made", said
    return made
