"""A small LeRobot dataset that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from once import kept_folder
from recorded_dataset import write_lerobot


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    return write_lerobot(kept_folder(tmp_path_factory, "lerobot") / "recorded")


@pytest.fixture
def dataset(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "recorded"))
