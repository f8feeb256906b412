"""Ctrl-World's layout: what comes out of a dataset, that it lands in the lake, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from recorded_dataset import every_episode

from vlaw_assets.importers.ctrl_world import open_recordings
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.registry import IMPORTERS, import_recordings
from vlaw_assets.importers.worker_process import judged
from vlaw_assets.lake import Lake
from vlaw_assets.lake.upkeep.verify import verify
from vlaw_models.errors import VlawError

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "droid_sample" / "droid_subset"
LENGTH, RATIO = 5, 3
SMALL = Options(image_size=(24, 40))


def write_video(path: Path, levels: list[int], size: tuple[int, int] = (192, 320)) -> None:
    """Frame k is plain grey of brightness levels[k]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.bit_rate = 20_000_000
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("written") / "cups")


@pytest.fixture
def dataset(tmp_path, written) -> Path:
    shutil.copytree(written, tmp_path / "cups")
    return tmp_path / "cups"


def write_dataset(root: Path) -> Path:
    """Two episodes, a success and a failure: state of frame t is .1 t everywhere, command of row r is .2 + .01 r."""
    for name, success, text in (("2", 1, "lift the cup"), ("10", 0, " ")):
        rows = LENGTH * RATIO - 1
        annotation = {
            "texts": [text],
            "success": success,
            "states": [[0.1 * frame] * 7 for frame in range(LENGTH)],
            "action.cartesian_position": [[0.2 + 0.01 * row] * 6 for row in range(rows)],
            "action.gripper_position": [0.2 + 0.01 * row for row in range(rows)],
            "videos": [{"video_path": f"videos/train/{name}/{view}.mp4"} for view in range(3)],
        }
        path = root / f"annotation/train/{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(annotation))
        for view in range(3):
            write_video(root / f"videos/train/{name}/{view}.mp4", [20 + 60 * view + 8 * t for t in range(LENGTH)])
    return root


def edit(root: Path, **changes: object) -> None:
    path = root / "annotation/train/2.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_every_frame_of_every_view_with_the_last_command_of_each_step(dataset):
    first, second = every_episode(open_recordings(dataset, SMALL))
    assert (first.instruction, second.instruction) == ("lift the cup", "unspecified")
    assert (first.success, second.success) == (True, False)
    assert first.images.shape == (LENGTH, 3, 24, 40, 3)
    np.testing.assert_allclose(first.states[:, 0], 0.1 * np.arange(LENGTH), atol=1e-6)
    np.testing.assert_allclose(first.actions, np.repeat([[0.22], [0.25], [0.28], [0.31]], 7, axis=1), atol=1e-6)
    expected = [[20 + 60 * view + 8 * frame for view in range(3)] for frame in range(LENGTH)]
    np.testing.assert_allclose(first.images.astype(float).mean(axis=(2, 3, 4)), expected, atol=3)


def test_it_is_committed_once_and_recognised(dataset, tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    made = [
        import_recordings(lake, "ctrl-world", dataset, SMALL, name="cups", run_id=run, force=False)
        for run in ("a", "b")
    ]
    assert made[0].artifact_id == made[1].artifact_id
    assert (made[0].partition, made[0].metrics["successes"]) == ("cups|00", 1)
    assert lake.read(made[0]).episodes()[0].images.shape == (LENGTH, 3, 24, 40, 3)
    findings = lake.read(made[0]).table("import_findings").select(["episode", "row", "rule", "decision"]).to_pylist()
    assert findings == [{"episode": 1, "row": None, "rule": "no_instruction", "decision": "world_model_only"}]
    assert [episode.success for episode in lake.read(made[0]).episodes(frames=False)] == [True, None]
    recorded = lake.read(made[0]).table("episodes").to_pylist()
    assert [row["success"] for row in recorded] == [True, None], "a table is read by the same rule"
    assert verify(lake, made) == []


def outside(root: Path) -> None:
    write_video(root.parent / "elsewhere.mp4", [9] * LENGTH)
    edit(root, videos=[{"video_path": "../elsewhere.mp4"}] * 3)


BROKEN = {
    "no dataset": (lambda root: (root / "annotation").rename(root / "x"), "no annotation/train"),
    "not json": (lambda root: (root / "annotation/train/2.json").write_text("{"), "not readable JSON"),
    "a list": (lambda root: (root / "annotation/train/2.json").write_text("[]"), "holds no episode"),
    "six numbers": (lambda root: edit(root, states=[[0.0] * 6] * LENGTH), r"must be \(rows, 7\)"),
    "ragged": (lambda root: edit(root, states=[[0.0] * 7, [0.0]]), "no table of numbers|not a table of numbers"),
    "nan": (lambda root: edit(root, states=[[float("nan")] * 7] * LENGTH), "NaN or infinite in row 0"),
    "no commands": (lambda root: edit(root, **{"action.gripper_position": None}), "action.gripper_position"),
    "another rate": (
        lambda root: edit(root, **{"action.cartesian_position": [[0.0] * 6] * 8, "action.gripper_position": [0.0] * 8}),
        "no whole ratio",
    ),
    "two instructions": (lambda root: edit(root, texts=["a", "b"]), "not one instruction"),
    "odd label": (lambda root: edit(root, success=2), "success is 2"),
    "half a label": (lambda root: edit(root, success=0.5), "success is 0.5"),
    "no videos": (lambda root: edit(root, videos=[]), "no video is named for view 0"),
    "video missing": (lambda root: (root / "videos/train/2/1.mp4").unlink(), "view 1 is missing"),
    "video outside": (outside, "not one inside the dataset"),
    "video too short": (lambda root: write_video(root / "videos/train/2/1.mp4", [9] * 4), "no frame for row 4"),
    "video of another size": (
        lambda root: write_video(root / "videos/train/2/1.mp4", [9] * LENGTH, (64, 64)),
        "64x64",
    ),
}


IN_A_PROCESS = "video too short"
"""Of those that are found while episodes are read, which a process of its own does: the one that goes all the way."""


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_dataset_is_refused_and_nothing_is_written(dataset, tmp_path, case):
    spoil, words = BROKEN[case]
    spoil(dataset)
    try:
        recordings = open_recordings(dataset, SMALL)
    except VlawError:
        recordings = None
    if recordings is not None:
        reads = recordings.read(range(len(recordings.index)))
        found = [judged(read, recordings.robot, only_labelled=False)[0].excluded for read in reads]
        refused = [finding.value for finding in found if finding]
        assert refused
        assert re.search(words, refused[0])
        if case != IN_A_PROCESS:
            return
    lake = Lake.open(tmp_path / "lake", create=True)
    before = sorted(path for path in lake.paths.root.rglob("*") if path.is_file())
    with pytest.raises(VlawError, match=words) as caught:
        import_recordings(lake, "ctrl-world", dataset, SMALL, name="cups", run_id="run")
    assert caught.value.where
    assert caught.value.remedy
    assert sorted(path for path in lake.paths.root.rglob("*") if path.is_file()) == before


def test_an_unknown_format_lists_the_formats(dataset, tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    with pytest.raises(VlawError, match="no importer 'rosbag'") as caught:
        import_recordings(lake, "rosbag", dataset, SMALL, name="cups", run_id="run")
    assert all(name in caught.value.remedy for name in IMPORTERS.names())


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the DROID sample is not on this machine")
@pytest.mark.slow
def test_the_droid_sample_has_eleven_episodes_of_seven_numbers():
    episodes = every_episode(open_recordings(SAMPLE, SMALL))
    assert len(episodes) == 11
    assert [episode.success for episode in episodes] == [True] * 4 + [False] * 7
    assert (
        {episode.states.shape[1] for episode in episodes} == {episode.actions.shape[1] for episode in episodes} == {7}
    )
    assert all(episode.images.shape[1:] == (3, 24, 40, 3) for episode in episodes)
    # A commanded position is where the hand is a step later, give or take the lag of the controller.
    assert all(np.abs(e.actions[:, :3] - e.states[1:, :3]).max() < 0.1 for e in episodes)
