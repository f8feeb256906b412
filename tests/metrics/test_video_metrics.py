"""Fréchet distances against closed forms, feature networks by path, clips compared with their replays."""

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
from vlaw_models.metrics.frechet import frechet_distance, frechet_extrapolated
from vlaw_models.metrics.perceptual import Lpips
from vlaw_models.metrics.torchvision_nets import InceptionFrames, VideoNet
from vlaw_models.presets import foundation

CAMERAS = ("exterior_1", "wrist")
JUDGE = ("psnr", "ssim", "perceptual_judge", "frechet_judge_frames", "frechet_judge_clips")


def whitened(rng: np.random.Generator, rows: int, dimensions: int) -> np.ndarray:
    """Rows whose sample mean is 0 and sample covariance is the identity, exactly."""
    centred = rng.normal(size=(rows, dimensions))
    centred -= centred.mean(axis=0)
    return np.linalg.qr(centred)[0] * np.sqrt(rows - 1)


def test_frechet_distance_of_gaussians_in_closed_form():
    rng = np.random.default_rng(0)
    a, b = whitened(rng, 50, 4), whitened(rng, 70, 4)
    sigma, tau, shift = np.array([1.0, 2.0, 0.5, 3.0]), np.array([2.0, 2.0, 1.0, 0.0]), np.array([1.0, -2.0, 0.0, 0.5])
    assert frechet_distance(a, b + shift) == pytest.approx((shift**2).sum(), abs=1e-10)
    wanted = (shift**2).sum() + ((sigma - tau) ** 2).sum()
    assert frechet_distance(a * sigma, b * tau + shift) == pytest.approx(wanted, abs=1e-10)
    # Covariances that do not commute: the matrix root's eigenvalues, by another road.
    mix, other = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    first, second = mix.T @ mix, other.T @ other
    root = np.sqrt(np.linalg.eigvals(first @ second).real).sum()
    assert frechet_distance(a @ mix, b @ other) == pytest.approx(np.trace(first + second) - 2 * root, abs=1e-9)


def test_frechet_distance_of_equal_sets_and_fewer_rows_than_dimensions():
    rng = np.random.default_rng(1)
    few, many = rng.normal(size=(9, 40)), rng.normal(size=(200, 40))
    for rows in (few, many, 1e4 + few):
        assert frechet_distance(rows, rows[::-1].copy()) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(few, many) == pytest.approx(frechet_distance(many, few))
    assert frechet_distance(few, few + 2) == pytest.approx(160)
    turn = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    assert frechet_distance(few @ turn + 5, many @ turn + 5) == pytest.approx(frechet_distance(few, many))
    assert frechet_distance(3 * few, 3 * many) == pytest.approx(9 * frechet_distance(few, many))


def test_extrapolation_takes_the_bias_away():
    plain, extrapolated = [], []
    for seed in range(6):
        a, b = np.random.default_rng(seed).normal(size=(2, 120, 12))
        plain.append(frechet_distance(a, b))
        extrapolated.append(frechet_extrapolated(a, b, seed=seed, paired=False))
    assert np.mean(plain) > 0.3
    assert abs(np.mean(extrapolated)) < 0.25 * np.mean(plain)
    assert frechet_extrapolated(a, b, seed=1, paired=True) == frechet_extrapolated(a, b, seed=1, paired=True)
    assert frechet_extrapolated(a, a, seed=1, paired=True) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones((1, 3)), np.ones((5, 3)), "1 rows"),
        (np.ones((4, 3)), np.ones((4, 2)), "3 and 2 dimensions"),
        (np.ones((4, 3)), np.full((4, 3), np.nan), "NaN"),
        (np.ones(4), np.ones(4), "shape"),
    ],
)
def test_features_that_have_no_distance(a, b, words):
    with pytest.raises(VlawError, match=words):
        frechet_distance(a, b)


def test_extrapolation_needs_rows():
    rows = np.random.default_rng(0).normal(size=(20, 12))
    with pytest.raises(VlawError, match="at least 26 rows"):
        frechet_extrapolated(rows, rows, seed=0, paired=True)
    with pytest.raises(VlawError, match="not pairs"):
        frechet_extrapolated(rows[:, :3], rows[:15, :3], seed=0, paired=True)


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


def test_frechet_distance_is_torchmetrics():
    """The platform's own takes any features and says how many samples it had; the number must be the known one."""
    import torch
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(400, 12)), rng.normal(0.3, 1.4, size=(500, 12)) @ rng.normal(size=(12, 12))
    moments = [torch.from_numpy(m) for x in (first, second) for m in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance(first, second) == pytest.approx(float(_compute_fid(*moments)), rel=1e-6)
