"""The loop of which every count is known, and commands on its lake, for the files that ask about it."""

from __future__ import annotations

import shutil

import pytest
from asking import at
from once import kept_folder
from small_loop import loop

from vlaw_assets.lake import Lake


@pytest.fixture(scope="session")
def first(tmp_path_factory):
    lake = Lake.open(kept_folder(tmp_path_factory, "loop") / "lake")
    return lake.paths.root, loop(lake)


@pytest.fixture(scope="module")
def made(first, tmp_path_factory):
    """(lake, [foundation, iteration 01, iteration 02]), a copy for each file."""
    root, parts = first
    copy = shutil.copytree(root, tmp_path_factory.mktemp("known") / "lake")
    return Lake.open(copy), [dict(part) for part in parts]


@pytest.fixture
def vlaw(made, monkeypatch, tmp_path):
    """A command on the lake that `made` begins with."""
    return at(monkeypatch, tmp_path, {"VLAW_LAKE": str(made[0].paths.root)})
