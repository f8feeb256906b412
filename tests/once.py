"""What takes long to make is made once in a session and stays to its end; what else a file of tests makes does not."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from vlaw_assets.lake.durable import FileLock

_KEPT = "kept"


def kept_folder(tmp_path_factory, name: str) -> Path:
    """A new folder for a fixture that more than one file asks for: `remove_others` leaves it."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_kept(tmp_path_factory.getbasetemp())))


def remove_others(tmp_path_factory) -> None:
    """Removes what this process made but for what is kept: all files of tests together need gigabytes."""
    for entry in tmp_path_factory.getbasetemp().iterdir():
        if entry.is_symlink():
            entry.unlink()
        elif entry.name != _KEPT:
            shutil.rmtree(entry, ignore_errors=True)


def made_once(tmp_path_factory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` was given, of all workers of this session; nobody may change what is in it.

    The others wait for whoever makes it, and fail with it.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = _kept(folder)
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


def _kept(folder: Path) -> Path:
    (folder / _KEPT).mkdir(exist_ok=True)
    return folder / _KEPT
