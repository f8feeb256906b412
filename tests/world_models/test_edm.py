"""What a world model is trained on and samples by: noise levels, weights, conditions, views, published sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_world_models import SMALL, TOY

from vlaw_models.autoencoders.views import split_views, stack_views
from vlaw_models.config import ImagineConfig, Sampling, WorldModelMetricsConfig, identifying
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.tabletop.controller import HIGH, LOW
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition
from vlaw_models.world_models.chunk_unet import ChunkUNet
from vlaw_models.world_models.ctrl_world import CtrlWorld, CtrlWorldConfig


def condition_for(model, batch, seed=0, frames=None):
    generator = torch.Generator().manual_seed(seed)
    count = len(model.offsets()[0])
    low, high = torch.from_numpy(LOW), torch.from_numpy(HIGH)
    poses = low + (high - low) * torch.rand((batch, count + model.chunk, 5), generator=generator)
    return Condition(torch.randn((batch, count, *model.latent_shape), generator=generator), poses)


def pick(condition, i):
    drop = None if condition.drop is None else condition.drop[i : i + 1]
    return Condition(condition.context[i : i + 1], condition.poses[i : i + 1], drop=drop)


def test_views_stack_in_camera_order():
    latents = torch.arange(2 * 3 * 4 * 2 * 5).reshape(2, 3, 4, 2, 5)
    stacked = stack_views(latents)
    assert stacked.shape == (2, 4, 6, 5)
    assert torch.equal(stacked[:, :, 2:4], latents[:, 1])
    assert torch.equal(split_views(stacked, 3), latents)


def test_loss_weight_makes_the_raw_network_error_uniform():
    """With F = 0 the weighted loss is |x0 c + e s|^2 in closed form: the preconditioning and the weight agree."""
    model = ChunkUNet(SMALL)
    model.forward = lambda scaled, sigma, condition: torch.zeros_like(scaled)
    future, condition = torch.randn(4, 4, *model.latent_shape), condition_for(model, 4)
    value, estimate = edm.loss(model, future, condition, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    sigma = (SMALL.edm.log_std * torch.randn(4, generator=generator) + SMALL.edm.log_mean).exp()
    noise = torch.randn(future.shape, generator=generator)
    s = sigma[:, None, None, None, None]
    target = -(future * s - noise) / (s**2 + 1).sqrt()  # v-prediction: c_out F = x0 - c_skip (x0 + s e)
    assert torch.allclose(value, target.square().flatten(1).mean(1), rtol=1e-3)
    assert torch.allclose(estimate, (future + s * noise) / (s**2 + 1), atol=1e-4)  # c_skip x, and c_out 0


def test_change_weight_counts_only_where_frames_differ():
    model = ChunkUNet(SMALL)
    condition = condition_for(model, 2)
    same = condition.context[:, -1:].repeat(1, 4, 1, 1, 1)
    kwargs = {"future": same, "condition": condition}

    def error(weight: float = 0.0) -> torch.Tensor:
        return edm.loss(model, **kwargs, generator=torch.Generator().manual_seed(0), change_weight=weight)[0]

    assert torch.equal(error(), error(5.0))
    kwargs["future"] = same + 2.0
    assert (error(5.0) > 2 * error()).all()


@pytest.mark.parametrize("patch", [1, 4])
def test_a_change_counts_for_its_whole_patch(patch):
    """Of an error of 1 everywhere, a changed pixel adds the weight once for each pixel of its patch."""

    class Still(torch.nn.Module):
        deterministic, autocast, change_patch, heads = True, False, patch, None

        def augment(self, context, _generator):
            return context

        def predict(self, condition):
            return future - 1

    current = torch.zeros(1, 3, 2, 10, 6)  # not a multiple of the patch
    future = current[:, -1:].clone()
    future[0, 0, 1, 9, 5] = 2.0
    condition, generator = Condition(current, torch.zeros(1, 4, 1)), torch.Generator()
    found, _ = edm.loss(Still(), future, condition, generator, change_weight=3.0)
    assert found.item() == pytest.approx(1 + 3 * (1 if patch == 1 else 2 * 2) / 60)


def test_noise_levels_are_karras_and_end_at_zero():
    levels = edm.sigmas(edm.EdmConfig(), 50)
    assert len(levels) == 51
    assert levels[0] == pytest.approx(700.0)
    assert levels[49] == pytest.approx(0.002, rel=1e-4)
    assert levels[50] == 0.0


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_few_noise_levels_lie_where_training_draws_them_each_equally_often(steps):
    config = edm.EdmConfig(log_mean=0.7, log_std=1.6)
    levels = edm.sigmas(config, steps, "trained")
    assert len(levels) == steps + 1
    assert levels[-1] == 0
    assert (levels.diff() < 0).all()
    drawn = (config.log_std * torch.randn(200_000, generator=torch.Generator().manual_seed(0)) + config.log_mean).exp()
    below = torch.tensor([(drawn < level).float().mean() for level in levels[:-1]])
    assert below[0] == pytest.approx(0.999, abs=1e-3)
    if steps > 1:
        assert below.diff().max() - below.diff().min() < 5e-3
        assert below[-1] == pytest.approx(0.05, abs=2e-3)


def test_guidance_is_off_unless_it_is_asked_for_and_takes_every_pass_twice(monkeypatch):
    model = CtrlWorld(TOY).eval()
    assert model.edm.guidance == 2.0, "as it was published"
    passes = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *given: passes.append(1) or forward(*given))
    condition = condition_for(model, 1)
    for asked, expected in ((Sampling(3), 3), (Sampling(3, guidance=2.0), 6), (ImagineConfig().sampling, 1)):
        passes.clear()
        edm.imagine(model, condition, asked, generator=torch.Generator().manual_seed(0))
        assert len(passes) == expected


def test_attention_to_one_token_is_the_same_without_asking():
    torch.manual_seed(3)
    model = CtrlWorld(TOY).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    model.autocast, condition = False, condition_for(model, 2)
    noisy, sigma = torch.randn(2, 5, *model.latent_shape), torch.tensor([0.5, 3.0])
    asked = []
    across = [part for name, part in model.unet.named_modules() if name.endswith("attn2")]
    for part in across:
        part.to_q.register_forward_hook(lambda *_: asked.append(1))
    published = edm.denoise(model, noisy, sigma, condition).detach()
    assert len(asked) == len(across) > 4, "in training as published"
    with torch.inference_mode():
        quick = edm.denoise(model, noisy, sigma, condition)
    assert len(asked) == len(across), "nothing more was asked"
    assert torch.allclose(quick, published, atol=1e-5, rtol=1e-4)


def test_sampling_is_part_of_an_identity_only_where_it_is_not_as_before():
    assert not {"sampling_schedule", "guidance"} & set(identifying(ImagineConfig()))
    assert identifying(ImagineConfig(guidance=2.0))["guidance"] == 2.0
    assert identifying(WorldModelMetricsConfig(sampling_schedule="trained"))["sampling_schedule"] == "trained"


def test_sampling_recovers_the_only_possible_frame():
    """A perfect denoiser (it knows x0) must be followed exactly, whatever the number of steps."""
    model = ChunkUNet(SMALL)
    truth = torch.randn(2, 4, *model.latent_shape)

    def forward(scaled, sigma, condition):
        s = sigma[:, None, None, None, None]
        return -((truth - scaled / (s**2 + 1).sqrt()) * (s**2 + 1).sqrt() / s)

    model.forward, model.autocast = forward, False
    for steps in (1, 2, 5):
        out = edm.sample(model, condition_for(model, 2), steps=steps, generator=torch.Generator().manual_seed(1))
        assert torch.allclose(out, truth, atol=1e-3)


@pytest.mark.parametrize("kind", ["chunk", "ctrl"])
def test_a_batch_of_two_equals_two_batches_of_one(kind):
    torch.manual_seed(1)
    model = ChunkUNet(SMALL) if kind == "chunk" else CtrlWorld(TOY)
    for p in model.parameters():  # also the layers that start at zero
        torch.nn.init.normal_(p, std=0.1)
    model.eval().autocast = False
    condition = condition_for(model, 2)
    x = torch.randn(2, model.num_denoised, *model.latent_shape)
    sigma = torch.tensor([0.5, 3.0])
    with torch.inference_mode():
        both = edm.denoise(model, x, sigma, condition)
        alone = [edm.denoise(model, x[i : i + 1], sigma[i : i + 1], pick(condition, i)) for i in range(2)]
    assert torch.allclose(both, torch.cat(alone), atol=2e-4)
    assert not torch.allclose(both[0], both[1], atol=1e-2)


def test_each_frame_sees_its_own_pose_and_dropping_hides_it():
    torch.manual_seed(2)
    model = CtrlWorld(TOY).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.15)
    model.autocast = False
    condition = condition_for(model, 1)
    x, sigma = torch.randn(1, 5, *model.latent_shape), torch.tensor([1.0])
    moved = condition.poses.clone()
    moved[:, -1, 0] = float(LOW[0] if condition.poses[0, -1, 0] > 0 else HIGH[0])
    with torch.inference_mode():
        # The text and pose tokens enter as one token per frame: only the last frame's token differs here.
        tokens = model.tokens(condition) - model.tokens(Condition(condition.context, moved))
        assert tokens[:, :-1].abs().max() == 0
        assert tokens[:, -1].abs().max() > 0
        out = edm.denoise(model, x, sigma, condition)
        changed = edm.denoise(model, x, sigma, Condition(condition.context, moved))
        assert (out - changed)[:, -1].abs().max() > 1e-4
        blind = edm.denoise(model, x, sigma, condition.unconditional())
        blind_moved = edm.denoise(model, x, sigma, Condition(condition.context, moved).unconditional())
    assert torch.equal(blind, blind_moved)
    assert not torch.allclose(blind, out)


def test_ctrl_world_conditioning_noise_and_frames():
    model = CtrlWorld(TOY)
    context = torch.randn(4000, 3, 1, 1, 1)
    noisy = model.augment(context.expand(-1, -1, 8, 2, 2), torch.Generator().manual_seed(0))
    error = (noisy - context).flatten(2).std(dim=2).mean(dim=0).tolist()
    assert error[0] == pytest.approx(error[1], rel=0.1)
    assert 0.05 < error[2] < error[0] < 0.3
    assert CtrlWorld(replace(TOY, history=6, history_spacing=4)).offsets()[0] == (24, 20, 16, 12, 8, 4, 0)
    rng = np.random.default_rng(0)
    drawn = [model.offsets(rng) for _ in range(400)]
    assert {future for _, future in drawn} == {(1, 2, 3, 4), (2, 4, 6, 8)}
    assert 0.08 < np.mean([context == (0, 0, 0) for context, _ in drawn]) < 0.23


def test_paper_configuration_is_the_published_one():
    with torch.device("meta"):
        model = CtrlWorld(CtrlWorldConfig(**CtrlWorld.of_robot(find_robot("droid"))))
    assert 1.4e9 < model.num_parameters() < 1.6e9
    assert model.latent_shape == (4, 72, 40)
    assert (model.edm.log_mean, model.edm.log_std, model.drop_probability) == (0.7, 1.6, 0.05)
