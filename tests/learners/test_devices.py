"""Every learner with every policy class, every world model and every reward model, on a device that is not the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from other_device import NAME, other_device

from vlaw_models import device, presets
from vlaw_models.checkpoint import load_tensors
from vlaw_models.config import ImagineConfig, PolicyConfig, RewardModelConfig, WorldModelConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.learners.autoencoder import train_autoencoder
from vlaw_models.learners.base import LEARNERS, Examples, load_learner
from vlaw_models.learners.policy import update_policy
from vlaw_models.learners.reward_model import finetune_reward_model
from vlaw_models.learners.world_model import finetune_world_model
from vlaw_models.pretrain.untrained import build_untrained
from vlaw_models.reward_models.embed import embed_episodes
from vlaw_models.reward_models.score import score_episodes
from vlaw_models.robots.registry import find_robot
from vlaw_models.rollouts.imagine import imagine

ROBOTS = {"tiny": ("tabletop", (64, 64)), "toy": ("droid", (48, 80))}
"""Preset -> robot, and height and width of its pictures: the shipped classes, and the published ones."""
LEARNER = "policy.learner"
LEARNT_FROM_EPISODES = [name for name in LEARNERS.shipped if not LEARNERS.load(name, where="a test").practises]
"""Learners that take what is there; the others make episodes of their own."""
MISFITS = {
    ("toy", "recap", True): LEARNER,
    ("toy", "recap", False): LEARNER,
    ("toy", "dsrl", True): LEARNER,
    ("toy", "dsrl", False): LEARNER,
    ("toy", "dsrl_imagined", True): LEARNER,
    ("toy", "dsrl_imagined", False): LEARNER,
}
"""Preset, learner and whether the encoder is frozen -> the key that does not fit. All other combinations learn."""


class Place:
    """Untrained models of a preset, and a few episodes of its robot, of noise."""

    def __init__(self, preset: str, folder: Path):
        name, size = ROBOTS[preset]
        self.robot = find_robot(name, where="a test")
        rng, (low, high) = np.random.default_rng(0), map(np.array, self.robot.state.scale)
        self.episodes = []
        for index in range(2):
            states = rng.uniform(low, high, (10, len(low))).astype(np.float32)
            images = rng.integers(0, 256, (10, len(self.robot.cameras), *size, 3), dtype=np.uint8)
            self.episodes.append(
                Episode(
                    task="move",
                    instruction="move it",
                    seed=index,
                    images=images,
                    states=states,
                    actions=states[1:, : len(self.robot.action)],
                    success=bool(index % 2),
                    cameras=self.robot.camera_names,
                    episode_id=f"e{index}",
                )
            )
        for kind in presets.MODELS:
            build_untrained(kind, preset, self.episodes, folder / kind, robot=self.robot, seed=0)
        self.folder = folder

    def __getitem__(self, kind: str) -> Path:
        return self.folder / kind


@pytest.fixture(scope="module", params=ROBOTS)
def place(request, tmp_path_factory):
    return request.param, Place(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def there(monkeypatch):
    """Models are loaded onto the other device from here on; the CPU computes in float32, as the other device does."""
    monkeypatch.setattr(device, "devices_here", lambda: {"cpu": 1, NAME: 1})
    monkeypatch.setattr(device, "cpu_is_quick", lambda: False)

    def move():
        monkeypatch.setenv("VLAW_DEVICE", NAME)
        return other_device()

    return move


def changed(before: Path, after: Path) -> bool:
    """Whether training has changed any weight, and left all of them finite."""
    old, new = load_tensors(before), load_tensors(after)
    assert all(value.isfinite().all() for value in new.values())
    return set(old) != set(new) or any(not torch.equal(old[name], new[name]) for name in new)


def test_what_stays_on_the_cpu_is_found():
    with other_device() as far:
        layer, batch = torch.nn.Linear(3, 2).to(far), torch.ones(4, 3)
        with pytest.raises(RuntimeError, match="on the CPU and on the other device"):
            layer(batch)
        loss = layer(batch.to(far)).square().mean()
        loss.backward()
        with pytest.raises(RuntimeError, match="on the CPU and on the other device"):
            loss + torch.ones(1)
        assert layer.weight.grad.device.type == NAME
        assert loss.item() > 0


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", LEARNT_FROM_EPISODES)
def test_a_learner_trains_every_policy_there_or_names_the_key_that_does_not_fit(place, there, tmp_path, name, frozen):
    preset, models = place
    learner = load_learner(name, {"steps": 2} if name.startswith("dsrl") else {}, where="a test")
    settings = PolicyConfig(steps=2, batch_size=4, frozen_encoder=frozen, stops=())
    data, out = Examples.equal(models.episodes), tmp_path / "policy"

    def learn() -> None:
        update_policy(models["base_policy"], learner, data, data, settings, out, seed=0)

    if key := MISFITS.get((preset, name, frozen)):
        with pytest.raises(VlawError, match=key):
            learn()
        assert not out.exists()
        return
    with there():
        learn()
    assert changed(models["base_policy"], out)


@pytest.mark.slow
def test_world_and_reward_models_learn_there(place, there, tmp_path):
    _, models = place
    with there():
        finetune_world_model(
            models["world_model"],
            models["autoencoder"],
            models.episodes,
            models.episodes,
            WorldModelConfig(steps=1, batch_size=2),
            tmp_path / "world_model",
            seed=0,
        )
        finetune_reward_model(
            models["reward_model"],
            models.episodes,
            RewardModelConfig(steps=1, batch_size=2),
            tmp_path / "reward_model",
            seed=0,
        )
    assert changed(models["world_model"], tmp_path / "world_model")
    assert changed(models["reward_model"], tmp_path / "reward_model")


def test_an_autoencoder_learns_there(there):
    frames = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    with there():
        model, losses = train_autoencoder(frames, steps=2, batch_size=2, seed=0)
        assert next(model.parameters()).device.type == NAME
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_what_is_imagined_and_scored_there_is_what_the_cpu_makes(place, there):
    _, models = place
    starts = [Start("move", e.seed, "move it", images=e.images[0], state=e.states[0]) for e in models.episodes]

    def results() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        folders = [models[kind] for kind in ("base_policy", "world_model", "autoencoder")]
        (imagined,) = imagine(*folders, starts, ImagineConfig(num_steps=4, batch_size=2), robot=models.robot, seed=0)
        return (
            np.stack([episode.images for episode in imagined]).astype(int),
            score_episodes(models["reward_model"], models.episodes),
            embed_episodes(models["reward_model"], models.episodes),
        )

    here = results()
    with there():
        far = results()
    assert np.abs(here[0] - far[0]).mean() < 0.1, "levels of 256"
    for mine, other in zip(here[1:], far[1:], strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)
