"""Each of the recorded kinds of fault has its right outcome: read as it is, refused with a way out, or asked for."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from recorded_dataset import CELL

from vlaw_assets.importers.base import Read, Recordings
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.lerobot import open_recordings
from vlaw_models.errors import VlawError

CASES = Path(__file__).parents[3] / "shared" / "data" / "import_cases"
BOTH_EXTERIOR = {
    "left": "observation.images.front",
    "right": "observation.images.front",
    "hand": "observation.images.wrist",
}
NUMBERED = {what: tuple("0123456") for what in ("state", "action")}
CUP, DRAWER = "pick up the cup", "open the drawer"


@dataclass(frozen=True)
class Expected:
    """What comes of one case."""

    refused: str = ""
    """Words of the error at opening; '': it opens."""
    remedy: str = ""
    """Words of its remedy."""
    given: dict = field(default_factory=dict)
    """With these options it comes in."""
    excluded: dict[int, tuple[str, int | None]] = field(default_factory=dict)
    """Episode -> words of the finding that excludes it, and its row."""
    noted: str = ""
    """Rule of a note on the dataset."""
    instructions: tuple[str, ...] = (CUP, DRAWER, CUP)
    success: tuple[bool | None, ...] = (True, False, True)
    """Of all episodes; those of an excluded one say nothing."""


SAME = Expected()
ALL = (0, 1, 2)
EXPECTED = {
    "action_ragged": Expected(
        excluded={number: (f"action has {6 + number // 2 * 2} numbers at frame 0, 7 are declared", 0) for number in ALL}
    ),
    "concat_escape": Expected(
        excluded=dict.fromkeys(ALL, ("neither MP4 nor Matroska, whatever it is called (videos/observation", None))
    ),
    "delta_actions": Expected(
        "not clear what the action is", "--action-kind", {"action_kind": "delta"}, instructions=(CUP, DRAWER)
    ),
    "depth_as_rgb": Expected(
        "2 exterior cameras and 1 at the wrist", "--camera NAME=FEATURE", {"cameras": BOTH_EXTERIOR}
    ),
    "feature_info_text": SAME,
    "fps_huge": Expected("fps is 1000", "mend info.json"),
    "images_in_parquet": Expected(
        "s0, s1",
        "--component state=",
        {"components": NUMBERED},
        instructions=(CUP, DRAWER, CUP, DRAWER),
        success=(True, False, True, False),
    ),
    "names_beyond_ascii": Expected(instructions=("拿起杯子 ☕", "öffne die Schublade\n\x1b[31mrot", "拿起杯子 ☕")),
    "null_action_row": Expected(excluded={0: ("episode 0: action is missing at frame 4", 4)}),
    "one_exterior_camera": Expected(
        "2 exterior cameras and 1 at the wrist", "--camera NAME=FEATURE", {"cameras": BOTH_EXTERIOR}
    ),
    "one_file_for_all_cameras": Expected("has no {video_key}", "fields chunk_index, file_index, video_key"),
    "one_short_episode": Expected(excluded={1: ("2 frames at 15 Hz: less than one control step", None)}),
    "openpi_names": Expected(
        "no feature 'observation.state' and no feature 'action'",
        "--state KEY --action KEY, of state, actions",
        {"state": "state", "action": "actions"},
    ),
    "parquet_bomb": Expected(excluded=dict.fromkeys(ALL, ("5000000 rows; at most 1072 can belong", None))),
    "stale_file_number": Expected(
        noted="stale_file_number", instructions=(CUP, DRAWER, CUP, DRAWER), success=(True, False, True, False)
    ),
    "success_null_then_other": SAME,
    "success_text": SAME,
    "success_two_columns": Expected(
        excluded=dict.fromkeys((0, 2), ("labels disagree: next.success says no, is_episode_successful says yes", None))
    ),
    "task_brackets": Expected(
        instructions=("[left arm] pick up the cup", "close [/drawer] now", "[left arm] pick up the cup")
    ),
    "task_index_not_remapped": Expected(
        excluded={1: (f"row 0 says '{CUP}' (task 0), the episode index says '{DRAWER}'", 0)}
    ),
    "task_table_extra_column": SAME,
    "timestamps_stall": Expected(excluded={0: ("row 6 has timestamp 2.4000 s, 0.4000 s were expected", 6)}),
    "two_tasks_in_episode": Expected(instructions=("grasp the cup",) * 2),
    "video_half_rate": Expected(excluded={0: ("no frame for row 6, within half a row of 0.400 s", 6)}),
    "video_names_dict": SAME,
    "video_names_text": SAME,
    "video_with_gaps": Expected(noted="unused_frames", instructions=(CUP, CUP), success=(True, True)),
}


def opened(root: Path, **given: object) -> Recordings:
    return open_recordings(root, Options(**{"robot": CELL.name, "image_size": (16, 16), **given}))


def folder_of(case: str, tmp_path: Path) -> Path:
    found = next(path for path in (CASES / case).iterdir() if path.is_dir())
    if case != "concat_escape":
        return found
    shutil.copytree(CASES / case, tmp_path / case)
    root = tmp_path / case / found.name
    (root / "videos/observation.images.exterior_2/chunk-000/other.mp4").symlink_to("../../../../private_video.mp4")
    return root


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not on this machine")
def test_every_case_is_here():
    assert {path.name for path in CASES.iterdir() if path.is_dir()} == set(EXPECTED)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not on this machine")
@pytest.mark.parametrize("case", EXPECTED)
def test_the_right_outcome(case, tmp_path):
    expected, root = EXPECTED[case], folder_of(case, tmp_path)
    if expected.refused:
        with pytest.raises(VlawError) as caught:
            opened(root)
        assert expected.refused in caught.value.what
        assert expected.remedy in caught.value.remedy
        if not expected.given:
            return
    recordings = opened(root, **expected.given)
    assert [found.rule for found in recordings.findings][:1] == [expected.noted] * bool(expected.noted)
    read = list(recordings.read(range(len(recordings.index))))
    assert {one.number: one.excluded for one in read if one.excluded}.keys() == expected.excluded.keys()
    for one in read:
        if one.excluded:
            words, row = expected.excluded[one.number]
            assert words in one.excluded.value
            assert one.excluded.row == row
            continue
        assert one.episode is not None
        assert one.episode.instruction == expected.instructions[one.number]
        if case != "success_two_columns":
            assert one.episode.success is expected.success[one.number]
        check_frames(one, same_exterior="cameras" in expected.given)
    if expected.excluded:
        assert [one.number for one in recordings.read([0])] == [0], "reading goes on after a fault"


def check_frames(read: Read, *, same_exterior: bool) -> None:
    """Each kept frame is the one that its row was shown with: brightness rises with the row and with the camera."""
    levels = read.episode.images.astype(float).mean(axis=(2, 3, 4))
    left, right, hand = levels.T
    assert (left == right).all() if same_exterior else (right - left > 0.5).all()
    assert (hand - right > 0.5).all()
    rises = np.diff(levels, axis=0)
    np.testing.assert_allclose(rises[rises > 0], 15, atol=3)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not on this machine")
def test_what_a_person_says_of_the_labels_counts():
    root = CASES / "success_two_columns" / "input"
    for key, labels in (("is_episode_successful", [True, False, True]), ("next.success", [False] * 3)):
        recordings = opened(root, success_key=key)
        assert [read.episode.success for read in recordings.read(ALL)] == labels
    with pytest.raises(VlawError, match="no column 'verdict' holds a label") as caught:
        opened(root, success_key="verdict")
    assert "is_episode_successful, next.success" in caught.value.remedy


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not on this machine")
def test_every_instruction_of_an_episode_is_kept():
    recordings = opened(CASES / "two_tasks_in_episode" / "input")
    both = ["grasp the cup", "place the cup on the shelf"]
    assert [list(found.instructions) for found in recordings.index] == [both, both]
    assert [read.episode.extra["instructions"] for read in recordings.read([0, 1])] == [both, both]


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not on this machine")
def test_differences_become_targets():
    (read, _) = opened(CASES / "delta_actions" / "input", action_kind="delta").read([0, 1])
    states, actions = read.episode.states, read.episode.actions
    np.testing.assert_allclose(actions[:, :6], states[1:, :6], atol=1e-5)
