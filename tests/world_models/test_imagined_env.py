"""The world model as Gymnasium environments: the checker, one pass for all rows, autoreset, starts, seeds, rewards."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.presets import foundation
from vlaw_models.reward_models.base import load_reward_model
from vlaw_models.reward_models.score import reward_so_far
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.world import TabletopWorld
from vlaw_models.rollouts.seeds import start_seeds
from vlaw_models.world_models.base import load_world_model
from vlaw_models.world_models.gym import ImaginedEnv, ImaginedVectorEnv
from vlaw_models.world_models.imagined_world import ImaginedWorld

UP = np.array([0.0, 0.0, 0.06, 0.0, 0.0], np.float32)


@pytest.fixture(scope="module")
def models():
    return load_world_model(foundation("tiny", "world_model")), load_autoencoder(foundation("tiny", "autoencoder"))


@pytest.fixture(scope="module")
def starts() -> list[Start]:
    robot = TabletopWorld(threads=1)
    begun = [Start(task, seed) for task in ("stack", "book") for seed in start_seeds("validation", task, 0, 0, 2)]
    first = robot.reset(begun)
    return [
        Start(start.task, start.seed, said, image, state)
        for start, said, image, state in zip(begun, robot.instructions(), first.images, first.state, strict=True)
    ]


@pytest.fixture
def world(models) -> ImaginedWorld:
    return ImaginedWorld(*models, SPEC)


def with_head(starts: list[Start], says: float) -> ImaginedWorld:
    """A world model whose reward head says the same of nearly everything, as a logit."""
    model = load_world_model(foundation("tiny", "world_model"))
    model.add_heads([start.instruction for start in starts], seed=0)
    model.heads.reward.bias.data.fill_(says)
    return ImaginedWorld(model, load_autoencoder(foundation("tiny", "autoencoder")), SPEC)


def higher(frames, states, instructions) -> np.ndarray:
    """How high the hand has come, 26 cm is 1: a reward that a test can predict."""
    return np.array([min(max(poses[-1, 2] / 0.26, 0), 1) for poses in states])


def lift(state: np.ndarray) -> np.ndarray:
    return state + UP


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("reward", [higher, None], ids=["by a function", "by its head"])
def test_one_passes_gymnasiums_checker(world, starts, reward):
    if reward is None:
        world = with_head(starts, -9.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Poses are in metres and radians on purpose; models and starts are no keywords of gymnasium.make.
        for allowed in ("symmetric and normalized space", "spec"):
            warnings.filterwarnings("ignore", message=f".*{allowed}.*")
        check_env(ImaginedEnv(world, starts, reward=reward, num_steps=4, render_mode="rgb_array"))


def test_it_observes_and_takes_what_the_robots_environment_does(world, starts):
    robot = gymnasium.make("vlaw_models.robots.gym:vlaw/Stack-v0")
    env = ImaginedEnv(world, starts)
    assert (env.observation_space, env.action_space) == (robot.observation_space, robot.action_space)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_rows_are_reset_as_gymnasiums_own_vector_environment_does_it(models, starts, mode):
    """Each row begins anew when it has ended, on its own; compared with single environments, one for each row."""
    options = {"reward": higher, "num_steps": 2}
    rows = ImaginedVectorEnv(ImaginedWorld(*models, SPEC), starts[:1], 3, autoreset_mode=mode, **options)
    alone = SyncVectorEnv(
        [lambda: ImaginedEnv(ImaginedWorld(*models, SPEC), starts[:1], **options) for _ in range(3)],
        autoreset_mode=mode,
    )
    (mine, told), (theirs, told_too) = rows.reset(seed=1), alone.reset(seed=1)
    assert equal(mine, theirs)
    assert rows.observation_space == alone.observation_space
    assert told.keys() == told_too.keys()
    ends = []
    for _ in range(4):
        targets = lift(mine["state"])
        targets[1:] -= np.array([[0, 0, 0.05, 0, 0], UP])  # row 0 soon succeeds, the others run out of time
        found, expected = rows.step(targets), alone.step(targets)
        mine = found[0]
        # One pass of several rows rounds otherwise than one row: pictures may differ by a level, and as much again with
        # each chunk that begins at such a picture.
        for name, values in expected[0].items():
            if name == "instruction":
                assert found[0][name] == values
            else:
                assert np.allclose(found[0][name].astype(float), values.astype(float), atol=3), name
        for one, other in zip(found[1:4], expected[1:4], strict=True):
            assert np.array_equal(one, other)
        assert found[4].keys() == expected[4].keys()
        for name in ("_success", "success", "_start", "_final_obs"):
            assert np.array_equal(found[4].get(name), expected[4].get(name))
        ends.append(found[2].astype(int) + 2 * found[3])
    assert {1, 2} <= set(np.concatenate(ends).tolist()), "rows were terminated, and truncated"


def test_all_rows_are_one_pass_of_the_network(world, starts, monkeypatch):
    passes = []
    predict = type(world.model).predict
    monkeypatch.setattr(
        type(world.model), "predict", lambda self, given: passes.append(len(given.poses)) or predict(self, given)
    )
    env = ImaginedVectorEnv(world, starts, 4, execute_steps=4, num_steps=8)
    env.reset(seed=0)
    for _ in range(5):  # the third one begins all rows anew, without the network
        env.step(env.action_space.sample())
    assert passes == [4] * 4


def test_a_row_that_begins_anew_sees_nothing_of_the_episode_before(models, starts):
    env = ImaginedVectorEnv(ImaginedWorld(*models, SPEC), starts, 2, autoreset_mode=AutoresetMode.DISABLED)
    first, _ = env.reset(options={"start": [0, 1]})
    for _ in range(4):
        observed, *_ = env.step(lift(first["state"]))
    again, told = env.reset(options={"start": 2, "reset_mask": np.array([False, True])})
    assert told["_start"].tolist() == [False, True]
    assert np.array_equal(again["exterior_1"][0], observed["exterior_1"][0]), "the other row goes on"
    fresh = ImaginedVectorEnv(ImaginedWorld(*models, SPEC), starts, 2)
    fresh.reset(options={"start": [2, 2]})
    for _ in range(4):
        targets = np.stack([lift(again["state"][1])] * 2)
        observed, expected = env.step(targets)[0], fresh.step(targets)[0]
        assert np.allclose(observed["exterior_1"][1].astype(int), expected["exterior_1"][1], atol=1)
        assert observed["instruction"][1] == starts[2].instruction


def test_history_that_is_forgotten_was_not_looked_at(models, starts, monkeypatch):
    def imagined() -> np.ndarray:
        world = ImaginedWorld(*models, SPEC)
        first = world.reset(starts[:1])
        steps = [world.step(np.stack([first.state + UP * (i % 3)] * 2, axis=1)) for i in range(6)]
        return np.concatenate([step.images for step in steps])

    kept = imagined()
    monkeypatch.setattr(ImaginedWorld, "_forget", lambda self: None)
    assert np.array_equal(kept, imagined())


def test_seeds_choose_the_starts(world, starts):
    env = ImaginedEnv(world, starts)
    told = [env.reset(seed=seed)[1]["start"] for seed in (3, 3, *range(20))]
    assert told[0] == told[1]
    assert len(set(told)) == len(starts)


def test_the_judge_ends_an_episode(world, starts):
    judge = load_reward_model(foundation("tiny", "reward_model"))
    env = ImaginedVectorEnv(world, starts, 2, reward=reward_so_far(judge, SPEC), execute_steps=4, threshold=0.0)
    env.reset(seed=0)
    _, rewards, terminated, _, told = env.step(env.action_space.sample())
    assert terminated.all()
    assert rewards.tolist() == [1.0, 1.0]
    assert ((told["p_success"] > 0) & (told["p_success"] < 1)).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"num_steps": 5, "execute_steps": 2}, "5 steps, 2 at a time"), ({"threshold": 1.0}, "threshold of 1.0"),
     ({"starts": []}, "0 starts")],
)  # fmt: skip
def test_impossible_options_are_refused(world, starts, options, said):
    with pytest.raises(VlawError, match=said):
        ImaginedVectorEnv(**{"world": world, "starts": starts, "num_envs": 2, **options})


def test_bad_rewards_actions_and_starts_are_refused(world, starts):
    env = ImaginedVectorEnv(world, starts, 2, reward=lambda frames, states, said: np.array([0.5, 1.5]))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(env.action_space.sample())
    with pytest.raises(VlawError, match="Name one of 0 to 3"):
        env.reset(options={"start": 4})
    first, _ = env.reset()
    with pytest.raises(VlawError, match="not finite"):
        env.step(first["state"] * np.nan)
    with pytest.raises(VlawError, match=r"a number in \[0, 1\]"):
        env.step(first["state"])


@pytest.mark.parametrize(("says", "ended"), [(9.0, [True, False]), (-9.0, [False, True])])
def test_a_world_model_with_a_head_judges_for_itself(starts, says, ended):
    env = ImaginedVectorEnv(with_head(starts, says), starts, 2, num_steps=4, execute_steps=4)
    observed, _ = env.reset(seed=0)
    for _ in range(2):  # the second time after a restart
        chunk = np.repeat(lift(observed["state"])[:, None], 4, axis=1)
        observed, rewards, terminated, truncated, told = env.step(chunk)
        assert [[bool(one[0]), bool(two[0])] for one, two in [(terminated, truncated)]] == [ended]
        assert (rewards > 0).tolist() == terminated.tolist() == told["success"].tolist()
        assert ((told["p_success"] > 0.9) == terminated).all()
        observed, *_ = env.step(chunk)


@pytest.mark.parametrize("says", [9.0, -9.0])
def test_a_head_ends_the_episode_of_a_single_environment(starts, says):
    env = ImaginedEnv(with_head(starts, says), starts, num_steps=2)
    observed, _ = env.reset(seed=0)
    ends = []
    while not ends or not any(ends[-1][:2]):
        observed, reward, terminated, truncated, told = env.step(lift(observed["state"]))
        ends.append((terminated, truncated, reward, told["success"]))
        assert (told["p_success"] > 0.9) == terminated
    assert ends == ([(True, False, 1.0, True)] if says > 0 else [(False, False, 0.0, False), (False, True, 0.0, False)])
