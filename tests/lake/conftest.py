"""Lakes that take long to make, made once for the tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from factories import commit_all
from long_log import COMMITS, append
from mirrored_lake import LAKE_CHECKS, MirroredLake
from once import made_once
from small_loop import loop

from vlaw_assets.cli import doctor
from vlaw_assets.definitions import defs
from vlaw_assets.lake import Lake
from vlaw_assets.pipeline import driver, reconcile


@pytest.fixture(scope="session")
def mirrored(tmp_path_factory) -> Path:
    """A lake of one iteration, in line with Dagster."""
    return made_once(tmp_path_factory, "mirrored", _mirror)


def _mirror(folder: Path) -> None:
    loop(Lake.open(folder / "lake"), iterations=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLAW_LAKE", str(folder / "lake"))
        patch.setenv("DAGSTER_HOME", str(folder / "dagster_home"))
        with driver.open_instance() as instance:
            found, added = reconcile.repair(Lake.open(folder / "lake"), instance, defs)
    assert added >= len(found.missing) > 10


@pytest.fixture
def mine(mirrored, tmp_path, monkeypatch) -> MirroredLake:
    for name in ("lake", "dagster_home"):
        shutil.copytree(mirrored / name, tmp_path / name)
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name] for name in LAKE_CHECKS})
    return MirroredLake(tmp_path)


@pytest.fixture(scope="session")
def long(tmp_path_factory) -> Path:
    """A lake with real artifacts, and a table of 250 commits."""

    def make(root: Path) -> None:
        lake = Lake.open(root)
        commit_all(lake)
        append(lake, COMMITS)

    return made_once(tmp_path_factory, "long-log", make)
