"""The world model of an iteration as a Gymnasium environment: the blocks of docs/gymnasium.md, on the smallest lake.

The one that trains runs where stable-baselines3 is installed.
"""

from __future__ import annotations

import numpy as np
import pytest
from documents import ROOT, blocks
from smoke_place import smoke_place

from vlaw_assets.exports.environment import imagined_environment
from vlaw_models.errors import VlawError
from vlaw_models.world_models import base

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


@pytest.fixture
def with_a_head(monkeypatch):
    """The lake's world model as if it had a reward head, which says yes to everything."""
    loaded = base.load_world_model

    def load(folder):
        model = loaded(folder)
        model.add_heads(["stack the blocks"], seed=0)
        model.heads.reward.bias.data.fill_(9.0)
        return model

    monkeypatch.setattr(base, "load_world_model", load)


def step(env) -> tuple[bool, float]:
    """Whether the first step ends the episode, and by which probability."""
    env.reset(seed=0)
    _, _, terminated, _, told = env.step(env.action_space.sample())
    return bool(np.all(terminated)), float(np.min(told["p_success"]))


@pytest.mark.parametrize("num_envs", [None, 2])
def test_the_head_judges_where_the_world_model_has_one(place, with_a_head, num_envs):
    options = {"num_envs": num_envs, "execute_steps": 4}
    assert step(imagined_environment(place.lake, "smoke", 1, **options)) == (True, pytest.approx(1, abs=0.01))
    assert step(imagined_environment(place.lake, "smoke", 1, reward="head", **options))[0]
    judged = step(imagined_environment(place.lake, "smoke", 1, reward="judge", **options))
    assert judged[1] < 0.9, "the judge was asked"
    own = imagined_environment(
        place.lake, "smoke", 1, reward=lambda frames, states, said: np.full(len(said), 0.25), **options
    )
    assert step(own) == (False, 0.25)


def test_a_head_that_is_not_there_is_refused(place):
    with pytest.raises(VlawError, match='reward="head" needs a world model that predicts reward'):
        imagined_environment(place.lake, "smoke", 1, reward="head")
    with pytest.raises(VlawError, match="unknown reward 'jugde'"):
        imagined_environment(place.lake, "smoke", 1, reward="jugde")


@pytest.mark.slow
@pytest.mark.parametrize("judge", ["judge", "head"])
def test_the_page_trains_with_another_library(place, judge, request):
    pytest.importorskip("stable_baselines3")
    if judge == "head":
        request.getfixturevalue("with_a_head")
    names: dict = {}
    _, block = next(found for found in blocks(PAGE) if "stable_baselines3" in found[1].text)
    exec(block.text, names)
    env = imagined_environment(place.lake, "smoke", 1, reward=judge).rows
    learned = names["train"](env.world, env.starts, env.reward, 256)
    assert learned.num_timesteps == 256
    returns = [episode["r"] for episode in learned.ep_info_buffer]
    assert returns
    assert set(returns) <= ({1.0} if judge == "head" else {0.0, 1.0})
