"""Cosmos-Predict2 with actions at toy size: latents that four frames share, the published network, a closed loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import CosmosTransformer3DModel

from vlaw_models.autoencoders.base import build_autoencoder, load_autoencoder
from vlaw_models.autoencoders.folded_pixels import FoldedPixels
from vlaw_models.autoencoders.wan_autoencoder import WanAutoencoder, WanAutoencoderConfig
from vlaw_models.config import Sampling, WorldModelConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.learners.world_model import finetune_world_model, train_world_model, world_model_loop
from vlaw_models.presets import AUTOENCODER, WORLD_MODEL
from vlaw_models.robots.registry import find_robot
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import build_world_model, load_world_model
from vlaw_models.world_models.cosmos_world import CosmosWorld, CosmosWorldConfig
from vlaw_models.world_models.imagined_world import ImaginedWorld
from vlaw_models.world_models.latents import Runs, encode_episodes, windows

DROID = find_robot("droid", where="a test")
LOW, HIGH = (np.array(values) for values in DROID.state.scale)
SIZE = (16, 32)
TASK = "move it"


@pytest.fixture(scope="module")
def autoencoder() -> WanAutoencoder:
    return build_autoencoder(AUTOENCODER["cosmos_toy"], seed=0).eval()


@pytest.fixture(scope="module")
def model() -> CosmosWorld:
    toy = WORLD_MODEL["cosmos_toy"]
    preset = {**toy, "sizes": {**toy["sizes"], "latent_height": 2, "latent_width": 4, "chunk": 8}}
    made = build_world_model(preset, robot=DROID, seed=0).eval()
    for parameter in made.parameters():  # also the layers that start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def episode(seed: int, steps: int = 12) -> Episode:
    rng = np.random.default_rng(seed)
    states = rng.uniform(LOW, HIGH, (steps + 1, len(LOW))).astype(np.float32)
    images = rng.integers(0, 256, (steps + 1, 3, *SIZE, 3), dtype=np.uint8)
    return Episode("move", TASK, seed, images, states, states[1:].copy(), success=bool(seed % 2), episode_id=f"e{seed}")


def start_of(one: Episode) -> Start:
    return Start(one.task, one.seed, one.instruction, one.images[0], one.states[0], one.episode_id)


def test_four_frames_share_a_latent_and_a_chunk_begins_with_a_still(autoencoder, tmp_path):
    clips = np.stack([episode(seed).images[:9] for seed in (0, 1)])
    latents = autoencoder.encode_chunk(clips)
    assert latents.shape == (2, 3, 4, 6, 4)
    assert torch.allclose(latents[:, 0], autoencoder.encode(clips[:, 0]), atol=1e-5)
    decoded = autoencoder.decode_chunk(latents[:, 0], latents[:, 1:], 3)
    assert decoded.shape == (2, 8, 3, *SIZE, 3)
    # Each clip and each view for itself, and nothing that comes later.
    other = clips.copy()
    other[1] = 0
    other[0, 5:] = 0
    assert torch.equal(autoencoder.encode_chunk(other)[0, :2], latents[0, :2])
    assert not torch.equal(autoencoder.encode_chunk(other)[0, 2], latents[0, 2])
    again = load_autoencoder(autoencoder.save(tmp_path))
    assert np.array_equal(again.decode_chunk(latents[:, 0], latents[:, 1:], 3), decoded)
    with pytest.raises(VlawError, match="multiple of 4"):
        autoencoder.encode_chunk(clips[:, :7])
    with pytest.raises(VlawError, match="two of them true"):
        WanAutoencoder(WanAutoencoderConfig(temperal_downsample=(True, True, True)))
    with pytest.raises(VlawError, match="16 numbers for 20 channels"):
        WanAutoencoder(WanAutoencoderConfig(base_dim=8, z_dim=20))


def test_the_papers_sizes_are_the_published_ones():
    with torch.device("meta"):
        model = build_world_model(WORLD_MODEL["cosmos"], robot=DROID, seed=0)
        autoencoder = build_autoencoder(AUTOENCODER["cosmos"], seed=0)
    own = {"pose_low": model.config.pose_low, "pose_high": model.config.pose_high}
    assert CosmosWorldConfig(**own) == model.config
    assert WanAutoencoderConfig() == autoencoder.config
    assert sum(p.numel() for p in model.network.parameters()) == 1_956_413_440
    assert autoencoder.num_parameters() == 126_892_531
    assert model.num_denoised == 6
    assert model.latent_shape == (16, 3 * 192 // autoencoder.factor, 320 // autoencoder.factor)


@pytest.mark.parametrize(
    ("preset", "features", "heads"),
    [("cosmos", (6, 36 * 20, 2048), 725_060), ("paper", (4, 9 * 5, 1280), 535_724)],
)
def test_heads_are_built_at_the_papers_sizes(preset, features, heads):
    with torch.device("meta"):
        model = build_world_model(WORLD_MODEL[preset], robot=DROID, seed=0)
        before = model.num_parameters()
        model.add_heads([TASK], seed=0)
    assert model.feature_shape == features
    assert model.num_parameters() - before == heads


def test_the_network_is_the_published_one_where_no_action_is_told(model):
    net = model.network
    config = {name: value for name, value in net.config.items() if not name.startswith("_")}
    published = CosmosTransformer3DModel(**config).eval()
    published.load_state_dict(net.state_dict())
    video, level, text = torch.randn(2, 4, 3, 6, 4), torch.rand(2, 3), torch.randn(2, 5, 8)
    known = torch.zeros(2, 1, 3, 6, 4)
    known[:, :, 0] = 1
    nothing = [torch.zeros(2, 3, 32), torch.zeros(2, 3, 96)]
    with torch.inference_mode():
        out = net(video, level, known, text, nothing, 16)
        expected = published(
            video,
            level[:, None, :, None, None],
            text,
            fps=16,
            condition_mask=known,
            padding_mask=torch.zeros(1, 1, 48, 32),
            return_dict=False,
        )[0]
    assert torch.equal(out, expected)


def test_each_latent_is_told_the_poses_of_its_frames(model, autoencoder):
    data = encode_episodes(autoencoder, [episode(0), episode(1)])
    assert data.autoencoder is autoencoder, "a chunk is encoded when it is drawn"
    chosen = Runs(data, model, 4, np.random.default_rng(0))()
    found = data.stored[chosen.frames]
    future, condition = windows(data, model, chosen, found)
    assert future.shape == (4, 2, *model.latent_shape)
    assert condition.context.shape == (4, 2, *model.latent_shape)
    assert condition.poses.shape == (4, 10, model.pose_dim)
    whole = autoencoder.encode_chunk(found[:, 1:])
    assert torch.equal(torch.cat([condition.context[:, -1:], future], dim=1), whole)
    condition = replace(condition, drop=None)
    actions = model.poses_of_latents(condition)
    assert actions.shape == (4, 4, 4 * model.pose_dim)
    moved = condition.poses.clone()
    moved[:, -1] += 1
    differs = (model.poses_of_latents(replace(condition, poses=moved)) != actions).any(dim=(0, 2))
    assert differs.tolist() == [False, False, False, True]
    noisy, sigma = torch.randn_like(future), torch.ones(4)
    with torch.inference_mode():
        out, other = (edm.denoise(model, noisy, sigma, replace(condition, poses=p)) for p in (condition.poses, moved))
        one = edm.denoise(
            model,
            noisy[:1],
            sigma[:1],
            replace(condition, context=condition.context[:1], poses=condition.poses[:1]),
        )
    assert not torch.allclose(out[:, -1], other[:, -1])
    assert torch.allclose(out[:1], one, atol=1e-4)


def test_it_trains_with_heads_reloads_and_imagines_a_closed_loop(model, autoencoder, tmp_path):
    folders = model.save(tmp_path / "m"), autoencoder.save(tmp_path / "a")
    episodes = [episode(0), episode(1)]
    cfg = WorldModelConfig(steps=1, batch_size=2, reward_weight=1.0, state_weight=1.0)
    report = finetune_world_model(*folders, episodes, episodes, cfg, tmp_path / "made", seed=0)
    assert np.isfinite(report["losses"]).all()
    made = load_world_model(tmp_path / "made")
    assert made.config == model.config
    assert not torch.equal(made.network.proj_out.weight, model.network.proj_out.weight)
    world = ImaginedWorld(made, autoencoder, DROID, sampling=Sampling(1), seed=5, clips=False)
    world.reset([start_of(one) for one in episodes])
    actions = np.stack([one.actions for one in episodes])
    first = world.step(actions[:, :5])
    world.keep(np.array([1]))
    more = world.step(actions[1:, :9])
    assert (first.images.shape, first.reward.shape) == ((2, 5, 3, *SIZE, 3), (2, 5))
    assert (more.images.shape, more.states.shape) == ((1, 9, 3, *SIZE, 3), (1, 9, model.pose_dim))
    world = ImaginedWorld(made, autoencoder, DROID, sampling=Sampling(1), seed=5, clips=False)
    world.reset([start_of(one) for one in episodes])
    assert np.array_equal(world.step(actions[:, :5]).images, first.images)


def test_frames_before_those_that_nobody_asked_for_are_the_same_without_them(autoencoder):
    generator = torch.Generator().manual_seed(0)
    shape = autoencoder.latent_channels, 3 * SIZE[0] // autoencoder.factor, SIZE[1] // autoencoder.factor
    current, coming = torch.randn(1, *shape, generator=generator), torch.randn(1, 2, *shape, generator=generator)
    whole = autoencoder.decode_chunk(current, coming, 3)
    assert np.array_equal(autoencoder.decode_chunk(current, coming[:, :1], 3), whole[:, :4])


def test_what_does_not_fit_is_refused(model, autoencoder, tmp_path):
    with pytest.raises(VlawError, match="1 frames share a latent of this FoldedPixels; a CosmosWorld takes 4"):
        ImaginedWorld(model, FoldedPixels(), DROID)
    data = encode_episodes(autoencoder, [episode(0)])
    with pytest.raises(VlawError, match="unroll = 2, but 4 frames"):
        train_world_model(model, data, loop=world_model_loop(1, 1e-3), batch_size=1, seed=0, unroll=2)
    with pytest.raises(VlawError, match="multiple of 4"):
        CosmosWorld(replace(model.config, chunk=10))
    with pytest.raises(VlawError, match="6 x 3 do not divide into patches"):
        CosmosWorld(replace(model.config, latent_width=3))
    folders = model.save(tmp_path / "m"), FoldedPixels().save(tmp_path / "a")
    with pytest.raises(VlawError, match="made for each other"):
        finetune_world_model(*folders, [episode(0)], [], WorldModelConfig(steps=1), tmp_path / "made", seed=0)


@pytest.mark.slow
def test_the_toy_preset_imagines_more_than_a_chunk_of_24_frames():
    made = build_world_model(WORLD_MODEL["cosmos_toy"], robot=DROID, seed=0).eval()
    folded = build_autoencoder(AUTOENCODER["cosmos_toy"], seed=0).eval()
    rng = np.random.default_rng(0)
    state = ((LOW + HIGH) / 2).astype(np.float32)
    images = rng.integers(0, 256, (3, 48, 80, 3), dtype=np.uint8)
    world = ImaginedWorld(made, folded, DROID, sampling=Sampling(2))
    world.reset([Start("move", 0, TASK, images, state, "e")])
    moved = world.step(np.repeat(state[None, None], 30, axis=1))
    assert moved.images.shape == (1, 30, 3, 48, 80, 3)
