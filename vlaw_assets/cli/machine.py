"""What `vlaw doctor` asks of the machine: Python, packages, the device, the engine, disk and memory.

Each gives a line, or raises VlawError with a remedy.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path

from vlaw_models.errors import VlawError

PACKAGES = (
    "dagster",
    "deltalake",
    "pylance",
    "duckdb",
    "pyarrow",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "mujoco",
    "pandera",
    "narwhals",
)
MIN_FREE_GIB, MIN_MEMORY_GIB = 5.0, 8.0


def python() -> str:
    return f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"


def packages() -> str:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise VlawError(
                f"package {name} is missing", where=sys.prefix, remedy="Install from the lock file again."
            ) from error
    return ", ".join(f"{name} {version}" for name, version in found.items())


def device() -> str:
    """Where models compute."""
    from vlaw_models.device import compute_device, devices_here
    from vlaw_models.threads import workers

    found = ", ".join(f"{count} {name}" for name, count in devices_here().items())
    device = compute_device()
    return (
        f"models compute on {device} (here: {found}); other processes that read their batches: {workers(device.type)}"
    )


def engine() -> str:
    """Where heavy parts run."""
    from vlaw_assets.engines.settings import read_settings, usable
    from vlaw_assets.environment import given_engine

    found = read_settings(usable(given_engine()))
    return f"heavy parts run by engine {found.engine}, {found.workers} workers at a time"


def disk() -> str:
    from vlaw_assets.definitions import default_lake

    folder = Path(default_lake()).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    if free < MIN_FREE_GIB:
        raise VlawError(
            f"only {free:.1f} GiB are free",
            where=str(folder),
            remedy=f"Free {MIN_FREE_GIB:.0f} GiB, or move VLAW_LAKE.",
        )
    return f"{free:.0f} GiB free at {folder}"


def memory() -> str:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if size < MIN_MEMORY_GIB:
        raise VlawError(
            f"this machine has {size:.1f} GiB of memory",
            where="memory",
            remedy="Lower episodes_per_task in a recipe of your own.",
        )
    return f"{size:.0f} GiB"
