"""Finetuning minimises the published loss (VLAW Eq. 1 as Ctrl-World computes it), and what is odd in the published
system is behind switches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import episode
from toy_world_models import TOY

from vlaw_models.autoencoders.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from vlaw_models.config import WorldModelConfig, identifying
from vlaw_models.errors import VlawError
from vlaw_models.learners import world_model as learner
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import ANCHOR, Condition
from vlaw_models.world_models.ctrl_world import PUBLISHED_ROLLOUTS, CtrlWorld

K, H = TOY.history + 1, TOY.chunk


def published(model: CtrlWorld, future: torch.Tensor, condition: Condition, generator: torch.Generator) -> torch.Tensor:
    """The loss as the reference writes it, from the same draws: an image per frame, one sigma per sample, the history
    and the current frame noisy, the error of the current frame and those after it."""
    context, batch = condition.context, len(future)
    latents = torch.cat([context, future], dim=1)
    s = (1.6 * torch.randn(batch, generator=generator) + 0.7).exp()[:, None, None, None, None]
    eps = torch.randn((batch, 1 + H, *latents.shape[2:]), generator=generator)
    level = 0.3 * torch.randn((batch, K, 1, 1, 1), generator=generator)
    level[:, -1] = 0.2 * torch.rand((batch, 1, 1, 1), generator=generator)
    seen = (context + level * torch.randn(context.shape, generator=generator)) / (level**2 + 1).sqrt()
    noisy = latents[:, K - 1 :] + s * eps
    x = torch.cat([seen[:, :-1], noisy / (s**2 + 1).sqrt()], dim=1)
    current = seen[:, -1:].repeat(1, K + H, 1, 1, 1) / TOY.vae_scale
    low, high = torch.tensor(TOY.pose_low), torch.tensor(TOY.pose_high)
    poses = (2 * (condition.poses - low) / (high - low + 1e-8) - 1).clip(-1, 1)
    tokens = model.action_encoder(poses)
    if condition.drop is not None:
        tokens = tokens * (~condition.drop)[:, None, None]
    ids = torch.tensor([[7, 127, 0.0]]).repeat(batch, 1)
    out = model.unet(torch.cat([x, current], dim=2), s.flatten().log() / 4, tokens, ids)
    pred = -s / (s**2 + 1).sqrt() * out[:, K - 1 :] + noisy / (s**2 + 1)
    return ((pred - latents[:, K - 1 :]) ** 2 * ((s**2 + 1) / s**2)).mean()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    root, model = tmp_path_factory.mktemp("published"), CtrlWorld(TOY)
    for parameter in model.parameters():  # also the layers that start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    autoencoder = TinyAutoencoder(TinyAutoencoderConfig(channels=16, latent_channels=TOY.latent_channels))
    return model.save(root / "model"), autoencoder.save(root / "autoencoder")


def recordings() -> list:
    return [
        episode(seed=seed, steps=14, cameras=SPEC.camera_names, size=(32, 32), dims=(5, 5), noise=seed)
        for seed in range(3)
    ]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_finetuning_minimises_the_published_loss(folders, tmp_path, monkeypatch, batch_size):
    monkeypatch.setattr(CtrlWorld, "autocast", False)
    expected, ours = [], edm.loss

    def spied(model, future, condition, generator, **options):
        assert options["change_weight"] == 0
        again = torch.Generator()
        again.set_state(generator.get_state())
        # With gradients, as the finetuning has them: without, some processors round by another kernel.
        expected.append(published(model, future, condition, again).item())
        return ours(model, future, condition, generator, **options)

    monkeypatch.setattr(learner.edm, "loss", spied)
    config = WorldModelConfig(steps=3, batch_size=batch_size, change_weight=0.0, learning_rate=1e-3)
    found = learner.finetune_world_model(*folders, recordings(), [], config, tmp_path / "out", seed=0)["losses"]
    difference = np.abs(np.array(found) - np.array(expected)).max()
    assert difference == 0.0 if batch_size == 1 else difference <= 1e-6 * max(expected)


def test_the_change_weight_is_a_key_that_older_identities_lack(folders, tmp_path):
    default = WorldModelConfig(steps=1, batch_size=2)
    assert default.change_weight == 3.0
    assert "change_weight" not in identifying(default)
    assert identifying(replace(default, change_weight=0.0))["change_weight"] == 0.0
    losses = [
        learner.finetune_world_model(
            *folders, recordings(), [], replace(default, change_weight=weight), tmp_path / str(weight), seed=0
        )["losses"][0]
        for weight in (0.0, 3.0)
    ]
    assert losses[1] > losses[0]


def condition_of(model: CtrlWorld, batch: int = 2) -> Condition:
    generator = torch.Generator().manual_seed(1)
    low, high = model.pose_low, model.pose_high
    poses = low + (high - low) * torch.rand((batch, K + H, model.pose_dim), generator=generator)
    return Condition(torch.randn((batch, K, *model.latent_shape), generator=generator), poses)


def noised(**changes) -> CtrlWorld:
    torch.manual_seed(0)
    model = CtrlWorld(replace(TOY, **changes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_the_temporal_layers_see_the_oldest_token_or_each_its_own():
    """Through the same weights: where all frames have one token nothing differs; where they do not, all of it does."""
    stock, own = noised(), noised(own_tokens=True)
    for model in (stock, own):
        model.action_encoder[-1].weight.data *= 50  # so that tokens say something
    assert stock.state_dict().keys() == own.state_dict().keys()
    given = condition_of(stock)
    still = replace(given, poses=given.poses[:, :1].expand_as(given.poses).contiguous())
    x, sigma = torch.randn(2, 1 + H, *stock.latent_shape), torch.ones(2)
    with torch.inference_mode():
        same = (stock(x, sigma, still) - own(x, sigma, still)).abs().max()
        other = (stock(x, sigma, given) - own(x, sigma, given)).abs().max()
        assert same < 1e-5
        assert other > 20 * same
        assert other > 1e-4
        alone = torch.cat([own(x[i : i + 1], sigma[:1], _row(given, i)) for i in range(2)])
        assert torch.allclose(own(x, sigma, given), alone, atol=1e-4), "samples do not mix"


def _row(condition: Condition, row: int) -> Condition:
    return Condition(condition.context[row : row + 1], condition.poses[row : row + 1])


def test_roll_outs_as_published_are_a_switch():
    model = noised(rollout_history=(ANCHOR, 8), rollout_noise_aug=0.02)
    assert model.offsets()[0] == (ANCHOR, 8, 0)
    assert model.offsets(np.random.default_rng(0))[0] != (ANCHOR, 8, 0), "training looks back as before"
    assert noised().offsets()[0] == (4, 2, 0)
    given, x, sigma = condition_of(model), torch.randn(2, 1 + H, *model.latent_shape), torch.ones(2)
    with torch.inference_mode():
        sampling, training = model(x, sigma, given), model.train()(x, sigma, given)
    assert not torch.equal(sampling, training)
    assert len(PUBLISHED_ROLLOUTS["rollout_history"]) == 6
    with pytest.raises(VlawError, match="names 6 frames, the model has 2 history frames"):
        noised(**PUBLISHED_ROLLOUTS)


def test_the_current_frame_counts_in_the_loss_or_does_not():
    model = noised()
    model.autocast = False
    given, future = condition_of(model), torch.randn(2, H, *model.latent_shape)

    def loss() -> torch.Tensor:
        return edm.loss(model, future, given, torch.Generator().manual_seed(0))[0]

    with torch.no_grad():
        both = loss()
        model.learn_current = False
        coming = loss()
    assert not torch.allclose(both, coming)
    assert coming.isfinite().all()
