"""LeRobot datasets: what comes out of one, that it lands in the lake, and every way in which one can be broken.

Most cases run on a small dataset (recorded_dataset.py); the real DROID sample is used where it is present.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from reading_here import read_here
from recorded_dataset import (
    ARM,
    CAMERAS,
    DATA,
    EPISODE_TABLE,
    VIDEO,
    brightness,
    every_episode,
    write_video,
)
from recorded_layouts import edit_feature, edit_info, edit_rows
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.importers import commit
from vlaw_assets.importers.cameras import choose_cameras
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.lerobot import open_recordings
from vlaw_assets.importers.registry import import_recordings
from vlaw_assets.lake import Lake
from vlaw_assets.pipeline.checks import all_finite, episodes_fit_schema
from vlaw_assets.query import connect
from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import find_robot

DROID = Path(__file__).parents[3] / "shared" / "data" / "lerobot_v3_droid"


def read_lerobot(path, **options):
    return every_episode(open_recordings(path, Options(**{"image_size": (16, 16), **options})))


def import_lerobot(lake, path, *, name="cups", run_id="run", **options):
    return import_recordings(
        lake, "lerobot", path, Options(**{"image_size": (16, 16), **options}), name=name, run_id=run_id
    )


def test_every_third_frame_of_every_camera_with_the_last_target_of_each_step(dataset):
    episodes = read_lerobot(dataset)
    assert [episode.images.shape for episode in episodes] == [(4, 3, 16, 16, 3), (3, 3, 16, 16, 3), (3, 3, 16, 16, 3)]
    second = episodes[1]  # rows 10 to 18: frames 10, 13, 16; targets of rows 12 and 15
    np.testing.assert_array_equal(second.states, [[10, -10], [13, -13], [16, -16]])
    np.testing.assert_array_equal(second.actions, [[120, 0, 0], [150, 0, 0]])
    expected = np.array([[brightness(camera, row) for camera in range(3)] for row in (10, 13, 16)])
    seen = second.images.astype(float).mean(axis=(2, 3, 4))
    np.testing.assert_allclose(seen, expected, atol=2.5)  # neighbouring frames differ by 6
    assert [episode.success for episode in episodes] == [True, False, None]
    assert [episode.instruction for episode in episodes] == ["lift the cup"] * 3, (
        "an empty text falls back to the index"
    )
    assert read_lerobot(dataset, task="lift")[0].task == "lift"


def test_import_commits_once_recognises_itself_and_versions_changes(dataset, tmp_path):
    lake = Lake.open(tmp_path / "lake")
    first = import_lerobot(lake, dataset, name="cups", run_id="run1")
    assert first.metrics["made_with"]["av"], "which decoder"
    assert (first.asset, first.kind, first.metrics["successes"], first.metrics["unlabelled"]) == (
        "recorded_episodes",
        "recorded_episodes",
        1,
        1,
    )
    again = import_lerobot(lake, dataset, name="cups", run_id="run2")
    assert again.artifact_id == first.artifact_id
    stored, read = lake.read(first).episodes(), read_lerobot(dataset)
    for a, b in zip(stored, read, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.actions, b.actions)
        assert (a.success, a.extra, a.instruction) == (b.success, b.extra, b.instruction)
    edit_rows(dataset, DATA, lambda rows: rows[0].update(action=[0.5, 0.0, 0.0]))
    changed = import_lerobot(lake, dataset, name="cups", run_id="run3")
    assert changed.identity_digest != first.identity_digest
    assert lake.ledger.current("recorded_episodes", first.partition).artifact_id == changed.artifact_id
    assert lake.read(first).episodes()[0].actions.shape == (3, 3), "the older version stays readable"


def test_an_explicit_mapping_decides_and_may_use_a_camera_twice(dataset):
    mapping = {"exterior_1": CAMERAS[1], "exterior_2": CAMERAS[1], "wrist": CAMERAS[0]}
    levels = read_lerobot(dataset, cameras=mapping)[0].images[0].astype(float).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(levels, [brightness(1, 0), brightness(1, 0), brightness(0, 0)], atol=2.5)


def test_cameras_are_found_by_name():
    droid = [f"observation.images.{name}" for name in ("exterior_2_left", "wrist_left", "exterior_1_left")]
    assert choose_cameras(droid, ARM, {}, where="x")["exterior_2"] == "observation.images.exterior_2_left"
    other = [f"observation.images.{name}" for name in ("top", "cam_hand", "left", "left_depth")]
    assert list(choose_cameras(other, ARM, {}, where="x").values()) == [
        "observation.images.left",
        "observation.images.top",
        "observation.images.cam_hand",
    ]


def rows_edit(name: str, row: int, **values: object):
    return lambda root: edit_rows(root, name, lambda rows: rows[row].update(values))


def state_of(row: int, value: float):
    return rows_edit(DATA, row, **{"observation.state": [value, 0.0]})


def move_video_outside(root: Path) -> None:
    path, outside = root / VIDEO.format(CAMERAS[0]), root.parent / "elsewhere.mp4"
    path.rename(outside)
    path.symlink_to(outside)


def all_versions_of(text: str, key: str):
    return lambda root: edit_info(root, **{key: text})


BROKEN = {
    "no dataset": (lambda root: (root / "meta/info.json").unlink(), "not a LeRobot dataset"),
    "not json": (lambda root: (root / "meta/info.json").write_text("{"), "not readable JSON"),
    "no version": (lambda root: edit_info(root, codebase_version=None), "not a LeRobot dataset"),
    "old version": (lambda root: edit_info(root, codebase_version="v1.6"), "version v1.6"),
    "newer version": (lambda root: edit_info(root, codebase_version="v30.1"), "version v30.1"),
    "no fps": (lambda root: edit_info(root, fps=0), "fps is 0"),
    "odd fps": (lambda root: edit_info(root, fps=12), "12 Hz"),
    "absolute template": (all_versions_of("/etc/{file_index}.parquet", "data_path"), "data_path is"),
    "parent template": (all_versions_of("../{video_key}/{file_index}.mp4", "video_path"), "video_path is"),
    "attribute template": (all_versions_of("data/{chunk_index.__class__}/{file_index}", "data_path"), "data_path is"),
    "item template": (all_versions_of("data/{video_key[0]}/{file_index}", "video_path"), "video_path is"),
    "conversion template": (all_versions_of("data/{chunk_index!r}", "data_path"), "data_path is"),
    "wide template": (all_versions_of("data/{chunk_index:99999999d}", "data_path"), "data_path is"),
    "nested template": (all_versions_of("data/{chunk_index:{file_index}d}", "data_path"), "data_path is"),
    "unknown field": (all_versions_of("data/{episode}", "data_path"), "data_path is"),
    "no template": (all_versions_of(None, "video_path"), "video_path is"),
    "link outside": (move_video_outside, "outside the dataset"),
    "video file missing": (lambda root: (root / VIDEO.format(CAMERAS[1])).unlink(), "side is missing"),
    "video file empty": (lambda root: (root / VIDEO.format(CAMERAS[1])).write_bytes(b""), "side is empty"),
    "video cut": (lambda root: os.truncate(root / VIDEO.format(CAMERAS[1]), 900), "video"),
    "video too short": (lambda root: write_video(root / VIDEO.format(CAMERAS[2]), [9] * 25), "no frame for row 6"),
    "video of another size": (lambda root: write_video(root / VIDEO.format(CAMERAS[2]), [9] * 26, (32, 32)), "32x32"),
    "data file missing": (lambda root: (root / DATA).unlink(), "data file is missing"),
    "data file cut": (lambda root: os.truncate(root / DATA, 300), "cannot be read"),
    "nan action": (
        rows_edit(DATA, 12, action=[0.0, float("nan"), 0.0]),
        "episode 1: action is NaN or infinite at frame 2",
    ),
    "infinite state": (state_of(3, float("inf")), "episode 0: observation.state is NaN or infinite at frame 3"),
    "short action": (rows_edit(DATA, 12, action=[0.0]), "action has 1 numbers at frame 2, 3 are declared"),
    "missing action": (rows_edit(DATA, 12, action=None), "episode 1: action is missing at frame 2"),
    "row lost": (
        lambda root: edit_rows(root, DATA, lambda rows: rows.pop(4)),
        "episode 0 has 9 rows, its length is 10",
    ),
    "row of another episode": (rows_edit(DATA, 9, episode_index=1), "episode 0 has 9 rows"),
    "rows out of order": (rows_edit(DATA, 5, frame_index=6), "not numbered in order"),
    "unknown task": (rows_edit(DATA, 0, task_index=7), "task 7"),
    "odd label": (
        lambda root: edit_rows(root, DATA, lambda rows: [r.update({"next.success": 3}) for r in rows]),
        "episode 0: its success label is 3",
    ),
    "no action feature": (
        lambda root: edit_feature(root, "action", None),
        "no feature 'action'",
    ),
    "no episodes": (lambda root: (root / EPISODE_TABLE).unlink(), "zero episodes"),
    "episodes lost": (lambda root: edit_rows(root, EPISODE_TABLE, lambda rows: rows.pop()), "counts 3 episodes"),
    "frames miscounted": (lambda root: edit_info(root, total_frames=27), "counts 27 frames"),
    "gap": (rows_edit(EPISODE_TABLE, 1, dataset_from_index=11), "without gap or overlap"),
    "overlap": (rows_edit(EPISODE_TABLE, 1, dataset_to_index=18), "without gap or overlap"),
    "length disagrees": (rows_edit(EPISODE_TABLE, 2, length=6), "with length 6"),
    "negative file": (rows_edit(EPISODE_TABLE, 2, **{"data/file_index": -1}), "in the index is not one"),
    "time not a number": (
        rows_edit(EPISODE_TABLE, 0, **{f"videos/{CAMERAS[0]}/to_timestamp": float("nan")}),
        "in the index is not one",
    ),
    "video time shifted": (rows_edit(EPISODE_TABLE, 0, **{f"videos/{CAMERAS[0]}/to_timestamp": 0.9}), "0 s to 0.9 s"),
    "episode without video": (
        lambda root: edit_rows(
            root, EPISODE_TABLE, lambda rows: [row.pop(f"videos/{CAMERAS[0]}/file_index") for row in rows]
        ),
        "no column",
    ),
}


IN_A_PROCESS = ("video too short", "nan action")
"""Of those that are found while episodes are read, which a process of its own does: the ones that go all the way."""


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_dataset_is_refused_and_nothing_is_written(dataset, tmp_path, case):
    spoil, words = BROKEN[case]
    spoil(dataset)
    try:
        recordings = open_recordings(dataset, Options(image_size=(16, 16)))
    except VlawError:
        recordings = None
    if recordings is not None:
        found = [read.excluded.value for read in recordings.read(range(len(recordings.index))) if read.excluded]
        assert found
        assert re.search(words, found[0])
        if case not in IN_A_PROCESS:
            return
    lake = Lake.open(tmp_path / "lake")
    before = sorted(path for path in lake.paths.root.rglob("*") if path.is_file())
    with pytest.raises(VlawError, match=words) as caught:
        import_lerobot(lake, dataset, name="cups", run_id="run")
    assert caught.value.remedy
    assert caught.value.where
    assert sorted(path for path in lake.paths.root.rglob("*") if path.is_file()) == before


def test_refusals_that_depend_on_the_call(dataset, tmp_path):
    lake = Lake.open(tmp_path / "lake")
    for words, options in (
        ("no success label", {"require_success": True}),
        ("image size", {"image_size": (4, 16)}),
        ("cannot name", {"name": "../up"}),
        ("not a LeRobot dataset", {"path": tmp_path / "nothing"}),
    ):
        with pytest.raises(VlawError, match=words):
            import_lerobot(lake, options.pop("path", dataset), **{"name": "cups", "run_id": "run", **options})
    for words, cameras in (
        ("no video of camera 'x'", dict.fromkeys(("exterior_1", "exterior_2", "wrist"), "x")),
        ("has more cameras than wrist", {"wrist": CAMERAS[0]}),
    ):
        with pytest.raises(VlawError, match=words):
            read_lerobot(dataset, cameras=cameras)
    features = json.loads((dataset / "meta/info.json").read_text())["features"]
    features.pop(CAMERAS[2])
    edit_info(dataset, features=features)
    with pytest.raises(VlawError, match="has 2 exterior cameras and 1 at the wrist") as caught:
        read_lerobot(dataset)
    assert "--camera NAME=FEATURE for each of exterior_1, exterior_2, wrist" in caught.value.remedy


def test_the_command_takes_cameras_one_by_one_and_names_the_robots_where_one_is_unknown(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    monkeypatch.setattr(commit, "read_apart", read_here)

    def said(*cameras: str) -> tuple[int, str]:
        options = [part for camera in cameras for part in ("--camera", camera)]
        done = CliRunner().invoke(app, ["import", "lerobot", str(dataset), "--image-size", "16", *options])
        return done.exit_code, done.output

    twice = [f"exterior_1={CAMERAS[0]}", f"exterior_2={CAMERAS[0]}"]
    for given, words in (
        ([*twice, f"tip={CAMERAS[2]}"], ("robot 'arm' has no camera 'tip'", "each of exterior_1, exterior_2, wrist")),
        ([*twice, "wrist=tip"], ("no video of camera 'tip'", f"Choose from its cameras: {', '.join(CAMERAS)}")),
        (twice, ("has more cameras than exterior_1, exterior_2",)),
        ([twice[0], twice[0]], ("names a camera twice", "--camera wrist=")),
        (["wrist"], ("'wrist' is no camera and feature",)),
    ):
        code, output = said(*given)
        assert code == 2
        assert all(word in output for word in words), output
    code, output = said(*twice, f"wrist={CAMERAS[2]}")
    assert code == 0, output
    lake = Lake.open(tmp_path / "lake")
    (images,) = {episode.images[0, :2].tobytes() for episode in lake.read(lake.ledger.artifacts()[0]).episodes()[:1]}
    assert images[: len(images) // 2] == images[len(images) // 2 :], "one video for two cameras"


@pytest.mark.parametrize("names", [None, {"height": 0, "width": 1}, "height,width,channels", ["width", "height", "c"]])
def test_frames_of_another_shape_than_the_robots_are_refused_and_smaller_ones_are_not(dataset, names):
    features = json.loads((dataset / "meta/info.json").read_text())["features"]
    portrait = names is not None and "width" in list(names)[:1]
    cameras = dict(zip(find_robot("droid").camera_names, CAMERAS, strict=True))
    given = {what: tuple("0101010") for what in ("state", "action")}
    options = Options(robot="droid", cameras=cameras, components=given)
    shape = [40, 24, 3] if portrait else [24, 40, 3]
    edit_info(dataset, features=features | {key: {**features[key], "names": names, "shape": shape} for key in CAMERAS})
    assert open_recordings(dataset, options).robot.frame_size == (192, 320)
    edit_info(dataset, features=features | {CAMERAS[1]: {**features[CAMERAS[1]], "names": names, "shape": [40, 40, 3]}})
    with pytest.raises(VlawError, match="40x40 pixels, those of robot 'droid' are 192x320") as caught:
        open_recordings(dataset, options)
    assert CAMERAS[1] in caught.value.where


@pytest.mark.skipif(not DROID.is_dir(), reason="the DROID sample is not on this machine")
@pytest.mark.slow
def test_droid_reaches_lake_query_and_world_model(tmp_path):
    from vlaw_models.autoencoders.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
    from vlaw_models.config import WorldModelConfig
    from vlaw_models.learners.world_model import finetune_world_model
    from vlaw_models.world_models.chunk_unet import ChunkUNet, ChunkUNetConfig

    lake = Lake.open(tmp_path / "lake")
    ref = import_lerobot(lake, DROID, name="droid", run_id="run", image_size=(48, 80))
    episodes = lake.read(ref).episodes()
    assert [episode.num_steps for episode in episodes] == [59, 59, 59, 32, 59]
    assert [episode.success for episode in episodes] == [True, True, False, False, False]
    assert episodes[0].images.shape == (60, 3, 48, 80, 3)
    assert episodes[0].images.std() > 20, "pictures, not blanks"
    assert episodes[0].actions.shape[1] == 7
    assert all_finite(episodes).passed
    assert episodes_fit_schema(episodes, tasks=sorted({e.task for e in episodes}), labelled=True).passed
    count = (
        connect(lake)
        .execute(
            "select count(*), sum(success::int), sum(num_steps) from episodes where world = 'droid' and label_source "
            "= 'recorded'"
        )
        .fetchall()
    )
    assert count == [(5, 2, 268)]

    TinyAutoencoder(TinyAutoencoderConfig(channels=16)).save(tmp_path / "autoencoder")
    ChunkUNet(
        ChunkUNetConfig(**ChunkUNet.of_robot(find_robot("droid")), channels=(32, 64), latent_height=6, latent_width=10)
    ).save(tmp_path / "start")
    result = finetune_world_model(
        tmp_path / "start",
        tmp_path / "autoencoder",
        episodes[:2],
        [],
        WorldModelConfig(steps=2, batch_size=2),
        tmp_path / "tuned",
        seed=0,
    )
    assert np.isfinite(result["losses"]).all()
    assert (tmp_path / "tuned/model.safetensors").read_bytes() != (tmp_path / "start/model.safetensors").read_bytes()
