"""The tiny world model that moves what it has seen: shapes, independence, checkpoints, and that calibration is worth
it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.autoencoders.folded_pixels import FoldedPixels
from vlaw_models.errors import VlawError
from vlaw_models.learners.world_model import train_world_model, world_model_loop
from vlaw_models.presets import WORLD_MODEL
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.world_models.base import Condition, build_world_model, load_world_model
from vlaw_models.world_models.latents import encode_episodes
from vlaw_models.world_models.warp_unet import WarpUNet, WarpUNetConfig

SMALL = WarpUNetConfig(**WarpUNet.of_robot(SPEC), channels=(16, 32), pose_maps=4, picture_channels=8, pixel_hidden=8)


def condition(batch: int, seed: int = 0) -> Condition:
    g = torch.Generator().manual_seed(seed)
    context = torch.rand(batch, 3, 48, 48, 16, generator=g) * 2 - 1
    poses = torch.rand(batch, 7, 5, generator=g) * 0.1 + torch.tensor([0.0, 0.0, 0.1, 0.0, 0.5])
    return Condition(context, poses)


def model(seed: int = 0) -> WarpUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WarpUNet(SMALL).eval()


def test_folding_loses_nothing(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)
    folded = FoldedPixels()
    folded.save(tmp_path / "ae")
    again = load_autoencoder(tmp_path / "ae")
    latents = again.encode(images)
    assert latents.shape == (2, 48, 48, 16)
    assert np.array_equal(again.decode(latents, 3), images)


def test_untrained_it_mostly_predicts_that_nothing_changes():
    c = condition(2)
    with torch.inference_mode():
        frames = model().predict(c)
    assert frames.shape == (2, 4, 48, 48, 16)
    assert (frames - c.context[:, -1:]).abs().mean() < 0.5 * (frames - c.context[:, :1]).abs().mean()


def test_a_batch_of_two_is_two_batches_of_one():
    c, net = condition(2), model()
    with torch.inference_mode():
        both = net.predict(c)
        single = torch.cat([net.predict(Condition(c.context[i : i + 1], c.poses[i : i + 1])) for i in range(2)])
    assert torch.allclose(both, single, atol=1e-4)


def test_a_chunk_is_predicted_frame_by_frame_each_from_the_one_before():
    c, net = condition(2), model()
    single = WarpUNet(replace(SMALL, chunk=1)).eval()
    single.load_state_dict(net.state_dict())
    with torch.inference_mode():
        chunk, last = net.predict(c), c.context[:, -1]
        for step in range(4):
            context = torch.cat([c.context[:, :-1], last[:, None]], dim=1)
            last = single.predict(Condition(context, c.poses[:, [0, 1, 2 + step, 3 + step]]))[:, 0]
            assert torch.allclose(chunk[:, step], last, atol=1e-5)
    assert not torch.allclose(chunk[:, 0], chunk[:, 3], atol=1e-2)


def test_checkpoint_round_trip_and_missing_calibration(tmp_path):
    net = model()
    net.save(tmp_path / "wm")
    again = load_world_model(tmp_path / "wm")
    assert again.config == net.config
    with torch.inference_mode():
        assert torch.equal(again.predict(condition(1)), net.predict(condition(1)))
    with pytest.raises(VlawError, match="2 calibrated cameras for 3 views"):
        WarpUNet(replace(SMALL, cameras=SMALL.cameras[:2]))
    with pytest.raises(VlawError, match=r"'droid' has 0 calibrated cameras of 3.*'roll pitch yaw'"):
        build_world_model(WORLD_MODEL["tiny"], robot=find_robot("droid"), seed=0)


def test_frames_are_drawn_the_same_encoded_before_or_when_drawn():
    episodes = list(iterate_demonstrations(["stack"], 2, robot=SPEC, purpose="co_training", seed=0))
    now, later = (encode_episodes(FoldedPixels(), episodes, when_drawn=w) for w in (False, True))
    index = np.array([[0, 28, 29], [30, 57, 3]])
    assert torch.allclose(now.latents[index].float(), later.encoded(later.stored[index]), atol=1e-3)


@pytest.mark.slow
def test_calibrated_motion_is_learned_sooner_than_without():
    """The same network and steps with cameras that are not where they say: the loss stays higher."""
    episodes = list(iterate_demonstrations(["stack"], 2, robot=SPEC, purpose="co_training", seed=0))
    data = encode_episodes(FoldedPixels(), episodes, when_drawn=True)
    wrong = tuple(replace(camera, half=camera.half * 3) for camera in SMALL.cameras)
    losses = []
    for cameras in (SMALL.cameras, wrong):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = WarpUNet(replace(SMALL, cameras=cameras))
        losses.append(
            np.mean(train_world_model(net, data, loop=world_model_loop(40, 3e-3), batch_size=1, seed=0)[-20:])
        )
    assert losses[0] < 0.95 * losses[1], losses
