"""A Dagster home as its first use leaves it: making its databases takes longer than most that is asked of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from once import kept_folder

from vlaw_assets.pipeline import driver


@pytest.fixture(scope="session")
def first_home(tmp_path_factory) -> Path:
    home = kept_folder(tmp_path_factory, "dagster") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        with driver.open_instance():
            pass
    return home
