"""The tiny world model that moves what it has seen: shapes, independence, checkpoints, what it may copy from where, and
what it learns from."""

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
from vlaw_models.robots.cameras import project
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.world_models import copies
from vlaw_models.world_models.base import Condition, build_world_model, load_world_model
from vlaw_models.world_models.chunk_warp import ChunkWarp, ChunkWarpConfig
from vlaw_models.world_models.latents import Imagined, Runs, encode_episodes, windows
from vlaw_models.world_models.window import corners, cut, put_back

SMALL = ChunkWarpConfig(**ChunkWarp.of_robot(SPEC), channels=(16, 16, 32), embedding=32)


def condition(batch: int, seed: int = 0) -> Condition:
    g = torch.Generator().manual_seed(seed)
    context = torch.rand(batch, 3, 3, 192, 64, generator=g) * 2 - 1
    poses = torch.rand(batch, 7, 5, generator=g) * 0.1 + torch.tensor([0.0, 0.0, 0.1, 0.0, 0.5])
    return Condition(context, poses)


def model(seed: int = 0) -> ChunkWarp:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ChunkWarp(SMALL).eval()


def episodes(count: int):
    return list(iterate_demonstrations(["stack"], count, robot=SPEC, purpose="co_training", seed=0))


def test_pixels_lose_nothing(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)
    FoldedPixels().save(tmp_path / "ae")
    again = load_autoencoder(tmp_path / "ae")
    latents = again.encode(images)
    assert latents.shape == (2, 3, 192, 64)
    assert np.array_equal(again.decode(latents, 3), images)


def test_untrained_it_mostly_predicts_that_nothing_changes():
    c = condition(2)
    with torch.inference_mode():
        frames = model().predict(c)
    assert frames.shape == (2, 4, 3, 192, 64)
    assert (frames - c.context[:, -1:]).abs().mean() < 0.5 * (frames - c.context[:, :1]).abs().mean()


def test_a_batch_is_its_samples_one_by_one():
    c, net = condition(10), model()
    with torch.inference_mode():
        both = net.predict(c)
        single = torch.cat([net.predict(Condition(c.context[i : i + 1], c.poses[i : i + 1])) for i in range(10)])
    assert torch.allclose(both, single, atol=1e-4)


def test_each_frame_of_a_chunk_follows_from_all_coming_poses():
    c, net = condition(1), model()
    with torch.no_grad():
        for network in net.networks:
            network.head.weight.mul_(10)
    other = c.poses.clone()
    other[:, -1, 0] += 0.05
    with torch.inference_mode():
        one, two = net.predict(c), net.predict(Condition(c.context, other))
    assert not torch.allclose(one[:, 3], two[:, 3], atol=1e-3)
    assert not torch.allclose(one[:, 0], one[:, 3], atol=1e-3)


def test_checkpoint_round_trip_and_missing_calibration(tmp_path):
    net = model()
    net.save(tmp_path / "wm")
    again = load_world_model(tmp_path / "wm")
    assert again.config == net.config
    with torch.inference_mode():
        assert torch.equal(again.predict(condition(1)), net.predict(condition(1)))
    with pytest.raises(VlawError, match="2 calibrated cameras for 3 views"):
        ChunkWarp(replace(SMALL, cameras=SMALL.cameras[:2]))
    for window in ((48, 42), (72, 40), (0, 40)):
        with pytest.raises(VlawError, match=f"a window of {window[0]} x {window[1]} in pictures of 64 x 64 pixels"):
            ChunkWarp(replace(SMALL, window=window))
    with pytest.raises(VlawError, match=r"'droid' has 0 calibrated cameras of 3.*'roll pitch yaw'"):
        build_world_model(WORLD_MODEL["tiny"], robot=find_robot("droid"), seed=0)


@pytest.mark.parametrize("view", range(3))
def test_what_does_not_move_is_where_it_was(view):
    """With the poses as they are every moved copy is the picture itself, to the resampling of a pixel."""
    camera, net = SMALL.cameras[view], model()
    frames = torch.rand(1, 3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    poses = torch.tensor([0.05, -0.03, 0.1, 0.2, 1.0]).expand(1, 7, 5)
    grids = copies.origin_grids(camera, poses, 3, net.pixels.permute(1, 2, 0)[None])
    moved = copies.moved(camera, frames, grids)
    assert moved.shape == (1, 4, copies.layers(camera) + 1, 3, 64, 64)
    below = slice(40, 60)  # every horizon
    assert (moved[:, :, :-1] - frames[:, None, -1:])[..., below, :].abs().max() < 0.02
    assert (moved[:, :, -1] - frames[:, None, 0])[..., below, :].abs().max() < 0.02


def test_where_the_hand_was_a_frame_is_no_source():
    """A table over the hand that says 'hidden' takes the first frame out of the choice where its hand was, and there
    alone; and it is looked up where the hand is, not where it was."""
    prior = copies.Prior(SMALL.cameras[0], 3, 64, 64)
    with torch.no_grad():
        prior.hides[:, 2:-2, 2:-2] = 1.0
        prior.moving[-1] += 1.0  # blue
        prior.still[-3] += 1.0  # red
    poses = torch.tensor([0.0, -0.15, 0.1, 0.0, 0.0]).repeat(1, 7, 1)
    poses[:, 1:, 1] = 0.15  # only in the first frame is the hand on the left
    grids = torch.zeros(1, 4, 2, 64, 64, 2)
    logits, plates = prior(poses, grids, model().pixels.permute(1, 2, 0)[None], [(0, 0)])
    assert logits.shape == (1, 4, 3 + 2 + copies.PLATES + 1, 64, 64)
    assert torch.equal(logits[0, 0, 3:], torch.zeros(5, 64, 64))
    assert [plate.shape for plate in plates] == [(1, 4, 3, 64, 64)] * 2
    full = pytest.approx(np.tanh(1.0))
    assert [plate[0, 0, :, 32, 32].tolist() for plate in plates] == [[0, 0, full], [full, 0, 0]]
    first, current = (logits[0, 0, source] < -5 for source in (0, 2))
    assert 0.05 < first.float().mean() < 0.5
    assert not (first & current).any()


def test_outside_the_window_around_the_hand_a_picture_stays_as_it_is():
    """The window follows the hand, as far as the picture reaches; inside it, it is what a whole look would show."""
    camera, picture, window = SMALL.cameras[0], (64, 64), SMALL.window
    poses = torch.tensor([0.1, 0.0, 0.02, 0.0, 0.5]).repeat(3, 5, 1)
    poses[1, :, 1], poses[2, 2:, 1] = -0.3, 0.08
    at = corners(camera, poses, window, picture)
    assert all(top % 2 == left % 2 == 0 for top, left in at)
    assert at[1][1] in {0, picture[1] - window[1]}  # far to one side
    pinch = (1 + project(camera, poses[0, :1], poses[0, :1, :3])[0]) * 32
    rows, columns = (pinch[1] - at[0][0]) / window[0], (pinch[0] - at[0][1]) / window[1]
    assert (columns.item(), rows.item()) == (pytest.approx(0.5, abs=0.05), pytest.approx(0.58, abs=0.05))
    both = [(1 + project(camera, poses[2, [step]], poses[2, [step], :3])[0, 0]) * 32 for step in (0, 4)]
    assert at[2][1] == pytest.approx((sum(both) / 2 - window[1] / 2).item(), abs=1.01)  # the middle of its way
    net = model()
    frames = torch.rand(3, 3, 3, 192, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        made = net.predict(Condition(frames, torch.cat([poses[:, [0, 0]], poses], dim=1)))
    for sample, (top, left) in enumerate(at):
        still = torch.ones(64, 64, dtype=torch.bool)
        still[top : top + window[0], left : left + window[1]] = False
        change = (made[sample] - frames[sample, -1])[..., :64, :].abs()
        assert change[..., still].max() == 0
        assert (change[..., ~still] > 0).float().mean() > 0.9


def test_a_window_is_cut_and_put_back():
    pictures = torch.rand(2, 3, 16, 12)
    at, size = [(2, 4), (8, 0)], (8, 6)
    parts = cut(pictures, at, size)
    assert torch.equal(parts[1], pictures[1, :, 8:16, :6])
    whole = put_back(pictures, at, 1 + parts[:, None].expand(-1, 4, -1, -1, -1))
    assert whole.shape == (2, 4, 3, 16, 12)
    assert torch.equal(whole[0, 3, :, 2:10, 4:10], 1 + parts[0])
    assert torch.equal(whole[0, 3, :, 10:], pictures[0, :, 10:])


def test_frames_are_drawn_the_same_encoded_before_or_when_drawn():
    now, later = (encode_episodes(FoldedPixels(), episodes(2), when_drawn=w) for w in (False, True))
    index = np.array([[0, 28, 29], [30, 57, 3]])
    assert torch.allclose(now.latents[index].float(), later.encoded(later.stored[index]), atol=1e-3)


@pytest.mark.slow
def test_calibrated_motion_is_learned_sooner_than_without():
    """The same network and steps with cameras that are not where they say: the loss stays higher."""
    data = encode_episodes(FoldedPixels(), episodes(2), when_drawn=True)
    wrong = tuple(replace(camera, half=camera.half * 3) for camera in SMALL.cameras)
    losses = []
    for cameras in (SMALL.cameras, wrong):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = ChunkWarp(replace(SMALL, cameras=cameras))
        losses.append(
            np.mean(train_world_model(net, data, loop=world_model_loop(60, 3e-3), batch_size=2, seed=0)[-20:])
        )
    assert losses[0] < 0.95 * losses[1], losses


def test_runs_go_on_from_what_the_model_made_itself():
    """The next chunk of a run begins with the model's own prediction; what is to come, and what was before the run, is
    recorded."""
    data, net, rng = encode_episodes(FoldedPixels(), episodes(1)), model(), np.random.default_rng(3)
    runs, imagined = Runs(data, net, 3, rng, unroll=2), Imagined(3)
    first = runs()
    _, given = windows(data, net, first, data.stored[first.frames], imagined)
    assert first.age.tolist() == [0, 0, 0]
    with torch.inference_mode():
        made = net.predict(given)
    imagined.keep(made, first)
    second = runs()
    future, given = windows(data, net, second, data.stored[second.frames], imagined)
    assert second.age.max() == 1
    for row, age in enumerate(second.age):
        now = second.frames[row, 2]
        assert torch.equal(future[row], data.latents[now + 1 : now + 5].float())
        assert torch.equal(given.context[row, 0], data.latents[0].float())
        if age:
            assert now == first.frames[row, 2] + 4
            assert torch.equal(given.context[row, 2], made[row, 3])
            begun, earlier = first.frames[row, 2], max(now - 6, 0)
            assert earlier <= begun
            assert torch.equal(given.context[row, 1], data.latents[earlier].float())
        else:
            assert torch.equal(given.context[row, 2], data.latents[now].float())


def test_runs_are_no_longer_than_they_may_be_and_begin_where_rollouts_do():
    data, net = encode_episodes(FoldedPixels(), episodes(2)), model()
    runs = Runs(data, net, 16, np.random.default_rng(0), unroll=3)
    seen = [runs() for _ in range(60)]
    ages = np.stack([window.age for window in seen])
    assert ages.max() == 3
    assert set(np.unique(ages)) == {0, 1, 2, 3}
    begun = np.stack([window.frames[:, 2] % 29 for window in seen])[ages == 0]
    assert 0.4 < (begun == 0).mean() < 0.7
    assert all((window.frames[:, -1] // 29 == window.episodes).all() for window in seen)
    plain = Runs(data, net, 16, np.random.default_rng(0))
    assert max(plain().age.max() for _ in range(5)) == 0


def test_training_from_its_own_imagination_is_deterministic():
    data, weights = encode_episodes(FoldedPixels(), episodes(1)), []
    for _ in range(2):
        net = model()
        losses = train_world_model(
            net, data, data, loop=world_model_loop(3, 1e-3), batch_size=4, seed=0, unroll=2, co_training_weight=0.5
        )
        assert len(losses) == 3
        weights.append(net.networks[0].head.weight.detach().clone())
    assert torch.equal(*weights)
