"""The world model of an iteration as a Gymnasium environment: the block of docs/gymnasium.md, on the smallest lake."""

from __future__ import annotations

import pytest
from documents import ROOT, blocks
from smoke_place import smoke_place

from vlaw_assets.exports.environment import imagined_environment
from vlaw_models.errors import VlawError

PAGE = ROOT / "docs" / "gymnasium.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


def test_the_page_steps_the_world_model_of_an_iteration(place, monkeypatch):
    monkeypatch.chdir(place.root)
    _, block = next(blocks(PAGE))
    names: dict = {}
    exec(block.text, names)
    env, info = names["env"], names["info"]
    assert env.num_envs == 8
    assert info["p_success"].shape == (8,)
    assert ((info["p_success"] > 0) & (info["p_success"] < 1)).all(), "its judge was asked"
    assert {start.task for start in env.starts} == {"stack", "erase"}


def test_starts_are_of_the_tasks_that_are_asked_for(place):
    env = imagined_environment(place.lake, "smoke", 1, tasks=["erase"])
    assert {start.task for start in env.rows.starts} == {"erase"}
    observed, told = env.reset(options={"start": 1})
    assert env.observation_space.contains(observed)
    assert told == {"start": 1}
    with pytest.raises(VlawError, match="no real rollout of fly"):
        imagined_environment(place.lake, "smoke", 1, tasks=["fly"])
