"""The second robot, fed by recordings only: 7-number poses, three wide cameras, any instruction, at toy size through
every part of the loop that runs models."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from factories import episode

from vlaw_models.autoencoders.base import build_autoencoder
from vlaw_models.config import EvaluationConfig, ImagineConfig, RolloutConfig, WorldModelConfig, WorldModelMetricsConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.learners.world_model import finetune_world_model
from vlaw_models.metrics.rows import video_rows
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.data import StepData, check_fits
from vlaw_models.policies.normalization import Normalization
from vlaw_models.presets import AUTOENCODER, POLICY, REWARD_MODEL, WORLD_MODEL, foundation
from vlaw_models.reward_models.base import build_reward_model
from vlaw_models.reward_models.score import score_episodes
from vlaw_models.robots.droid import SPEC
from vlaw_models.robots.spec import wrapped
from vlaw_models.robots.tabletop.spec import SPEC as TABLETOP
from vlaw_models.rollouts.collect import collect_rollouts, evaluate_policy
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.rollouts.imagine import imagine
from vlaw_models.rollouts.privileged import true_outcomes
from vlaw_models.rollouts.replay import replay
from vlaw_models.world_models.base import build_world_model

STEPS, HEIGHT, WIDTH = 9, 48, 80
ROLL, STEP_OF_ROLL = 3, 0.12


def recorded(seed: int) -> Episode:
    """The hand rolls past half a turn (its angle goes on at the other end) and moves a bright square along."""
    rng = np.random.default_rng(seed)
    states = np.zeros((STEPS + 1, 7), np.float32)
    states[:, 0] = 0.4 + 0.02 * np.arange(STEPS + 1)
    states[:, 1:3] = rng.uniform(-0.2, 0.2, 2) + np.array([0.0, 0.3])
    states[:, ROLL] = wrapped(np.pi - 0.5 + STEP_OF_ROLL * np.arange(STEPS + 1) + 0.01 * seed)
    states[:, 6] = np.linspace(0, 1, STEPS + 1)
    images = np.full((STEPS + 1, 3, HEIGHT, WIDTH, 3), 60, np.uint8)
    for step in range(STEPS + 1):
        images[step, :, 10:20, 6 * step : 6 * step + 10] = 220
    return episode(
        "rolling",
        seed,
        instruction=("roll the cup", "turn it over")[seed % 2],
        images=images,
        states=states,
        actions=states[1:],
        success=bool(seed % 2),
        event="",
        episode_id=f"rec-{seed}",
        cameras=SPEC.camera_names,
        control_hz=SPEC.control_hz,
    )


@pytest.fixture(scope="module")
def recordings() -> list[Episode]:
    found = [recorded(seed) for seed in range(6)]
    for one in found:
        SPEC.check_episode(one, where="the test's own")
    return found


@pytest.fixture(scope="module")
def models(recordings, tmp_path_factory) -> dict[str, str]:
    """Folders of new toy models of the published classes."""
    torch.set_num_threads(1)
    root, words = tmp_path_factory.mktemp("toy"), sorted({e.instruction for e in recordings})
    normalization = Normalization.fit(
        [e.states for e in recordings],
        [e.actions for e in recordings],
        chunk_size=POLICY["toy"]["chunk_size"],
        absolute=SPEC.action.as_is,
        wraps=SPEC.action.wraps,
    )
    made = {
        "policy": build_policy(POLICY["toy"], normalization, robot=SPEC, seed=0, instructions=words),
        "world_model": build_world_model(WORLD_MODEL["toy"], robot=SPEC, seed=0),
        "autoencoder": build_autoencoder(AUTOENCODER["toy"], seed=0),
        "judge": build_reward_model(REWARD_MODEL["toy"], robot=SPEC, instructions=words, seed=0),
    }
    return {name: model.save(root / name) for name, model in made.items()}


def starts_of(episodes: list[Episode]) -> list[Start]:
    return [Start(e.task, e.seed, e.instruction, e.images[0], e.states[0], e.episode_id) for e in episodes]


def imagined(models, recordings, **changes) -> list[Episode]:
    config = ImagineConfig(num_steps=6, sampling_steps=1, batch_size=2, **changes)
    folders = (models[name] for name in ("policy", "world_model", "autoencoder"))
    batches = imagine(*folders, starts_of(recordings[:3]), config, robot=SPEC, seed=1)
    return [episode for batch in batches for episode in batch]


@pytest.mark.slow
def test_a_policy_acts_in_the_world_model_within_the_arms_limits(models, recordings):
    found = imagined(models, recordings, noise_scale=5.0)
    assert [e.start_episode_id for e in found] == ["rec-0", "rec-1", "rec-2"]
    for one, start in zip(found, recordings, strict=False):
        assert one.images.shape == (7, 3, HEIGHT, WIDTH, 3)
        assert np.array_equal(one.images[0], start.images[0])
        assert (one.cameras, one.control_hz) == (SPEC.camera_names, 5.0)
        SPEC.check_episode(one, where="imagined")
        change = np.diff(one.states.astype(np.float64), axis=0)
        change[:, list(SPEC.action.wraps)] = wrapped(change[:, list(SPEC.action.wraps)])
        assert (np.abs(change) <= np.array(SPEC.action.largest_step) + 1e-5).all()
        assert np.array_equal(one.states[1:], one.actions)
    again = imagined(models, recordings, noise_scale=5.0)
    assert all(np.array_equal(a.images, b.images) for a, b in zip(found, again, strict=True))


def test_a_replay_executes_the_recorded_poses_as_they_are(models, recordings):
    config = WorldModelMetricsConfig(num_steps=6, sampling_steps=1)
    found = list(
        chain.from_iterable(
            replay(models["world_model"], models["autoencoder"], recordings[:2], config, robot=SPEC, seed=0)
        )
    )
    for one, source in zip(found, recordings, strict=False):
        assert np.array_equal(one.states, source.states[:7])
        assert one.cameras == SPEC.camera_names
    rows, left_out = video_rows(recordings[:2], found, None, replay_seed=0)
    assert {row["camera"] for row in rows} == set(SPEC.camera_names)
    assert left_out == []


def test_the_judge_looks_at_one_exterior_camera_and_the_wrist(models, recordings):
    scores = score_episodes(models["judge"], recordings)
    assert scores.shape == (6,)
    assert ((scores > 0) & (scores < 1)).all()


def test_world_model_and_policy_learn_from_recordings(models, recordings, tmp_path):
    config = WorldModelConfig(steps=2, batch_size=2)
    args = models["world_model"], models["autoencoder"], recordings, recordings[:2], config, tmp_path / "tuned"
    assert np.isfinite(finetune_world_model(*args, seed=0)["losses"]).all()
    policy, data = load_policy(models["policy"]), StepData.from_episodes(recordings)
    check_fits(policy, data)
    batch = data.at(data.choose(np.random.default_rng(0), 4), policy.chunk_size)
    loss = policy.loss(
        *(torch.from_numpy(part) for part in (batch.images, batch.states)),
        batch.instructions,
        *(torch.from_numpy(part) for part in (batch.actions, batch.weights)),
        torch.Generator().manual_seed(0),
    )
    assert loss.isfinite()


def test_actions_are_relative_the_short_way_round(recordings):
    """Over the end of an angle a step of .12 rad stays one, there and back."""
    states, actions = [e.states for e in recordings], [e.actions for e in recordings]
    options = {"chunk_size": 1, "absolute": SPEC.action.as_is}
    norm = Normalization.fit(states, actions, **options, wraps=SPEC.action.wraps)
    assert norm.action_high[0, ROLL] == pytest.approx(STEP_OF_ROLL, abs=0.02)
    assert Normalization.fit(states, actions, **options).action_low[0, ROLL] < -2, "without, half a turn"
    restored = Normalization.from_json(norm.to_json())
    state, action = torch.from_numpy(states[0][:-1]), torch.from_numpy(actions[0])[:, None]
    assert (state[:, ROLL] > 3).any()
    assert (state[:, ROLL] < -3).any()
    there = restored.actions(action, state)
    assert there.abs().max() < 4
    assert torch.allclose(restored.targets(there, state), action, atol=1e-5)
    assert "wraps" not in Normalization.fit(states, actions, **options).to_json()


def test_models_of_another_robot_are_refused(models, recordings):
    config = ImagineConfig(num_steps=4)
    folders = [models["policy"], foundation("tiny", "world_model"), foundation("tiny", "autoencoder")]
    with pytest.raises(VlawError, match="poses of 5 numbers and 3 cameras; robot 'droid' has 7 and 3"):
        imagine(*folders, starts_of(recordings), config, robot=SPEC, seed=0)
    folders = [models[name] for name in ("policy", "world_model", "autoencoder")]
    with pytest.raises(VlawError, match="poses of 7 numbers and 3 cameras; robot 'tabletop' has 5 and 3"):
        imagine(*folders, starts_of(recordings), config, robot=TABLETOP, seed=0)
    with pytest.raises(VlawError, match="not shipped") as caught:
        foundation("tiny", "world_model", robot=SPEC.name)
    assert "foundation.toml [weights]" in caught.value.remedy


@pytest.mark.parametrize(
    "simulated",
    [
        lambda: list(
            chain.from_iterable(
                collect_rollouts("nowhere", ["rolling"], RolloutConfig(), robot=SPEC, iteration=1, seed=0)
            )
        ),
        lambda: evaluate_policy("nowhere", ["rolling"], EvaluationConfig(), robot=SPEC),
        lambda: list(iterate_demonstrations(["rolling"], 1, robot=SPEC, purpose="demonstration", seed=0)),
        lambda: true_outcomes([], {}, robot=SPEC),
    ],
)
def test_what_is_simulated_is_refused_before_anything_is_loaded(simulated, monkeypatch):
    monkeypatch.setattr("vlaw_models.policies.base.load_policy", lambda folder: object())
    with pytest.raises(VlawError, match="needs a simulator; robot 'droid' has none") as caught:
        simulated()
    assert caught.value.remedy


def test_a_state_that_turns_over_the_end_of_an_angle_does_not_jump(recordings):
    """The hand's roll passes half a turn; as a policy sees it, it goes on."""
    states, actions = [e.states for e in recordings], [e.actions for e in recordings]
    norm = Normalization.of_robot(SPEC, states, actions, chunk_size=4)
    assert (norm.state_high - norm.state_low)[ROLL] < np.pi
    assert (norm.action_high - norm.action_low)[:, ROLL].max() < np.pi
    seen = norm.state(torch.from_numpy(states[0]))[:, ROLL]
    assert np.abs(np.diff(states[0][:, ROLL])).max() > 6, "as it is written"
    assert seen.diff().abs().max() < 0.5
    assert seen.abs().max() < 3
    again = Normalization.from_json(norm.to_json())
    assert torch.equal(again.state(torch.from_numpy(states[0]))[:, ROLL], seen)
    plain = Normalization.fit(states, actions, chunk_size=4, absolute=SPEC.action.as_is, wraps=SPEC.action.wraps)
    assert "state_wraps" not in plain.to_json()
    assert (plain.state_high - plain.state_low)[ROLL] > 6
