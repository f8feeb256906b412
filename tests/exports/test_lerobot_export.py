"""`vlaw export lerobot`: what LeRobot reads is what the lake has, and imagined data say so in every row."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import av
import needed
import numpy as np
import pyarrow.parquet as pq
import pytest
from asking import at, vlaw
from exported_lake import PARTITION, RECIPE, SIZE, arm_episode, exported_lake, frames
from factories import commit
from reading_here import read_here
from recorded_dataset import ARM

from vlaw_assets.exports.lerobot import Sizes, write_dataset
from vlaw_assets.exports.lerobot.episodes import plan
from vlaw_assets.exports.lerobot.lance_storage import byte_index
from vlaw_assets.exports.lerobot.layout import CODECS, FILES, LANCE, STORAGES, Place
from vlaw_assets.exports.lerobot.stats import MOST, Whole, levels_of, of_levels
from vlaw_assets.importers import commit as committing
from vlaw_assets.importers.base import Options
from vlaw_assets.importers.registry import import_recordings
from vlaw_assets.lake import Lake, labels, quarantine
from vlaw_assets.lake.picking import newest_holders, pick
from vlaw_models.errors import VlawError

READ = Path(__file__).with_name("lerobot_0_6_1.json")
"""What LeRobot 0.6.1 gave of the training set of this lake (lerobot_listing.py)."""
LISTING, PYTHON = Path(__file__).with_name("lerobot_listing.py"), "VLAW_LEROBOT_PYTHON"
SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "lerobot_v3_droid"
"""A dataset that LeRobot 0.6.1 wrote."""
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
LEAST_PSNR = {"av1": 27.0, "h264": 29.0}
"""dB that every frame of this lake keeps; colours have half the resolution in both codecs."""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Lake, dict[str, str]]:
    return exported_lake(tmp_path_factory.mktemp("exported") / "lake")


@pytest.fixture
def here(made, monkeypatch, tmp_path):
    at(monkeypatch, tmp_path, {"VLAW_LAKE": str(made[0].paths.root)})
    return made


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "data").to_pylist()


def episodes_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Episode id -> its rows, in the order of the export."""
    found = defaultdict(list)
    for row in rows_of(folder):
        found[row["episode_id"]].append(row)
    return found


def index_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "meta/episodes").to_pylist()


def info_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "meta/info.json").read_text())


def decoded(folder: Path, camera: str) -> list[tuple[float, bool, np.ndarray]]:
    """(time, whether it stands alone, picture) of every frame, file after file."""
    found = []
    for path in sorted((folder / "videos" / f"observation.images.{camera}").rglob("*.mp4")):
        with av.open(str(path)) as video:
            found += [
                (frame.time, frame.key_frame, frame.to_ndarray(format="rgb24")) for frame in video.decode(video=0)
            ]
    return found


def read_as(feature: dict[str, Any]) -> list[Any]:
    """The type and the shape that LeRobot's loader gives a feature of info.json."""
    if feature["dtype"] == "string":
        return ["str"]
    if feature["dtype"] == "video":
        height, width, colours = feature["shape"]
        return ["torch.float32", [colours, height, width]]
    return [f"torch.{feature['dtype']}", [] if feature["shape"] == [1] else feature["shape"]]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, ((one.astype(float) - other) ** 2).mean())))


def test_what_lerobot_itself_read_of_it_is_what_is_exported_now(here, tmp_path):
    vlaw("export", "lerobot", "training_set", "vlaw", "1", "given", code=0)
    read, rows, info = json.loads(READ.read_text()), rows_of(tmp_path / "given"), info_of(tmp_path / "given")
    assert (len(rows), info["total_episodes"], info["fps"]) == (read["items"], read["episodes"], read["fps"])
    assert [row["length"] for row in index_of(tmp_path / "given")] == read["lengths"]
    assert info["robot_type"] == read["robot_type"] == "arm+imagined"
    assert {name: read_as(of) for name, of in info["features"].items()} | {"task": ["str"]} == read["keys"]
    for name, digest in read["digests"].items():
        kind = np.bool_ if info["features"][name]["dtype"] == "bool" else np.float32
        own = hashlib.sha256(b"".join(np.asarray(row[name], kind).tobytes() for row in rows)).hexdigest()
        assert own == digest, name
    for name in ("origin", "outcome", "episode_id"):
        assert list(dict.fromkeys(row[name] for row in rows)) == list(dict.fromkeys(read["texts"][name]))
    light = np.array(
        [[picture.mean() / 255 for _, _, picture in decoded(tmp_path / "given", name)] for name in ARM.camera_names]
    )
    np.testing.assert_allclose(light.T, read["light"], atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("storage", [FILES, LANCE])
def test_lerobot_itself_reads_it(here, tmp_path, storage):
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"{PYTHON} names no Python that has LeRobot")
    vlaw("export", "lerobot", "training_set", "vlaw", "1", "given", "--storage", storage, code=0)
    words = [python, str(LISTING), str(tmp_path / "given"), *(["--lance"] if storage == LANCE else [])]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found, kept = json.loads(done.stdout), json.loads(READ.read_text())
    assert {name: found[name] for name in kept if name != "read_with"} == {
        name: kept[name] for name in kept if name != "read_with"
    }


def test_rows_are_the_episodes_with_the_last_action_held(here, tmp_path):
    lake, ids = here
    vlaw("export", "lerobot", "real_rollouts", "vlaw", "1", "given", code=0)
    found = episodes_of(tmp_path / "given")
    assert list(found) == [ids["real0"], ids["real1"], ids["real2"]]
    stored = {e.episode_id: e for e in lake.read(lake.ledger.require("real_rollouts", PARTITION)).episodes()}
    total = 0
    for number, (name, rows) in enumerate(found.items()):
        episode = stored[name]
        np.testing.assert_array_equal([row["observation.state"] for row in rows], episode.states)
        np.testing.assert_array_equal([row["action"] for row in rows], [*episode.actions, episode.actions[-1]])
        count = episode.num_steps + 1
        assert [row["next.success"] for row in rows] == [False] * (count - 1) + [episode.success]
        assert [row["next.reward"] for row in rows] == [0.0] * (count - 1) + [float(episode.success)]
        assert [row["next.done"] for row in rows] == [False] * (count - 1) + [True]
        assert [row["frame_index"] for row in rows] == list(range(count))
        assert [row["index"] for row in rows] == list(range(total, total + count))
        assert {row["episode_index"] for row in rows} == {number}
        np.testing.assert_allclose([row["timestamp"] for row in rows], np.arange(count) / 5, rtol=1e-6)
        assert {(row["origin"], row["task_category"], row["start_episode_id"]) for row in rows} == {
            ("real", "cups", "")
        }
        total += count
    assert info_of(tmp_path / "given")["robot_type"] == "arm"
    assert info_of(tmp_path / "given")["features"]["next.success"]["dtype"] == "bool"
    assert "weight" not in rows_of(tmp_path / "given")[0]
    tasks = pq.read_table(tmp_path / "given/meta/tasks.parquet").to_pydict()
    assert tasks["task"] == ["lift the cup, 0", "lift the cup, 1"]


def test_imagined_episodes_never_pass_for_real_nor_unknown_outcomes_for_failures(here, tmp_path):
    _, ids = here
    result = vlaw("export", "lerobot", "training_set", "vlaw", "1", "given", code=0)
    assert "3 episodes (2 real, 1 imagined)" in result.output
    found = episodes_of(tmp_path / "given")
    told = {
        name: {(r["origin"], r["outcome"], r["weight"], r["positive"]) for r in rows} for name, rows in found.items()
    }
    assert told == {
        ids["real0"]: {("real", "success", 1.0, True)},
        ids["real2"]: {("real", "success", 0.5, False)},
        ids["imagined0"]: {("imagined", "unknown", 2.0, True)},
    }
    dreamt = found[ids["imagined0"]]
    assert np.isnan([(row["next.success"], row["next.reward"]) for row in dreamt]).all()
    assert {round(row["score"], 4) for row in dreamt} == {0.95}
    assert {row["start_episode_id"] for row in dreamt} == {ids["real0"]}
    assert found[ids["real0"]][-1]["next.success"] == 1.0
    card = (tmp_path / "given/README.md").read_text()
    assert "**1 of 3 episodes are imagined**" in card
    assert '"synthetic"' in card
    stats = json.loads((tmp_path / "given/meta/stats.json").read_text(), parse_constant=pytest.fail)
    assert stats["next.success"]["count"] == [13], "NaN is in no statistic"
    measured = {
        name.split("/")[1] for name in pq.read_schema(tmp_path / "given" / EPISODES).names if name[:6] == "stats/"
    }
    assert {"weight", "next.done", "action"} <= measured
    assert not {"score", "next.success", "next.reward"} & measured, "LeRobot's tools take none without numbers"


def test_labels_in_force_are_exported_and_what_is_in_quarantine_is_not(tmp_path, monkeypatch):
    lake, ids = exported_lake(tmp_path / "lake")
    at(monkeypatch, tmp_path, {"VLAW_LAKE": str(tmp_path / "lake")})
    labels.label_episodes(
        lake, [(ids["real1"], "success", "ann", "it stands"), (ids["imagined1"], "failure", "ann", "no")]
    )
    quarantine.add(lake, [ids["real0"]], why="a hand in the picture", by="ann")
    sql = "select episode_id from episodes order by episode_id desc"
    result = vlaw("export", "lerobot", sql, "given", code=0)
    assert "2 episodes are left out: they are in quarantine." in result.output, "it, and what was imagined from it"
    found = episodes_of(tmp_path / "given")
    assert list(found) == [ids["real2"], ids["real1"], ids["imagined1"]], "in the order of the statement"
    assert [rows[-1]["outcome"] for rows in found.values()] == ["success", "success", "failure"]
    assert [rows[-1]["next.success"] for rows in found.values()] == [True, True, False]


@pytest.mark.parametrize("codec", list(CODECS))
def test_frames_keep_their_place_and_their_pixels_within_the_codecs_error(here, tmp_path, codec):
    lake, ids = here
    vlaw("export", "lerobot", ids["imagined1"], ids["real0"], "given", "--codec", codec, code=0)
    keys = [(newest_holders(lake, [name])[name][0], name) for name in (ids["imagined1"], ids["real0"])]
    images = np.concatenate([item.episode.images for item in pick(lake, keys).values()])
    index, fps = index_of(tmp_path / "given"), 5
    for view, name in enumerate(ARM.camera_names):
        found, key = decoded(tmp_path / "given", name), f"videos/observation.images.{name}"
        assert [time for time, _, _ in found] == pytest.approx(np.arange(len(images)) / fps, abs=1e-4)
        assert [alone for _, alone, _ in found][::2] == [True] * len(found[::2]), "training reads single frames"
        assert (
            min(psnr(got, kept) for (_, _, got), kept in zip(found, images[:, view], strict=True)) > LEAST_PSNR[codec]
        )
        assert [row[f"{key}/from_timestamp"] for row in index] == pytest.approx([0, 1])
        assert [row[f"{key}/to_timestamp"] for row in index] == pytest.approx([1, 2.4])
    video = info_of(tmp_path / "given")["features"]["observation.images.wrist"]
    assert (video["dtype"], video["shape"], video["info"]["video.codec"]) == ("video", [*SIZE, 3], codec)


def test_metadata_have_the_form_of_a_dataset_that_lerobot_wrote(here, tmp_path):
    if not SAMPLE.is_dir():
        pytest.skip("no sample of DROID")
    vlaw("export", "lerobot", "real_rollouts", "vlaw", "1", "given", code=0)
    own, theirs = info_of(tmp_path / "given"), info_of(SAMPLE)
    assert own.keys() == theirs.keys()
    same = (
        "codebase_version",
        "chunks_size",
        "data_files_size_in_mb",
        "video_files_size_in_mb",
        "data_path",
        "video_path",
    )
    assert {name: own[name] for name in same} == {name: theirs[name] for name in same}
    for name, feature in theirs["features"].items():
        found = own["features"][name]
        assert (found["dtype"], found["names"] and len(found["names"])) == (
            feature["dtype"],
            len(found["names"] or []) or None,
        )
        assert (
            feature.get("info", {}).keys() - {"video.fast_decode", "video.extra_options"}
            == found.get("info", {}).keys()
        )
    for name in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet"):
        ours, wanted = (pq.read_schema(root / name) for root in (tmp_path / "given", SAMPLE))
        for field in wanted:
            if not field.name.startswith("fixed") and field.name not in ("observation.state", "action"):
                assert ours.field(field.name).type == field.type, field.name
        assert (ours.metadata or {}).keys() >= (wanted.metadata or {}).keys()
    ours, wanted = (json.loads((root / "meta/stats.json").read_text()) for root in (tmp_path / "given", SAMPLE))
    assert wanted.keys() <= ours.keys()
    for name, of in wanted.items():
        assert {key: np.shape(value)[1:] for key, value in ours[name].items()} == {
            key: np.shape(value)[1:] for key, value in of.items()
        }


@pytest.mark.parametrize(
    "storage", [name if name == FILES else pytest.param(name, marks=pytest.mark.slow) for name in STORAGES]
)
def test_an_export_that_is_imported_again_has_the_same_numbers_and_labels(here, tmp_path, monkeypatch, storage):
    monkeypatch.setattr(committing, "read_apart", read_here)
    lake, _ = here
    vlaw("export", "lerobot", "real_rollouts", "vlaw", "1", "given", "--codec", "h264", "--storage", storage, code=0)
    other = Lake.open(tmp_path / "other", create=True)
    back = import_recordings(other, "lerobot", tmp_path / "given", Options(image_size=SIZE), name="back", run_id="run")
    before = lake.read(lake.ledger.require("real_rollouts", PARTITION)).episodes()
    after = other.read(back).episodes()
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.states, old.states)
        np.testing.assert_array_equal(new.actions, old.actions)
        same = ("success", "instruction", "task", "cameras", "control_hz")
        assert [getattr(new, name) for name in same] == [getattr(old, name) for name in same]
        pairs = zip(new.images.reshape(-1, *SIZE, 3), old.images.reshape(-1, *SIZE, 3), strict=True)
        assert min(psnr(got, kept) for got, kept in pairs) > LEAST_PSNR["h264"]


def test_imagined_episodes_are_not_imported_as_recordings(here, tmp_path, monkeypatch):
    monkeypatch.setattr(committing, "read_apart", read_here)
    vlaw("export", "lerobot", "training_set", "vlaw", "1", "given", code=0)
    other = Lake.open(tmp_path / "other", create=True)
    options = {"image_size": SIZE, "robot": "arm"}
    with pytest.raises(VlawError, match="a world model made its frames"):
        import_recordings(other, "lerobot", tmp_path / "given", Options(**options), name="all", run_id="run")
    ref = import_recordings(
        other, "lerobot", tmp_path / "given", Options(**options, skip_bad=True), name="real", run_id="run"
    )
    assert [episode.success for episode in other.read(ref).episodes()] == [True, True], "the two real ones"


@pytest.mark.slow
def test_the_sample_of_droid_goes_out_with_the_statistics_that_lerobot_wrote(tmp_path, monkeypatch):
    if not SAMPLE.is_dir():
        pytest.skip("no sample of DROID")
    lake = Lake.open(tmp_path / "lake", create=True)
    at(monkeypatch, tmp_path, {"VLAW_LAKE": str(tmp_path / "lake")})
    import_recordings(lake, "lerobot", SAMPLE, Options(), name="droid", run_id="run")
    vlaw("export", "lerobot", "droid", "given", code=0)
    ours, wanted = (json.loads((root / "meta/stats.json").read_text()) for root in (tmp_path / "given", SAMPLE))
    for name in ("observation.state", "action", "next.success", "next.reward", "timestamp"):
        for key in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(ours[name][key], wanted[name][key], rtol=1e-4, atol=1e-5, err_msg=name)
    for name in ("exterior_1", "exterior_2", "wrist"):
        for key in ("mean", "std", "count"):  # the frames have been through a codec in between
            one, other = (stats[f"observation.images.{name}"][key] for stats in (ours, wanted))
            np.testing.assert_allclose(one, other, atol=0.02)
    rows, theirs = rows_of(tmp_path / "given"), pq.read_table(SAMPLE / "data").to_pylist()
    for name in ("observation.state", "action", "next.success", "next.reward", "frame_index", "episode_index", "index"):
        assert [row[name] for row in rows] == [row[name] for row in theirs], name


def test_files_are_rolled_by_size_and_the_index_says_where_each_episode_is(made, tmp_path):
    lake, _ = made
    keys = [(newest_holders(lake, [name])[name][0], name) for name in made[1].values()]
    export = plan(lake, keys, None, CODECS["h264"])
    write_dataset(lake, export, tmp_path / "given", title="small files", sizes=Sizes(data=1, video=1))
    index = index_of(tmp_path / "given")
    assert [row["data/file_index"] for row in index] == [0, 1, 2, 3, 4]
    for row in index:
        place = Place(row["data/chunk_index"], row["data/file_index"])
        own = pq.read_table(
            tmp_path / "given" / place.path("data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet")
        )
        assert own["index"].to_pylist() == list(range(row["dataset_from_index"], row["dataset_to_index"]))
        assert row["videos/observation.images.wrist/file_index"] == row["episode_index"]
        assert row["videos/observation.images.wrist/from_timestamp"] == 0
    assert len(list((tmp_path / "given/videos").rglob("*.mp4"))) == 15
    assert Place(0, 998).next() == Place(0, 999)
    assert Place(0, 999).next() == Place(1, 0)


@pytest.mark.slow
def test_the_lance_storage_holds_the_same_rows_and_the_same_bytes(here, tmp_path):
    import lancedb

    vlaw("export", "lerobot", "training_set", "vlaw", "1", "files", code=0)
    vlaw("export", "lerobot", "training_set", "vlaw", "1", "tables", "--storage", "lance", code=0)
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "README.md",
        "frames.lance",
        "meta",
        "meta.lance",
        "videos.lance",
    ]
    assert info_of(tmp_path / "tables") == info_of(tmp_path / "files") | {"storage_format": "lance"}
    database = lancedb.connect(str(tmp_path / "tables"))
    own = database.open_table("frames").to_arrow().to_pylist()
    wanted = [{name.replace(".", "_"): value for name, value in row.items()} for row in rows_of(tmp_path / "files")]
    assert repr(own) == repr(wanted), "NaN too"
    videos = database.open_table("videos")
    rows = videos.search().with_row_id(True).to_arrow().to_pylist()
    assert sorted(row["video_key"] for row in rows) == [
        f"observation.images.{name}" for name in sorted(ARM.camera_names)
    ]
    for row in rows:
        path = tmp_path / "files" / Place().path("videos/{video_key}/chunk-000/file-000.mp4", row["video_key"])
        data = path.read_bytes()
        assert videos.fetch_blob_files("video_bytes", [row["_rowid"]])[0].readall() == data
        assert {name: row[name] for name in byte_index(path)} == byte_index(path)
        assert data[row["moov_offset"] + 4 :][:4] == b"moov"
        assert row["kf_indices"] == list(range(0, len(own), 2))
        assert row["kf_positions"] == sorted(row["kf_positions"])
    meta = {row["path"]: row["data"] for row in database.open_table("meta").to_arrow().to_pylist()}
    assert meta["info.json"] == (tmp_path / "tables/meta/info.json").read_bytes()


def test_version_2_1_has_the_same_rows_in_a_file_for_every_episode(here, tmp_path):
    """LeRobot at 0cf8648 with datasets 3.6, as openpi pins them, read it with the digests that version 3 has."""
    vlaw("export", "lerobot", "training_set", "vlaw", "1", "new", code=0)
    vlaw("export", "lerobot", "training_set", "vlaw", "1", "old", "--storage", "v2.1", code=0)
    assert repr(rows_of(tmp_path / "old")) == repr(rows_of(tmp_path / "new")), "NaN too"
    info = info_of(tmp_path / "old")
    assert (info["codebase_version"], info["total_videos"], info["total_chunks"]) == ("v2.1", 9, 1)
    lines = {
        name: [json.loads(line) for line in (tmp_path / "old/meta" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("episodes", "episodes_stats", "tasks")
    }
    assert sorted(path.name for path in (tmp_path / "old/meta").iterdir()) == [
        "episodes.jsonl",
        "episodes_stats.jsonl",
        "info.json",
        "tasks.jsonl",
    ]
    assert [(row["episode_index"], row["length"]) for row in lines["episodes"]] == [(0, 7), (1, 6), (2, 5)]
    for row in lines["episodes"]:
        number = {"episode_chunk": 0, "episode_index": row["episode_index"]}
        rows = pq.read_table(tmp_path / "old" / info["data_path"].format(**number))
        assert set(rows["episode_index"].to_pylist()) == {row["episode_index"]}
        for name in ARM.camera_names:
            key = f"observation.images.{name}"
            with av.open(str(tmp_path / "old" / info["video_path"].format(video_key=key, **number))) as video:
                assert sum(1 for _ in video.decode(video=0)) == row["length"]
    of_states = [row["stats"]["observation.state"] for row in lines["episodes_stats"]]
    assert [of["count"] for of in of_states] == [[7], [6], [5]]
    assert of_states[0].keys() == {"min", "max", "mean", "std", "count"}
    features = json.loads(
        pq.read_schema(tmp_path / "old/data/chunk-000/episode_000000.parquet").metadata[b"huggingface"]
    )
    assert features["info"]["features"]["action"]["_type"] == "Sequence", "older releases know no List"


def refused(*words: str) -> str:
    return " ".join(vlaw("export", "lerobot", *words, code=2).output.split())


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(here, tmp_path):
    lake, ids = here
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("words")
    (tmp_path / "file").write_text("words")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for place in ("mine", "file", "link"):
        assert "is no empty folder" in refused("real_rollouts", "vlaw", "1", place)
    assert "inside the lake" in refused("real_rollouts", "vlaw", "1", str(lake.paths.root / "dataset"))
    assert "--codec av1" in refused("real_rollouts", "vlaw", "1", "new", "--codec", "mpeg2")
    assert "--storage files" in refused("real_rollouts", "vlaw", "1", "new", "--storage", "zip")
    assert "or no folder" in refused("new")
    assert "no episode" in refused("select episode_id from episodes where false", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "mine"]
    (tmp_path / "empty").mkdir()
    vlaw("export", "lerobot", ids["real0"], "empty", code=0)


def test_episodes_that_make_no_dataset_are_refused(tmp_path, monkeypatch):
    lake = Lake.open(tmp_path / "lake", create=True)
    at(monkeypatch, tmp_path, {"VLAW_LAKE": str(tmp_path / "lake")})
    odd = frames(2, 0, (47, 64))
    last = {"images": frames(2, 0)[-1:]}
    for asset, images in (("odd", {"images": odd}), ("cut", last), ("whole", {})):
        found = [arm_episode(1, 2, success=True, **images)]
        commit(
            lake,
            asset,
            write=lambda draft, found=found: draft.write_episodes(
                found, purpose="evaluation", world=ARM.world, label_source="recorded"
            ),
            recipe={**RECIPE, "of": asset},
        )
    assert "--codec h264" in refused("odd", "new")
    assert "1 of its 3 frames" in refused("cut", "new")
    assert "2 kinds" in refused("select episode_id from episodes", "new")
    assert not [path for path in tmp_path.iterdir() if path.name != "lake"], "nothing, also no draft"
    vlaw("export", "lerobot", "odd", "new", "--codec", "h264", code=0)
    assert decoded(tmp_path / "new", "wrist")[0][2].shape == (47, 64, 3)


def test_a_full_disk_is_said_and_leaves_nothing(here, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    needed.worked("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk))
    try:
        for storage in ("files", "lance"):
            said = refused("real_rollouts", "vlaw", "1", str(disk / "new"), "--codec", "h264", "--storage", storage)
            assert "the disk is full" in said
            assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True)


def test_statistics_are_those_of_all_rows_in_bounded_memory():
    rng = np.random.default_rng(0)
    parts = [rng.normal(part, 2, (50_000, 2)).astype(np.float32) for part in range(8)]
    whole = Whole()
    for part in parts:
        whole.add(part)
    whole.add(np.full((3, 2), np.nan))
    rows, found = np.concatenate(parts).astype(float), whole.found()
    assert found["count"].tolist() == [len(rows)]
    np.testing.assert_allclose(found["mean"], rows.mean(0), rtol=1e-9)
    np.testing.assert_allclose(found["std"], rows.std(0), rtol=1e-9)
    np.testing.assert_array_equal([found["min"], found["max"]], [rows.min(0), rows.max(0)])
    for name, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        np.testing.assert_allclose(found[name], np.quantile(rows, share, axis=0), atol=0.1)
    assert whole.kept <= 2 * MOST

    pictures = rng.integers(0, 256, (20, 8, 10, 3), dtype=np.uint8)
    found = of_levels(*levels_of(pictures))
    light = pictures.reshape(-1, 3) / 255
    np.testing.assert_allclose(found["mean"].ravel(), light.mean(0))
    np.testing.assert_allclose(found["std"].ravel(), light.std(0))
    np.testing.assert_allclose(found["q10"].ravel(), np.quantile(light, 0.1, axis=0), atol=1 / 255)
    assert found["count"].tolist() == [20]
    assert levels_of(np.zeros((1000, 2, 2, 3), np.uint8))[1] == 177, "as LeRobot samples a thousand frames"
