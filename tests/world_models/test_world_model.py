"""World models, autoencoder, imagination and the rollout loop, on a moving square that the actions push about."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_world_models import SMALL, TOY

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.autoencoders.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from vlaw_models.autoencoders.video_autoencoder import VideoAutoencoder, VideoAutoencoderConfig
from vlaw_models.config import ImagineConfig, Sampling, WorldModelConfig, WorldModelMetricsConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.learners.autoencoder import train_autoencoder
from vlaw_models.learners.world_model import finetune_world_model, train_world_model, world_model_loop
from vlaw_models.robots.tabletop.controller import HIGH, HOME, LOW, MAX_DELTA
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.imagine import imagine
from vlaw_models.rollouts.replay import replay
from vlaw_models.rollouts.rollout import rollout
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import ANCHOR, Condition, load_world_model
from vlaw_models.world_models.chunk_unet import ChunkUNet
from vlaw_models.world_models.ctrl_world import CtrlWorld
from vlaw_models.world_models.imagined_world import ImaginedWorld
from vlaw_models.world_models.latents import Runs, encode_episodes, windows
from vlaw_models.worlds import Transition

SIZE = 32
AE = TinyAutoencoderConfig(channels=32, latent_channels=8)


def picture(state: np.ndarray, shade: float) -> np.ndarray:
    """(3, SIZE, SIZE, 3): a square at (x, y) in the exterior views, at the pitch's place in the wrist view."""
    images = np.full((3, SIZE, SIZE, 3), 40, np.uint8)
    images[..., 2] = 90 + int(60 * shade)
    for view, (u, v) in enumerate(((0, 1), (1, 2), (3, 2))):
        span = HIGH - LOW
        column, row = (np.array([state[u] - LOW[u], state[v] - LOW[v]]) / span[[u, v]] * (SIZE - 8)).astype(int)
        images[view, row : row + 8, column : column + 8] = (230, 60, 30 + 60 * view)
    return images


def square_episode(seed: int, steps: int = 12) -> Episode:
    rng = np.random.default_rng(seed)
    states, actions, shade = [HOME + rng.uniform(-0.1, 0.1, 5).astype(np.float32)], [], rng.random()
    states[0] = SPEC.clip(states[0], states[0])
    velocity = rng.uniform(-1, 1, 5).astype(np.float32) * MAX_DELTA
    for _ in range(steps):
        velocity = np.where(rng.random(5) < 0.2, rng.uniform(-1, 1, 5) * MAX_DELTA, velocity)
        actions.append(SPEC.clip(states[-1], states[-1] + velocity.astype(np.float32)))
        states.append(actions[-1])
    return Episode(
        task="push",
        instruction="push the square",
        seed=seed,
        images=np.stack([picture(s, shade) for s in states]),
        states=np.stack(states),
        actions=np.stack(actions),
        success=bool(seed % 2),
        episode_id=f"e{seed}",
    )


class SquareWorld:
    """The true dynamics behind the same protocol."""

    name, robot, image_size = "square", SPEC, SIZE

    def reset(self, starts):
        from vlaw_models.episodes import Observation

        self.state = np.stack([HOME for _ in starts])
        return Observation(np.stack([picture(s, 0.5) for s in self.state]), self.state.copy())

    def instructions(self):
        return ["push the square"] * len(self.state)

    def step(self, actions):
        states = []
        for action in actions.swapaxes(0, 1):
            self.state = SPEC.clip(self.state, action)
            states.append(self.state)
        states = np.stack(states, axis=1)
        images = np.stack([[picture(s, 0.5) for s in row] for row in states])
        return Transition(images, states, states.copy())

    def outcomes(self):
        return None


class Drift:
    """A policy that moves every dimension by a step plus noise, more than the controller allows."""

    execute_steps = 4

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        assert len(instructions) == len(observation)
        noise = noise_scale * torch.randn((len(observation), 6, 5), generator=generator).numpy()
        return (observation.state[:, None] + 0.3 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def episodes():
    return [square_episode(seed) for seed in range(48)]


@pytest.fixture(scope="module")
def autoencoder(episodes):
    torch.set_num_threads(1)
    return train_autoencoder(np.concatenate([e.images for e in episodes]), AE, steps=200, batch_size=24, seed=0)[0]


def train(episodes, autoencoder, steps: int) -> tuple[ChunkUNet, list[float]]:
    torch.manual_seed(0)
    model = ChunkUNet(SMALL)
    loop = world_model_loop(steps, 3e-3, ema=0.98)
    data = encode_episodes(autoencoder, episodes)
    return model, train_world_model(model, data, loop=loop, batch_size=16, seed=0)


@pytest.fixture(scope="module")
def model(episodes, autoencoder):
    """Trained so far that its frames move; not well."""
    return train(episodes, autoencoder, 20)[0]


def drawn(data, model, count, seed=0):
    chosen = Runs(data, model, count, np.random.default_rng(seed))()
    return windows(data, model, chosen, data.stored[chosen.frames])


def save(model, autoencoder, root: Path) -> tuple[Path, Path]:
    return model.save(root / "world_model"), autoencoder.save(root / "autoencoder")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, model, autoencoder):
    return save(model, autoencoder, tmp_path_factory.mktemp("models"))


@pytest.mark.slow
def test_ctrl_world_trains_reloads_and_guides(tmp_path, episodes, autoencoder):
    torch.manual_seed(0)
    model = CtrlWorld(TOY)
    data = encode_episodes(autoencoder, episodes[:16])
    window = drawn(data, model, 32, seed=1)

    def error():
        with torch.inference_mode():
            return edm.loss(model, *window, torch.Generator().manual_seed(0))[0].mean()

    before = error()
    train_world_model(
        model, data, data, loop=world_model_loop(30, 3e-3, ema=0.8), batch_size=6, seed=0, co_training_weight=0.5
    )
    assert error() < 0.97 * before
    loaded = load_world_model(model.save(tmp_path / "m"))
    assert isinstance(loaded, CtrlWorld)
    assert loaded.config == TOY
    _, condition = drawn(data, model, 2)
    condition = Condition(condition.context, condition.poses)

    def drawn_by(m, guidance=1.0):
        return edm.imagine(
            m, condition, Sampling(2, guidance=guidance), generator=torch.Generator().manual_seed(0)
        ).frames

    one = drawn_by(model)
    assert torch.equal(one, drawn_by(loaded))
    assert not torch.allclose(one, drawn_by(loaded, guidance=TOY.edm.guidance))


def test_video_autoencoder_is_deterministic_and_reloads(tmp_path):
    torch.manual_seed(0)
    model = VideoAutoencoder(VideoAutoencoderConfig(block_out_channels=(32, 32), layers_per_block=1)).eval()
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 16, 16, 3)).astype(np.uint8)
    latents = model.encode(images)
    assert latents.shape == (2, 4, 24, 8)
    assert torch.equal(latents, model.encode(images))
    loaded = load_autoencoder(model.save(tmp_path))
    decoded = loaded.decode(latents, 3)
    assert decoded.shape == images.shape
    assert np.array_equal(decoded, model.decode(latents, 3))


def test_autoencoder_reconstructs_with_unit_latents(episodes, autoencoder, tmp_path):
    images = square_episode(1000).images
    latents = autoencoder.encode(images)
    error = (autoencoder.decode(latents, 3).astype(float) - images) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 22
    everything = encode_episodes(autoencoder, episodes).latents.float()
    assert abs(float(everything.square().mean()) - 1) < 0.15
    # Channels that say more about the picture are larger (learn_world_model.scale_latents).
    moved = [
        np.abs(autoencoder.decode(latents + step, 3).astype(float) - autoencoder.decode(latents, 3)).mean()
        for step in torch.eye(autoencoder.latent_channels)[:, :, None, None]
    ]
    deviation = everything.std(dim=(0, 2, 3)).numpy()
    assert np.corrcoef(deviation, moved)[0, 1] > 0
    reloaded = load_autoencoder(autoencoder.save(tmp_path, dtype=torch.float16))
    assert (reloaded.encode(images) - latents).abs().mean() < 0.05
    with pytest.raises(VlawError, match="do not divide"):
        autoencoder.encode(np.zeros((1, 3, 30, 30, 3), np.uint8))


def test_windows_hold_the_anchor_and_the_poses_of_their_frames(episodes, autoencoder):
    data = encode_episodes(autoencoder, episodes[:3])
    model = ChunkUNet(SMALL)
    assert model.offsets()[0][0] == ANCHOR
    future, condition = drawn(data, model, 200)
    anchors = {tuple(p.tolist()) for p in condition.poses[:, 0]}
    assert anchors == {tuple(e.states[0].tolist()) for e in episodes[:3]}
    table = {tuple(p.tolist()): i for i, p in enumerate(data.poses)}
    for i in range(0, 200, 20):
        rows = [table[tuple(p.tolist())] for p in condition.poses[i]]
        assert torch.equal(condition.context[i], data.latents[rows[:4]].float())
        assert torch.equal(future[i], data.latents[rows[4:]].float())
        assert rows[4:] == [rows[3] + k for k in range(1, 5)]


@pytest.mark.slow
def test_short_training_follows_the_action(episodes, autoencoder, tmp_path):
    model, losses = train(episodes, autoencoder, 450)
    folders = save(model, autoencoder, tmp_path)
    assert np.mean(losses[-20:]) < 0.75 * np.mean(losses[:20])
    clips = [square_episode(2000 + i, steps=8) for i in range(12)]
    results = list(
        chain.from_iterable(replay(*folders, clips, WorldModelMetricsConfig(num_steps=8), robot=SPEC, seed=0))
    )
    truth = np.stack([c.images for c in clips]).astype(float)
    moved = np.abs(truth - truth[:, :1]).max(axis=-1) > 30

    def error(frames):
        return np.abs(frames - truth)[moved].mean()

    predicted = error(np.stack([r.images for r in results]))
    assert predicted < 0.6 * error(np.repeat(truth[:, :1], 9, axis=1))
    # It is the action that it follows: with another clip's actions the same start gives another film.
    other = [
        replace(c, states=np.concatenate([c.states[:1], d.states[1:]]))
        for c, d in zip(clips, clips[1:] + clips[:1], strict=True)
    ]
    swapped = list(
        chain.from_iterable(replay(*folders, other, WorldModelMetricsConfig(num_steps=8), robot=SPEC, seed=0))
    )
    assert predicted < 0.92 * error(np.stack([r.images for r in swapped]))
    assert all(np.array_equal(r.images[0], c.images[0]) for r, c in zip(results, clips, strict=True))
    assert [r.start_episode_id for r in results] == [c.episode_id for c in clips]


def test_replay_of_unequal_lengths_keeps_each_length(folders):
    clips = [square_episode(1, steps=6), square_episode(2, steps=11), square_episode(3, steps=3)]
    results = list(
        chain.from_iterable(replay(*folders, clips, WorldModelMetricsConfig(num_steps=9), robot=SPEC, seed=0))
    )
    assert [r.num_steps for r in results] == [6, 9, 3]
    assert all(len(r.images) == r.num_steps + 1 for r in results)
    assert all(np.array_equal(r.actions, c.actions[: r.num_steps]) for r, c in zip(results, clips, strict=True))


def starts_of(episodes):
    return [Start(e.task, e.seed, e.instruction, e.images[0], e.states[0], e.episode_id) for e in episodes]


def test_imagined_world_clips_like_the_robot_and_is_seeded(episodes, model, autoencoder):
    starts = starts_of(episodes[:3])
    runs = []
    for seed in (5, 5, 6):
        world = ImaginedWorld(model, autoencoder, SPEC, seed=seed)
        runs.append(rollout(Drift(), world, starts, num_steps=10, seed=1))
    for first, again, other in zip(*runs, strict=True):
        assert first.images.shape == (11, 3, SIZE, SIZE, 3)
        assert np.array_equal(first.images, again.images)
        assert not np.array_equal(first.images, other.images)
        assert first.success is None
        assert (np.abs(np.diff(first.states, axis=0)) <= MAX_DELTA + 1e-6).all()
        assert np.array_equal(first.actions, first.states[1:])
    for episode, start in zip(runs[0], starts, strict=True):
        assert np.array_equal(episode.images[0], start.images)
        assert episode.start_episode_id == start.episode_id
    with pytest.raises(VlawError, match="recorded first frame"):
        world.reset([Start("push", 1)])


def test_one_loop_serves_the_real_world_too():
    starts = [Start("push", 3), Start("push", 4)]
    real = rollout(Drift(), SquareWorld(), starts, num_steps=6, seed=1)
    assert [e.seed for e in real] == [3, 4]
    assert real[0].images.shape == (7, 3, SIZE, SIZE, 3)
    assert np.array_equal(real[0].actions, real[0].states[1:])
    again = rollout(Drift(), SquareWorld(), starts, num_steps=6, seed=1, noise_scale=0.0)
    assert np.array_equal(again[0].states[-1], HOME)


def test_imagine_yields_batches_in_order(folders, episodes, monkeypatch):
    import vlaw_models.rollouts.imagine as module

    monkeypatch.setattr(module, "load_policy", lambda folder: Drift())
    cfg = ImagineConfig(num_steps=4, batch_size=2)
    seen = []
    batches = list(
        imagine(
            folders[0],
            *folders,
            starts_of(episodes[:5]),
            cfg,
            robot=SPEC,
            seed=3,
            progress=lambda done, total, text: seen.append((done, total)),
        )
    )
    assert [len(b) for b in batches] == [2, 2, 1]
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert [e.start_episode_id for b in batches for e in b] == [e.episode_id for e in episodes[:5]]
    again = next(imagine(folders[0], *folders, starts_of(episodes[:5]), cfg, robot=SPEC, seed=3))
    assert np.array_equal(again[0].images, batches[0][0].images)
    tries = [
        e
        for batch in imagine(folders[0], *folders, starts_of(episodes[:1] * 3), cfg, robot=SPEC, seed=3)
        for e in batch
    ]
    assert len({e.actions.tobytes() for e in tries}) == 3, "each try of a start has noise of its own, in any batch"
    assert len({e.images[1:].tobytes() for e in tries}) == 3


def test_finetuning_is_deterministic_and_checks_first(folders, episodes, tmp_path):
    cfg = WorldModelConfig(steps=3, batch_size=4)
    for name in ("a", "b", "c"):
        report = finetune_world_model(
            *folders, episodes[:4], episodes[4:6], cfg, tmp_path / name, seed=int(name == "c")
        )
        assert len(report["losses"]) == cfg.steps
    weights = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("a", "b", "c")]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
    wrong = replace(episodes[0], images=episodes[0].images[:, :2])
    with pytest.raises(VlawError, match="2 cameras"):
        finetune_world_model(*folders, [wrong], [], cfg, tmp_path / "d", seed=0)
    assert not (tmp_path / "d").exists()
    with pytest.raises(VlawError, match="no episodes"):
        finetune_world_model(*folders, [], [], cfg, tmp_path / "d", seed=0)


def test_damaged_checkpoints_are_refused(folders, tmp_path):
    with pytest.raises(VlawError):
        load_world_model(folders[1])  # an autoencoder
    (tmp_path / "config.json").write_text('{"class": "ChunkUNet", "depth": 3}')
    with pytest.raises(VlawError, match="ChunkUNet"):
        load_world_model(tmp_path)


def test_tiny_autoencoder_defaults_halve_thrice():
    model = TinyAutoencoder()
    assert model.factor == 8
    assert 0.4e6 < model.num_parameters() < 1.0e6
