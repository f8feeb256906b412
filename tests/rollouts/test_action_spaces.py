"""A policy acts in joint velocities at 15 Hz inside a world model that takes poses at 5 Hz: DROID's, at toy size."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from factories import episode

from vlaw_assets.recipes import preflight
from vlaw_assets.recipes.loading import PACKAGED, load_foundation, load_recipe
from vlaw_models.autoencoders.base import build_autoencoder, load_autoencoder
from vlaw_models.config import ImagineConfig, Sampling, WorldModelConfig, WorldModelMetricsConfig
from vlaw_models.episodes import Episode, Observation, Start
from vlaw_models.errors import VlawError
from vlaw_models.learners.world_model import finetune_world_model
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.data import StepData, check_fits
from vlaw_models.policies.normalization import Normalization
from vlaw_models.presets import AUTOENCODER, POLICY, WORLD_MODEL
from vlaw_models.robots.droid import IN_JOINT_POSITION, IN_JOINT_VELOCITY, SPEC
from vlaw_models.robots.spaces import JOINT_VELOCITY, ActionSpace
from vlaw_models.rollouts.imagine import imagine
from vlaw_models.rollouts.replay import replay
from vlaw_models.world_models.base import build_world_model, load_world_model
from vlaw_models.world_models.imagined_world import ImaginedWorld
from vlaw_models.world_models.latents import conditioned

ROBOT, STEPS, CHUNK = IN_JOINT_VELOCITY, 6, 5
HOME = np.array([0, -0.6, 0, -2.4, 0, 1.9, 0, 0.2], np.float32)
SIZES = {**POLICY["toy"], "chunk_size": CHUNK, "execute_steps": 4}


def recorded(seed: int) -> Episode:
    """The arm is led about by velocities that change slowly."""
    rng = np.random.default_rng(seed)
    commands = np.concatenate(
        [np.clip(np.cumsum(rng.normal(0, 0.1, (3 * STEPS, 7)), axis=0), -1, 1), np.full((3 * STEPS, 1), 0.4)], axis=1
    ).astype(np.float32)
    actions = commands.reshape(STEPS, -1)
    _, states = ROBOT.motion.follow(ROBOT.motion.begin(HOME[None]), actions[None])
    images = rng.integers(0, 256, (STEPS + 1, 3, 48, 80, 3), dtype=np.uint8)
    return episode(
        "reach",
        seed,
        instruction="reach for the cup",
        images=images,
        states=np.concatenate([HOME[None], states[0]]),
        actions=actions,
        episode_id=f"rec-{seed}",
        cameras=ROBOT.camera_names,
        control_hz=5.0,
    )


@pytest.fixture(scope="module")
def recordings() -> list[Episode]:
    found = [recorded(seed) for seed in range(3)]
    for one in found:
        ROBOT.check_episode(one, where="the test's own")
    return found


@pytest.fixture(scope="module")
def models(recordings, tmp_path_factory) -> dict:
    torch.set_num_threads(1)
    root, words = tmp_path_factory.mktemp("spaces"), ["reach for the cup"]
    normalization = Normalization.of_robot(
        ROBOT, [e.states for e in recordings], [e.actions for e in recordings], chunk_size=CHUNK
    )
    made = {
        "policy": build_policy(SIZES, normalization, robot=ROBOT, seed=0, instructions=words),
        # Of the robot that is commanded in poses: a world model knows nothing of joints.
        "world_model": build_world_model(WORLD_MODEL["toy"], robot=SPEC, seed=0),
        "autoencoder": build_autoencoder(AUTOENCODER["toy"], seed=0),
    }
    return {name: model.save(root / name) for name, model in made.items()}


def starts_of(episodes: list[Episode]) -> list[Start]:
    return [Start(e.task, e.seed, e.instruction, e.images[0], e.states[0], e.episode_id) for e in episodes]


def imagined(models, recordings, robot=ROBOT) -> list[Episode]:
    folders = (models[name] for name in ("policy", "world_model", "autoencoder"))
    config = ImagineConfig(num_steps=STEPS, sampling_steps=1, batch_size=2)
    return list(chain(*imagine(*folders, starts_of(recordings), config, robot=robot, seed=1)))


@pytest.mark.slow
def test_joint_velocities_at_15_hz_roll_out_in_poses_at_5_hz_and_are_learned_from(models, recordings, tmp_path):
    policy = load_policy(models["policy"])
    assert policy.space == ActionSpace(JOINT_VELOCITY, 15.0, ROBOT.commands.names)
    assert policy.normalization.rows == (15, 8), "as such policies are published"
    assert (policy.chunk_size, policy.action_dim, policy.normalization.per_step) == (5, 24, 3)
    found = imagined(models, recordings)
    for one, start in zip(found, recordings, strict=True):
        assert one.images.shape == (STEPS + 1, 3, 48, 80, 3)
        assert (one.states.shape, one.actions.shape) == ((STEPS + 1, 8), (STEPS, 24))
        assert np.array_equal(one.states[0], start.states[0])
        ROBOT.check_episode(one, where="imagined")
        # Executed in chunks of 4 steps, with what the arm remembers in between.
        motion, memory, states = ROBOT.motion, ROBOT.motion.begin(one.states[:1]), []
        for part in (one.actions[:4], one.actions[4:]):
            memory, moved = motion.follow(memory, part[None])
            states.append(moved[0])
        assert np.allclose(np.concatenate(states), one.states[1:], atol=1e-6)
    # The imagined episodes are what policy and world model learn from in the next step of the loop.
    data = StepData.from_episodes(found)
    check_fits(policy, data)
    batch = data.at(np.arange(4), policy.chunk_size)
    loss = policy.loss(
        *(torch.from_numpy(part) for part in (batch.images, batch.states)),
        batch.instructions,
        *(torch.from_numpy(part) for part in (batch.actions, batch.weights)),
        torch.Generator().manual_seed(0),
    )
    assert loss.isfinite()
    args = models["world_model"], models["autoencoder"], conditioned(recordings, ROBOT), []
    tuned = finetune_world_model(*args, WorldModelConfig(steps=1, batch_size=2), tmp_path / "tuned", seed=0)
    assert np.isfinite(tuned["losses"]).all()


def test_likelihoods_of_several_commands_are_those_of_a_control_step(models, recordings):
    policy = load_policy(models["policy"])
    seen = starts_of(recordings[:2])
    observation = Observation(np.stack([s.images for s in seen]), np.stack([s.state for s in seen]))
    traced = policy.sample_traced(observation, ["reach for the cup"] * 2, torch.Generator().manual_seed(0), 0.5)
    assert traced.actions.shape == (2, 5, 24)
    assert traced.log_prob.shape == (2, 5, 3 * policy.euler_steps)
    context, _ = policy.observe(observation, ["reach for the cup"] * 2)
    again = policy.log_prob(context, traced.trace, 0.5)
    torch.testing.assert_close(again, traced.log_prob, atol=1e-3, rtol=1e-3)


def test_a_replay_passes_through_the_recorded_poses(models, recordings):
    config = WorldModelMetricsConfig(num_steps=4, sampling_steps=1)
    folders = models["world_model"], models["autoencoder"]
    (found,) = replay(*folders, recordings[:1], config, robot=ROBOT, seed=0)
    poses = conditioned(recordings[:1], ROBOT)
    (in_poses,) = replay(*folders, poses, config, robot=SPEC, seed=0)
    assert np.array_equal(found[0].images, in_poses[0].images)
    assert np.array_equal(found[0].states, recordings[0].states[:5])
    assert np.array_equal(found[0].actions, recordings[0].actions[:4])


def test_rows_that_leave_or_begin_anew_keep_their_own_memory(models, recordings, monkeypatch):
    loaded = load_world_model(models["world_model"]), load_autoencoder(models["autoencoder"])

    def unseen(latents: torch.Tensor, views: int) -> np.ndarray:
        return np.zeros((*latents.shape[:-3], views, 48, 80, 3), np.uint8)

    monkeypatch.setattr(loaded[1], "decode", unseen)  # nobody looks at the pictures

    def world() -> ImaginedWorld:
        return ImaginedWorld(*loaded, ROBOT, sampling=Sampling())

    starts, actions = starts_of(recordings), np.stack([e.actions for e in recordings])
    whole = world()
    whole.reset(starts)
    whole.step(actions[:, :4])
    expected = whole.step(actions[:, 4:]).states
    left = world()
    left.reset(starts)
    left.step(actions[:, :4])
    left.keep(np.array([0, 2]))
    assert np.array_equal(left.step(actions[[0, 2], 4:]).states, expected[[0, 2]])
    anew = world()
    anew.reset(starts)
    anew.step(actions[:, :4])
    anew.restart([1], starts[1:2])
    first = anew.step(np.stack([actions[0, 4:], actions[1, :2], actions[2, 4:]])).states
    assert np.array_equal(first[[0, 2]], expected[[0, 2]])
    _, rested = ROBOT.motion.follow(ROBOT.motion.begin(recordings[1].states[:1]), actions[1:2, :2])
    assert np.allclose(first[1], rested[0], atol=1e-6), "from rest, whatever was before"


def test_other_spaces_and_rates_are_refused_with_one_error(models, recordings, tmp_path):
    with pytest.raises(VlawError, match=r"acts in joint velocity \(8 numbers\) at 15 Hz, robot 'droid' is commanded"):
        imagined(models, recordings, SPEC)
    with pytest.raises(VlawError, match="robot 'droid_joint_position' is commanded in joint position"):
        imagined(models, recordings, IN_JOINT_POSITION)
    silent = tmp_path / "silent"
    load_policy(models["policy"]).save(silent)
    config = json.loads((silent / "config.json").read_text())
    del config["space"]
    (silent / "config.json").write_text(json.dumps(config))
    with pytest.raises(VlawError, match="does not say in what it acts, robot 'droid_joint_velocity' is commanded in"):
        imagined({**models, "policy": silent}, recordings)
    slow = replace(ROBOT, name="slow", commands=replace(ROBOT.commands, hz=30.0), action=ROBOT.action.repeated(2))
    with pytest.raises(VlawError, match=r"joint velocity .* at 15 Hz, robot 'slow' is commanded in .* at 30 Hz"):
        imagined(models, recordings, slow)
    with pytest.raises(VlawError, match=r"commands at 12 Hz do not fill control steps at 5 Hz: 2.4 of them"):
        replace(ROBOT, commands=replace(ROBOT.commands, hz=12.0))
    with pytest.raises(VlawError, match="are not the 24 numbers of an action"):
        replace(ROBOT, commands=replace(ROBOT.commands, hz=10.0))
    with pytest.raises(VlawError, match="are not all given"):
        replace(ROBOT, pose=None)
    other = tmp_path / "ten_hertz"
    load_world_model(models["world_model"]).save(other)
    config = json.loads((other / "config.json").read_text())
    config["conditioned_in"]["hz"] = 10.0
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(VlawError, match=r"conditioned in pose \(7 numbers\) at 10 Hz, robot .* gives pose .* at 5 Hz"):
        imagined({**models, "world_model": other}, recordings)
    norm = Normalization.of_robot(SPEC, [np.zeros((4, 7))], [np.zeros((3, 7))], chunk_size=2)
    with pytest.raises(VlawError, match="1 commands in a control step, robot 'droid_joint_velocity' has 3"):
        build_policy(SIZES, norm, robot=ROBOT, seed=0, instructions=["x"])
    with pytest.raises(VlawError, match="kind 'torque'"):
        ActionSpace("torque", 15.0, ("a",))


def test_weights_of_another_space_are_refused_before_anything_runs(models, tmp_path):
    for name in ("droid_sample.toml", "foundation.toml"):
        text = (PACKAGED / "droid" / name).read_text().replace('robot = "droid"', 'robot = "droid_joint_position"')
        (tmp_path / name).write_text(text)
    (tmp_path / "foundation.toml").open("a").write(f'\n[weights]\nworld_model = "{models["world_model"]}"\n')
    recipe = load_recipe(tmp_path / "droid_sample.toml")
    preflight.check_fits(recipe, load_foundation(tmp_path))
    own = tmp_path / "own"
    own.mkdir()
    text = (tmp_path / "foundation.toml").read_text()
    (own / "foundation.toml").write_text(f'{text}base_policy = "{models["policy"]}"\n')
    with pytest.raises(
        VlawError, match=r"acts in joint velocity .*, robot 'droid_joint_position' is commanded"
    ) as caught:
        preflight.check_fits(recipe, load_foundation(own))
    assert "weights.base_policy" in caught.value.where
