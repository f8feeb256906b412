"""A lake with one small policy of each kind, and the episodes whose robot asks it."""

from __future__ import annotations

import pytest
from once import kept_folder
from policy_scenes import reaching_episodes
from served_policies import KINDS, fill

from vlaw_assets.lake import Lake
from vlaw_assets.recipes import find_recipe
from vlaw_assets.serving.served import Served, find_policy, load
from vlaw_models.threads import on_threads


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with on_threads(1):
        yield


@pytest.fixture(scope="package")
def episodes():
    return reaching_episodes(8, seed=1)


@pytest.fixture(scope="package")
def lake(tmp_path_factory, episodes) -> Lake:
    lake = Lake.open(kept_folder(tmp_path_factory, "serving") / "lake")
    fill(lake, episodes, kept_folder(tmp_path_factory, "served-policies"))
    return lake


@pytest.fixture(scope="package")
def served(lake):
    """Kind -> the policy that is served."""
    recipe = find_recipe("vlaw")

    def of(kind: str) -> Served:
        return load(lake, recipe, find_policy(lake, recipe, KINDS.index(kind)))

    return of
