"""Clips compared with their replays, and feature networks by path."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vlaw_models.errors import VlawError
from vlaw_models.metrics.clips import compare_clips
from vlaw_models.metrics.features import PairedNet, judge_net, pooled_in_time
from vlaw_models.metrics.perceptual import Lpips
from vlaw_models.metrics.torchvision_nets import InceptionFrames, VideoNet
from vlaw_models.presets import foundation

CAMERAS = ("exterior_1", "wrist")
JUDGE = ("psnr", "ssim", "perceptual_judge", "frechet_judge_frames", "frechet_judge_clips")


def scenes(clips: int = 4, frames: int = 9, size: int = 64, views: int = 2) -> np.ndarray:
    """(clips, frames, views, size, size, 3) uint8: two coloured blocks on a shaded table, one of them moving."""
    rng = np.random.default_rng(7)
    table = np.linspace(90, 150, size)[:, None, None] + np.linspace(0, 30, size)[None, :, None] + np.zeros(3)
    videos = np.broadcast_to(table, (clips, frames, views, size, size, 3)).copy()
    for clip in videos:
        colours, places = rng.integers(0, 256, (2, 3)), rng.integers(2, 30, (2, 2))
        speed = rng.uniform(1, 3, 2)
        for time, view in np.ndindex(frames, views):
            for block, (row, column) in enumerate(places):
                top, left = (np.array([row, column]) + (speed * time * (block == 0)) + 3 * view).astype(int)
                clip[time, view, top : top + 10, left : left + 10] = colours[block]
    return videos.round().astype(np.uint8)


@pytest.fixture(scope="module")
def judge():
    return judge_net(foundation("tiny", "reward_model"))


@pytest.fixture(scope="module")
def recorded():
    return scenes()


def noisy(clips: np.ndarray, level: float) -> np.ndarray:
    noise = np.random.default_rng(3).normal(size=clips.shape)
    return np.clip(clips + level * noise, 0, 255).round().astype(np.uint8)


def blurred(clips: np.ndarray, times: int) -> np.ndarray:
    result = clips.astype(float)
    for _ in range(times):
        for axis in (3, 4):
            result = (np.roll(result, 1, axis) + result + np.roll(result, -1, axis)) / 3
    return result.round().astype(np.uint8)


def values(comparison, camera: str = "exterior_1") -> dict[str, float]:
    return {row["metric"]: row["value"] for row in comparison.rows if row["camera"] == camera}


def test_identical_clips(judge, recorded):
    replayed = recorded.copy()
    replayed[:, 0] = 0
    result = compare_clips(recorded, replayed, judge, cameras=CAMERAS, seeds=range(4))
    assert [(row["camera"], row["metric"]) for row in result.rows] == [(c, m) for c in CAMERAS for m in JUDGE]
    for camera in CAMERAS:
        found = values(result, camera)
        assert (found["psnr"], found["perceptual_judge"]) == (100.0, 0.0)
        assert found["ssim"] == pytest.approx(1)
        assert [found[metric] for metric in JUDGE[3:]] == pytest.approx([0, 0], abs=1e-9)
    manifest = result.manifest
    assert (manifest["clips"], manifest["frames"], manifest["height"], manifest["width"]) == (4, 8, 64, 64)
    assert manifest["seeds"] == list(range(4))
    assert manifest["first_frame_excluded"] is True
    weights = foundation("tiny", "reward_model") / "model.safetensors"
    wanted = {"name": "judge", "digest": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert manifest["feature_net"] == manifest["perceptual_net"] == wanted
    assert manifest["recorded_sha256"] != manifest["replayed_sha256"]
    assert json.loads(json.dumps(dataclasses.asdict(result))) == dataclasses.asdict(result)


@pytest.mark.parametrize(
    "worse",
    [[lambda c, n=n: noisy(c, n) for n in (4, 16, 48)], [lambda c, n=n: blurred(c, n) for n in (1, 3, 12)]],
    ids=["noise", "blur"],
)
def test_more_noise_or_blur_is_further_away(judge, recorded, worse):
    found = [compare_clips(recorded, damage(recorded), judge, cameras=CAMERAS) for damage in worse]
    for camera in CAMERAS:
        for metric in JUDGE:
            steps = np.diff([values(comparison, camera)[metric] for comparison in found])
            assert ((steps < 0) if metric in ("psnr", "ssim") else (steps > 0)).all(), (camera, metric)


def test_shuffled_frames_show_in_the_clips_only(judge, recorded):
    shuffled = recorded.copy()
    shuffled[:, 1:] = recorded[:, 1 + np.random.default_rng(0).permutation(8)]
    shuffle = values(compare_clips(recorded, shuffled, judge, cameras=CAMERAS))
    frozen = values(compare_clips(recorded, np.repeat(recorded[:, 4:5], 9, axis=1), judge, cameras=CAMERAS))
    slight = values(compare_clips(recorded, noisy(recorded, 1), judge, cameras=CAMERAS))
    assert shuffle["frechet_judge_frames"] == pytest.approx(0, abs=1e-8)
    assert shuffle["frechet_judge_clips"] > 10 * slight["frechet_judge_clips"]
    assert frozen["frechet_judge_clips"] > 10 * slight["frechet_judge_clips"]
    backwards = recorded.copy()
    backwards[:, 1:] = recorded[:, :0:-1]
    reverse = values(compare_clips(recorded, backwards, judge, cameras=CAMERAS))
    assert reverse["frechet_judge_frames"] == pytest.approx(0, abs=1e-8)
    assert reverse["frechet_judge_clips"] > 10 * slight["frechet_judge_clips"]


def test_same_clips_same_numbers_and_values_of_each_clip(judge, recorded):
    replayed = noisy(recorded, 8)
    first = compare_clips(recorded, replayed, judge, cameras=CAMERAS, clip_ids=list("abcd"))
    assert first == compare_clips(list(recorded), list(replayed), judge, cameras=CAMERAS, clip_ids=list("abcd"))
    for metric in JUDGE[:3]:
        each = [row["value"] for row in first.per_clip if (row["camera"], row["metric"]) == ("wrist", metric)]
        assert len(each) == 4
        assert np.mean(each) == pytest.approx(values(first, "wrist")[metric])
    exchanged = values(compare_clips(replayed, recorded, judge, cameras=CAMERAS))
    assert exchanged == pytest.approx(values(first))


def test_pooling_in_time_by_hand():
    frames = np.array([[0.0], [1.0], [4.0], [6.0], [6.0], [0.0]])
    # Two clips of three frames: mean, mean absolute step, last third minus first.
    np.testing.assert_allclose(pooled_in_time(frames, 2), [[5 / 3, 2, 4], [4, 3, -6]], rtol=1e-6)


def test_every_camera_has_its_own_encoder(judge, recorded):
    frames = recorded[:, 1, 0]
    first, *others = (judge.frames(frames, camera=camera) for camera in CAMERAS)
    for other in others:
        assert np.abs(first - other).max() > 0.1
    # A picture's vector does not depend on the pictures beside it.
    np.testing.assert_allclose(judge.frames(frames[:1]), first[:1], atol=1e-5)


def bad(change):
    clips = list(scenes(3, 4))
    change(clips)
    return clips


@pytest.mark.parametrize(
    ("replayed", "words"),
    [
        (bad(lambda clips: clips.pop()), "3 recorded and 2 replayed"),
        (bad(lambda clips: clips.__setitem__(1, clips[1][:-1])), "3 and 4 frames"),
        (bad(lambda clips: clips.__setitem__(1, clips[1][:, :, :32, :32])), "32x32 and 64x64"),
        (bad(lambda clips: clips.__setitem__(1, clips[1][:, :1])), "1 cameras, 2 are named"),
        (bad(lambda clips: clips.__setitem__(1, clips[1][:2])), "fewer than 2 frames"),
        (bad(lambda clips: clips.__setitem__(1, np.where(clips[1] > 200, np.nan, clips[1]))), "NaN"),
        (bad(lambda clips: clips.__setitem__(1, clips[1].astype(np.float32))), "dtype float32"),
        (bad(lambda clips: clips.__setitem__(1, clips[1][..., :1])), "shape"),
    ],
)
def test_replays_that_do_not_compare(judge, replayed, words):
    with pytest.raises(VlawError, match=words):
        compare_clips(scenes(3, 4), replayed, judge, cameras=CAMERAS)


def test_comparisons_that_cannot_be_made(judge, recorded, tmp_path):
    for clips in (recorded[:0], recorded[:1]):
        with pytest.raises(VlawError, match="at least 2"):
            compare_clips(clips, clips, judge, cameras=CAMERAS)
    for cameras, words in (
        ((), "Name the robot's cameras"),
        (("exterior_1", "ceiling"), "does not look at the camera 'ceiling'"),
        (("wrist", "wrist"), "each once"),
    ):
        with pytest.raises(VlawError, match=words):
            compare_clips(recorded, recorded, judge, cameras=cameras)
    with pytest.raises(VlawError, match="2 seeds for 4 clips"):
        compare_clips(recorded, recorded, judge, cameras=CAMERAS, seeds=[1, 2])
    with pytest.raises(VlawError, match="made for 64x64"):
        compare_clips(recorded[..., :32, :32, :], recorded[..., :32, :32, :], judge, cameras=CAMERAS)
    with pytest.raises(VlawError, match="fewer than 2 frames"):
        pooled_in_time(np.ones((4, 3)), 4)
    with pytest.raises(VlawError, match="cannot be used as a reward model"):
        judge_net(foundation("tiny", "autoencoder"))
    with pytest.raises(VlawError, match="cannot be read"):
        VideoNet("s3d", tmp_path / "missing.safetensors")
    with pytest.raises(VlawError, match="unknown video network"):
        VideoNet("i3d", tmp_path / "missing.safetensors")


@pytest.mark.slow
def test_a_video_network_by_path_paired_with_the_judge(judge, recorded, tmp_path):
    from torchvision.models import video

    path = tmp_path / "s3d.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = video.s3d(weights=None)
    save_file(network.state_dict(), str(path))
    net = VideoNet("s3d", path)
    clips = recorded[:1, 1:, 0]
    features = net.clips(clips)
    # The network as torchvision runs it, its last layer on top of these features, gives the same answer.
    pictures = torch.nn.functional.interpolate(
        torch.from_numpy(clips[0]).movedim(-1, 1) / 255, (224, 224), mode="bilinear", antialias=True
    )
    mean, std = torch.tensor([0.43216, 0.394666, 0.37645]), torch.tensor([0.22803, 0.22145, 0.216989])
    pictures = (pictures - mean[:, None, None]) / std[:, None, None]
    moments = np.rint(np.linspace(0, 7, 16)).astype(int)
    with torch.inference_mode():
        network.eval()
        wanted = network(pictures[moments].movedim(0, 1)[None])
        answer = network.classifier(torch.from_numpy(features)[:, :, None, None, None]).flatten(1)
    np.testing.assert_allclose(answer, wanted, atol=1e-4)
    assert features.shape == (1, 1024)
    assert wanted.std() > 1e-3
    assert net.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    pair = PairedNet(judge, net)
    assert (pair.frame_metric, pair.clip_metric) == ("frechet_judge_frames", "fvd_torchvision_s3d")
    np.testing.assert_array_equal(pair.frames(recorded[0, :, 0]), judge.frames(recorded[0, :, 0]))
    with pytest.raises(VlawError, match="not single frames"):
        net.frames(recorded[0, :, 0])
    with pytest.raises(VlawError, match="no perceptual distance"):
        compare_clips(recorded, recorded, net, cameras=CAMERAS)
    with pytest.raises(VlawError, match="do not fit"):
        VideoNet("s3d", foundation("tiny", "reward_model") / "model.safetensors")


def test_inception_by_path(recorded, tmp_path):
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # Its own transform takes ImageNet's normalisation back.
        network = models.inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    path = tmp_path / "inception.safetensors"
    save_file(network.state_dict(), str(path))
    net = InceptionFrames(path)
    picture = recorded[0, :1, 0]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    large = torch.nn.functional.interpolate(
        torch.from_numpy(picture).movedim(-1, 1) / 255, (299, 299), mode="bilinear", antialias=True
    )
    features = net.frames(picture)
    with torch.inference_mode():
        wanted = network((large - mean[:, None, None]) / std[:, None, None])
        np.testing.assert_allclose(network.fc(torch.from_numpy(features)), wanted, atol=1e-5)
    assert features.shape == (1, 2048)
    assert features.std() > 0
    assert (net.frame_metric, net.digest) == (
        "fid_torchvision_inception_v3",
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def test_lpips_is_torchmetrics(recorded, tmp_path):
    from torchmetrics.functional.image.lpips import _LPIPS
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [
            torch.nn.Conv2d(3, 64, 11, 4, 2),
            torch.nn.Conv2d(64, 192, 5, padding=2),
            torch.nn.Conv2d(192, 384, 3, padding=1),
            torch.nn.Conv2d(384, 256, 3, padding=1),
            torch.nn.Conv2d(256, 256, 3, padding=1),
        ]
        learned = [torch.rand(1, layer.out_channels, 1, 1) for layer in layers]
    with torch.device("meta"):
        assert str(models.alexnet().features[0]) == str(layers[0])
    weights, linear = tmp_path / "alexnet.safetensors", tmp_path / "linear.safetensors"
    save_file(
        {
            f"features.{number}.{name}": tensor
            for number, layer in zip((0, 3, 6, 8, 10), layers, strict=True)
            for name, tensor in layer.state_dict().items()
        },
        str(weights),
    )
    save_file({f"lin{number}.model.1.weight": weight for number, weight in enumerate(learned)}, str(linear))
    a, b = recorded[0, :4, 0], noisy(recorded, 30)[0, :4, 0]
    lpips = Lpips("alexnet", weights, linear)
    peer = _LPIPS(pretrained=False, net="alex", pnet_rand=True)
    for number, layer in zip((0, 3, 6, 8, 10), layers, strict=True):
        next(part for name, part in peer.net.named_modules() if name.endswith(f".{number}")).load_state_dict(
            layer.state_dict()
        )
    for part, weight in zip(peer.lins, learned, strict=True):
        part.model[-1].weight.data.copy_(weight)
    with torch.no_grad():
        wanted = peer(*(torch.from_numpy(side).movedim(-1, 1) / 127.5 - 1 for side in (a, b))).flatten().numpy()
    found = lpips.perceptual(a, b)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    assert (found > 1e-3).all()
    assert not lpips.perceptual(a, a).any()
    assert lpips.perceptual_metric == "lpips_alexnet"
    with pytest.raises(VlawError, match=r"lin0\.model\.1\.weight"):
        Lpips("alexnet", weights, weights)
    with pytest.raises(VlawError, match="at least 32x32"):
        lpips.perceptual(a[:, :16], b[:, :16])
