"""Siblings of each kind of fault, made from the small dataset: read right, kept out with its row, refused, or noted."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recorded_dataset import CAMERAS, DATA, EPISODE_TABLE, VIDEO, brightness, write_video
from recorded_layouts import (
    edit_feature,
    edit_info,
    edit_rows,
    picture,
    set_column,
    to_lance,
    to_pictures,
    to_v21,
)

from vlaw_assets.importers.base import Read, Recordings
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.lerobot import open_recordings
from vlaw_assets.importers.videos import Video
from vlaw_models.errors import VlawError

ROWS = 26
LENGTHS = (10, 9, 7)
RATE = 15


def opened(root: Path, **given: object) -> Recordings:
    return open_recordings(root, Options(**{"image_size": (16, 16), **given}))


def read(root: Path, **given: object) -> list[Read]:
    recordings = opened(root, **given)
    return list(recordings.read(range(len(recordings.index))))


def levels(one: Read) -> np.ndarray:
    assert one.episode is not None, one.findings
    return one.episode.images.astype(float).mean(axis=(2, 3, 4))


def sound(found: list[Read]) -> None:
    """All three episodes, each frame the right one."""
    begins = np.cumsum([0, *LENGTHS])
    for one in found:
        rows = range(begins[one.number], begins[one.number + 1], 3)
        expected = [[brightness(camera, row) for camera in range(3)] for row in rows]
        np.testing.assert_allclose(levels(one), expected, atol=2.5)


def numbers(column: str, change) -> object:
    """Changes one column of the rows."""

    def edit(root: Path) -> None:
        values = pq.read_table(root / DATA)[column].to_pylist()
        set_column(root, DATA, column, change(values))

    return edit


def times(change) -> object:
    """A timestamp column: `change` of those that are right, (26,) seconds within the episode."""

    def edit(root: Path) -> None:
        right = np.concatenate([np.arange(length) / RATE for length in LENGTHS])
        found = change(right)
        set_column(root, DATA, "timestamp", pa.array(found, pa.float64()) if isinstance(found, np.ndarray) else found)

    return edit


def shifted(first: int, seconds: float, last: int = ROWS) -> object:
    def change(values: np.ndarray) -> np.ndarray:
        values[first:last] += seconds
        return values

    return times(change)


def replaced(row: int, value: object) -> object:
    return lambda values: [*values[:row], value, *values[row + 1 :]]


def clip(camera: int, episode: int, **seconds: float) -> object:
    key = CAMERAS[camera]
    changes = {f"videos/{key}/{name}_timestamp": value for name, value in seconds.items()}
    return lambda root: edit_rows(root, EPISODE_TABLE, lambda rows: rows[episode].update(changes))


def write_times(path: Path, shown: list[Fraction | float], codec: str = "mpeg4", form: str | None = None) -> None:
    """Frame k is shown at shown[k] seconds, with the brightness that the first camera's row of that time has."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width = 24, 40
        stream.pix_fmt = "gray16le" if codec == "ffv1" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 3000)
        stream.codec_context.gop_size = 1
        stream.codec_context.bit_rate = 20_000_000
        for at in shown:
            level = np.full((24, 40, 3), brightness(0, round(at * RATE)), np.uint8)
            frame = av.VideoFrame.from_ndarray(level, format="rgb24")
            if codec == "ffv1":
                frame = av.VideoFrame.from_ndarray(level[:, :, 0].astype(np.uint16) * 256, format="gray16le")
            frame.pts, frame.time_base = round(at * 3000), Fraction(1, 3000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def front(shown: list[float], **kind: str) -> object:
    return lambda root: write_times(root / VIDEO.format(CAMERAS[0]), shown, **kind)


def bytes_of_video(data: bytes) -> object:
    return lambda root: (root / VIDEO.format(CAMERAS[0])).write_bytes(data)


EVEN = [row / RATE for row in range(ROWS)]
FRONT = VIDEO.format(CAMERAS[0])


# ---- one episode is faulty: (what is done, episode, row, words)

EXCLUDED = {
    "last row one number short": (numbers("action", replaced(25, [1.0, 2.0])), 2, 6, "2 numbers at frame 6, 3 are"),
    "first row one number long": (numbers("action", replaced(10, [1.0] * 4)), 1, 0, "4 numbers at frame 0"),
    "empty row": (numbers("observation.state", replaced(3, [])), 0, 3, "0 numbers at frame 3"),
    "null row": (numbers("observation.state", replaced(11, None)), 1, 1, "observation.state is missing at frame 1"),
    "null number": (numbers("action", replaced(12, [1.0, None, 2.0])), 1, 2, "missing at frame 2, component 1"),
    "too large for a float": (numbers("action", replaced(12, [1.0, 1e300, 2.0])), 1, 2, "infinite at frame 2"),
    "a row dropped": (shifted(5, 1 / RATE, 10), 0, 5, "row 5 has timestamp 0.4000 s, 0.3333 s were expected"),
    "a row late": (shifted(13, 0.6 / RATE, 14), 1, 3, "row 3 has timestamp"),
    "time goes back": (shifted(13, -3 / RATE, 19), 1, 3, "row 3 has timestamp 0.0000 s"),
    "clock that stands": (times(lambda t: np.r_[t[:19], np.zeros(7)]), 2, 1, "row 1 has timestamp 0.0000 s"),
    "half rate": (times(lambda t: np.r_[2 * t[:10], t[10:]]), 0, 1, "they are 7.5 Hz: --rate, if that is true"),
    "other rate": (times(lambda t: np.r_[t[:10], t[10:19] * 15 / 13, t[19:]]), 1, 4, "they are 13 Hz: --rate"),
    "time that is none": (
        times(lambda t: np.r_[t[:3], np.nan, t[4:]]),
        0,
        3,
        "timestamp is NaN or infinite at frame 3",
    ),
    "time that is missing": (times(lambda t: [None, *t[1:].tolist()]), 0, 0, "timestamp is missing at frame 0"),
    "clock of the wall": (times(lambda t: np.r_[1.7e9 + t[:10], t[10:]]), 0, 0, "begin at 1.7e+09 s and not at 0"),
    "frame skipped": (front([*EVEN[:12], *EVEN[13:]]), 1, 2, "no frame for row 2, within half a row of 0.800 s"),
    "frame late": (front([*EVEN[:12], EVEN[12] + 0.6 / RATE, *EVEN[13:]]), 1, 2, "no frame for row 2"),
    "video too short": (front(EVEN[:-1]), 2, 6, "no frame for row 6"),
    "span of another length": (clip(0, 0, to=0.8), 0, None, "claims 0 s to 0.8 s of the video"),
    "span that is empty": (clip(0, 2, to=19 / RATE), 2, None, "its 7 rows at 15 Hz take"),
    "frame index with a hole": (numbers("frame_index", replaced(4, 5)), 0, 4, "row 4 is frame 5"),
    "frame index from one": (
        numbers("frame_index", lambda found: [*found[:10], *(n + 1 for n in found[10:19]), *found[19:]]),
        1,
        0,
        "row 0 is frame 1",
    ),
    "number of a row twice": (numbers("index", replaced(14, 13)), 1, 4, "row 4 is number 13"),
    "row of nobody": (numbers("episode_index", replaced(9, 77)), 0, None, "has 9 rows, its length is 10"),
    "row without an episode": (numbers("episode_index", replaced(18, None)), 1, None, "has 8 rows, its length is 9"),
    "task that is not there": (numbers("task_index", replaced(12, 9)), 1, 2, "row 2 names task 9"),
    "label of no kind": (numbers("next.success", lambda found: [0] * 10 + [2] * 9 + [1] * 7), 1, None, "label is 2"),
    "label in other words": (
        numbers("next.success", lambda found: ["success"] * 10 + ["so so"] * 9 + ["failure"] * 7),
        1,
        None,
        "label is 'so so'; say what it means: --success-value",
    ),
    "label taken back": (
        numbers("next.success", lambda found: [False, True, *[False] * 8, *[False] * 9, *[True] * 7]),
        0,
        None,
        "yes in some rows and no in the last one; --success-key next.success",
    ),
    "labels that disagree": (
        lambda root: set_column(root, DATA, "annotation.human.success", [True] * ROWS),
        1,
        None,
        "next.success says no",
    ),
}


@pytest.mark.parametrize("case", EXCLUDED)
def test_one_faulty_episode_is_named_and_the_others_come(dataset, case):
    spoil, episode, row, words = EXCLUDED[case]
    spoil(dataset)
    found = read(dataset)
    assert [one.number for one in found if one.excluded] == [episode]
    finding = found[episode].excluded
    assert words in finding.value
    assert finding.value.startswith("episode")
    assert (finding.episode, finding.row) == (episode, row)
    sound([one for one in found if not one.excluded])


# ---- nothing is wrong, or no more than is noted

SOUND = {
    "wider numbers": numbers("action", lambda found: pa.array(found, pa.large_list(pa.float64()))),
    "whole numbers": numbers("observation.state", lambda found: pa.array(found, pa.list_(pa.int16()))),
    "rows of a fixed size": numbers("action", lambda found: pa.array(found, pa.list_(pa.float32(), 3))),
    "times that jitter": times(lambda t: t + np.where(np.arange(ROWS) % 3 == 1, 0.4 / RATE, 0.0)),
    "times in whole seconds of 32 bits": times(lambda t: pa.array(t, pa.float32())),
    "frames that jitter": front([at + (0.4 / RATE if row % 3 == 1 else 0) for row, at in enumerate(EVEN)]),
    "span a third of a frame late": clip(0, 1, **{"from": 10.3 / RATE, "to": 19.3 / RATE}),
    "video longer than its episodes": lambda root: write_video(
        root / FRONT, [brightness(0, row) for row in range(ROWS + 4)]
    ),
    "Matroska": lambda root: write_times(root / FRONT, EVEN, form="matroska"),
    "numbers of rows of another dataset": numbers("index", lambda found: [number + 1000 for number in found]),
    "no numbers of rows": lambda root: set_column(root, DATA, "index", None),
    "two labels that agree": lambda root: set_column(
        root, DATA, "is_episode_successful", [True] * 10 + [False] * 9 + [None] * 7
    ),
    "label in words": numbers("next.success", lambda found: [*["Success"] * 10, *["FAILURE "] * 9, *["unknown"] * 7]),
    "label in numbers": numbers("next.success", lambda found: [*[1.0] * 10, *[0.0] * 9, *[float("nan")] * 7]),
    "label in a list": numbers("next.success", lambda found: [*[[1]] * 10, *[[0]] * 9, *[[None]] * 7]),
    "label of the index": lambda root: (
        set_column(root, DATA, "next.success", None),
        set_column(root, EPISODE_TABLE, "success", [True, False, None]),
    ),
    "label nobody declares": lambda root: edit_feature(root, "next.success", None),
    "task twice, the same": lambda root: pq.write_table(
        pa.table({"task_index": [0, 1, 0], "task": ["lift the cup", "", "lift the cup"]}), root / "meta/tasks.parquet"
    ),
    "task table in another order": lambda root: pq.write_table(
        pa.table({"task": ["", "lift the cup"], "task_index": [1, 0]}), root / "meta/tasks.parquet"
    ),
    "task table with a name of its own": lambda root: pq.write_table(
        pa.table({"task_index": [0, 1], "instruction": ["lift the cup", None]}), root / "meta/tasks.parquet"
    ),
    "task table as pandas names it": lambda root: pq.write_table(
        pa.table({"task_index": [0, 1], "kind": ["a", "b"], "words": ["lift the cup", None]}).replace_schema_metadata(
            {"pandas": json.dumps({"index_columns": ["words"]})}
        ),
        root / "meta/tasks.parquet",
    ),
    "no instructions in the index": lambda root: edit_rows(
        root,
        EPISODE_TABLE,
        lambda rows: [row.update(tasks=["lift the cup"] if n == 1 else None) for n, row in enumerate(rows)],
    ),
    "one row group for each row": lambda root: pq.write_table(
        pq.read_table(root / DATA), root / DATA, row_group_size=1
    ),
    "v2.1": to_v21,
    "Lance": to_lance,
    "Lance, plain bytes": lambda root: to_lance(root, blobs=False),
    "pictures": to_pictures,
    "pictures in files": lambda root: to_pictures(root, files=True),
    "pictures as JPEG": lambda root: to_pictures(root, kind="JPEG"),
    "names of numbers in a table": lambda root: edit_feature(
        root, "action", {"dtype": "float32", "shape": [3], "names": {"motors": ["a", "b", "c"]}}
    ),
    "names by place": lambda root: edit_feature(
        root, "action", {"dtype": "float32", "shape": [3], "names": {"c": 2, "a": 0, "b": 1}}
    ),
    "one name for all numbers": lambda root: edit_feature(
        root, "action", {"dtype": "float32", "shape": [3], "names": ["actions"]}
    ),
    "depth beside it": lambda root: edit_feature(
        root, "observation.images.z", {"dtype": "video", "shape": [24, 40, 1], "info": {"video.is_depth_map": True}}
    ),
}


@pytest.mark.parametrize("case", SOUND)
def test_what_is_usable_comes_in_as_it_is(dataset, case):
    SOUND[case](dataset)
    found = read(dataset)
    sound(found)
    assert [one.episode.success for one in found] == [True, False, None]
    assert {one.episode.instruction for one in found} == {"lift the cup"}
    np.testing.assert_array_equal(found[1].episode.actions, [[120, 0, 0], [150, 0, 0]])
    assert not [finding for one in found for finding in one.findings]


def split_rows(root: Path, *, named: bool) -> None:
    """The last two episodes are in a second file, and the index still names the first one, of the second of them too
    unless `named`."""
    rows = pq.read_table(root / DATA)
    pq.write_table(rows.slice(0, 10), root / DATA)
    pq.write_table(rows.slice(10), root / DATA.replace("file-000", "file-001"))
    if named:
        edit_rows(root, EPISODE_TABLE, lambda found: found[2].update({"data/file_index": 1}))


def more_rows(root: Path, episodes: list[int]) -> None:
    rows = pq.read_table(root / DATA).to_pylist()
    rows += [{**rows[-1], "episode_index": number} for number in episodes]
    pq.write_table(pa.Table.from_pylist(rows), root / DATA)


def cut_episode(root: Path) -> None:
    """The second episode was deleted from the tables, and the video keeps its frames."""
    rows = pq.read_table(root / DATA).to_pylist()
    kept = [row for row in rows if row["episode_index"] != 1]
    for place, row in enumerate(kept):
        row.update(index=place, episode_index=min(row["episode_index"], 1))
    pq.write_table(pa.Table.from_pylist(kept), root / DATA)

    def cut(found: list) -> None:
        del found[1]
        found[1].update(episode_index=1, dataset_from_index=10, dataset_to_index=17)

    edit_rows(root, EPISODE_TABLE, cut)
    edit_info(root, total_episodes=2, total_frames=17)


NOTED = {
    "stale number, the file unnamed": ("stale_file_number", lambda root: split_rows(root, named=False)),
    "stale number, the file named": ("stale_file_number", lambda root: split_rows(root, named=True)),
    "rows of nobody behind": ("orphan_rows", lambda root: more_rows(root, [7] * 5)),
    "frames between two episodes": ("unused_frames", cut_episode),
}


@pytest.mark.parametrize("case", NOTED)
def test_what_is_odd_and_harmless_is_noted(dataset, case):
    rule, change = NOTED[case]
    change(dataset)
    recordings = opened(dataset)
    assert {finding.rule for finding in recordings.findings} == {rule}
    found = list(recordings.read(range(len(recordings.index))))
    sound([one for one in found if len(found) == 3 or one.number == 0])
    if len(found) == 2:
        np.testing.assert_allclose(levels(found[1])[:, 0], [brightness(0, row) for row in (19, 22, 25)], atol=2.5)


# ---- no episode can be told from another, or it is not clear: (what is done, words, words of the remedy)

REFUSED = {
    "depth by another name": (
        lambda root: edit_feature(root, CAMERAS[1], {"dtype": "video", "shape": [24, 40, 3], "is_depth_map": "true"}),
        "2 exterior cameras",
        "--camera",
    ),
    "depth by its pixels": (
        lambda root: edit_feature(
            root, CAMERAS[1], {"dtype": "video", "shape": [24, 40, 3], "info": {"video.pix_fmt": "gray12le"}}
        ),
        "2 exterior cameras",
        "--camera",
    ),
    "velocity by its name": (
        lambda root: edit_feature(root, "action", {"dtype": "float32", "shape": [3], "names": ["vel_x", "vel_y", "c"]}),
        "speaks of a velocity",
        "--action-kind",
    ),
    "another action": (lambda root: edit_feature(root, "action", None), "no feature 'action'", "--action KEY"),
    "action of two sides": (
        lambda root: edit_feature(root, "action", {"dtype": "float32", "shape": [3, 2]}),
        "no vector of numbers",
        "--action KEY",
    ),
    "two columns of texts": (
        lambda root: pq.write_table(
            pa.table({"task_index": [0, 1], "one": ["lift the cup", ""], "two": ["a", "b"]}),
            root / "meta/tasks.parquet",
        ),
        "unclear which column of the task table is the instruction: one, two",
        "'task'",
    ),
    "two texts for a task": (
        lambda root: pq.write_table(
            pa.table({"task_index": [0, 1, 0], "task": ["lift the cup", "", "drop it"]}), root / "meta/tasks.parquet"
        ),
        "task 0 is there twice",
        "right one",
    ),
    "index and column of the task table": (
        lambda root: pq.write_table(
            pa.table({"task_index": [0, 1], "task": ["lift the cup", ""], "__index_level_0__": ["drop it", ""]}),
            root / "meta/tasks.parquet",
        ),
        "two texts for row 0",
        "Keep the one",
    ),
    "task numbers in words": (
        lambda root: pq.write_table(
            pa.table({"task_index": ["0", "1"], "task": ["lift the cup", ""]}), root / "meta/tasks.parquet"
        ),
        "task_index is '0'",
        "Copy",
    ),
    "two cameras are one file by a link": (
        lambda root: (
            (root / VIDEO.format(CAMERAS[1])).unlink(),
            (root / VIDEO.format(CAMERAS[1])).symlink_to(f"../../{CAMERAS[0]}/chunk-000/file-000.mp4"),
        ),
        "two cameras are one file",
        "--camera",
    ),
    "two files of the index are one": (
        lambda root: (
            edit_info(root, video_path="videos/{video_key}/chunk-000/file-000.mp4"),
            clip(0, 2, **{"from": 0.0, "to": 7 / RATE})(root),
            edit_rows(root, EPISODE_TABLE, lambda rows: rows[2].update({f"videos/{CAMERAS[0]}/file_index": 1})),
        ),
        "several files of the index would be",
        "{file_index}",
    ),
    "vector of no numbers": (
        lambda root: edit_feature(root, "action", {"dtype": "float32", "shape": [0]}),
        "no vector of numbers",
        "--action KEY",
    ),
    "storage of another kind": (lambda root: edit_info(root, storage_format="zarr"), "stored as 'zarr'", "Convert"),
    "Lance table with other rows": (
        lambda root: (to_lance(root), edit_info(root, total_frames=ROWS + 1)),
        "frames",
        "Copy",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_clear_is_asked_for(dataset, case):
    spoil, words, remedy = REFUSED[case]
    spoil(dataset)
    with pytest.raises(VlawError) as caught:
        opened(dataset)
    assert words in caught.value.what
    assert remedy in caught.value.remedy


NO_NUMBERS = {
    "words": [["a", "b", "c"]] * ROWS,
    "nothing": pa.nulls(ROWS),
    "lists of nothing": pa.array([[None, None, None]] * ROWS, pa.list_(pa.null())),
    "lists of lists": [[[1.0], [2.0], [3.0]]] * ROWS,
    "flags": [[True, False, True]] * ROWS,
    "one number": [1.0] * ROWS,
    "records": [{"x": 1.0, "y": 2.0, "z": 3.0}] * ROWS,
    "missing": pa.array([None] * ROWS, pa.list_(pa.float32())),
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_a_vector_without_its_numbers_is_none(dataset, case):
    set_column(dataset, DATA, "action", NO_NUMBERS[case])
    assert all("action" in one.excluded.value for one in read(dataset))


NO_VIDEOS = {
    "script of names": b"ffconcat version 1.0\nfile 'file-001.mp4'\n",
    "playlist": b"#EXTM3U\n#EXTINF:1,\nfile-001.mp4\n",
    "session": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n",
    "picture": picture(3),
    "page": b"<html><video src=file:///etc/passwd></html>",
    "names of pictures": b"concat:a.mp4|b.mp4",
    "AVI": b"RIFF\x00\x00\x00\x00AVI LIST",
    "transport stream": b"G" + b"\x00" * 400,
    "short": b"\x00\x00\x00",
}


@pytest.mark.parametrize("case", NO_VIDEOS)
def test_a_file_is_a_video_by_its_first_bytes_alone(dataset, case):
    bytes_of_video(NO_VIDEOS[case])(dataset)
    found = read(dataset)
    assert all("neither MP4 nor Matroska" in one.excluded.value for one in found)
    assert all(FRONT in one.excluded.value for one in found)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x00\x00\x00\x18ftypisom" + b"\x00" * 100, "cannot be decoded"),
        (b"\x1a\x45\xdf\xa3" + b"\x00" * 100, "cannot be decoded"),
        (b"\x00\x00\x00\x08moov\x00\x00\x00\x08mdat", "the video"),
    ],
)
def test_a_damaged_video_is_named(dataset, data, words):
    bytes_of_video(data)(dataset)
    assert all(words in one.excluded.value or "no video" in one.excluded.value for one in read(dataset))


def test_depth_that_nobody_declares_is_seen_in_the_frames(dataset):
    write_times(dataset / FRONT, EVEN, codec="ffv1", form="matroska")
    assert {one.excluded.rule for one in read(dataset)} == {"depth"}


def with_reference(data: bytes, path: str) -> bytes:
    """An MP4 file whose frames are said to be in another file: the entry of `dref` is an alias that names it."""
    alias = b"\0" * 10 + bytes([1]) + b"v".ljust(27, b"\0") + b"\0" * 12 + bytes([1]) + b"f".ljust(63, b"\0")
    alias += b"\0" * 16 + (0).to_bytes(2, "big") * 2 + b"\0" * 16
    name = path.encode()
    assert len(name) % 2 == 0
    alias += (2).to_bytes(2, "big") + len(name).to_bytes(2, "big") + name + b"\xff\xff\0\0"
    entry = (12 + len(alias)).to_bytes(4, "big") + b"alis\0\0\0\0" + alias
    place = data.index(b"url ") - 4
    grown = len(entry) - 12
    found = bytearray(data[:place] + entry + data[place + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = data.index(box) - 4
        found[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + grown).to_bytes(4, "big")
    return bytes(found)


def test_a_reference_of_a_video_to_another_file_leads_nowhere(dataset, tmp_path):
    private = tmp_path / ("private.mp4" if len(str(tmp_path)) % 2 == 0 else "private1.mp4")
    write_video(private, [200] * ROWS)
    changed = with_reference((dataset / FRONT).read_bytes(), str(private))
    (dataset / FRONT).write_bytes(changed)
    with av.open(str(dataset / FRONT), options={"enable_drefs": "1", "use_absolute_path": "1"}) as followed:
        frame = next(followed.decode(video=0))
        assert abs(frame.to_ndarray(format="rgb24").mean() - 200) < 3, "whoever follows it sees the private one"
    assert {one.excluded.rule for one in read(dataset)} <= {"video", "video_time", "video_shape"}


def test_frames_of_the_same_stretch_are_no_two_episodes(dataset):
    clip(0, 1, **{"from": 0.0, "to": 9 / RATE})(dataset)
    found = read(dataset)
    assert [one.number for one in found if one.excluded] == [0, 1]
    assert "episodes 0 and 1 claim the same frames" in found[0].excluded.value


def test_words_of_labels_and_a_column_of_any_name(dataset):
    set_column(dataset, DATA, "outcome", ["gut"] * 10 + ["schlecht"] * 9 + ["gut"] * 7)
    words = {"gut": True, "schlecht": False}
    found = read(dataset, success_key="outcome", success_values=words)
    assert [one.episode.success for one in found] == [True, False, True]
    assert all("'gut'" in one.excluded.value for one in read(dataset, success_key="outcome") if one.number != 1)


def test_all_that_was_said_is_kept(dataset):
    set_column(dataset, DATA, "language_instruction", ["lift it"] * 10 + ["hoch damit"] * 16)
    set_column(dataset, DATA, "task_index", [0] * 5 + [2] * 5 + [1] * 16)
    pq.write_table(
        pa.table({"task_index": [0, 1, 2], "task": ["lift the cup", "", "put it down"]}), dataset / "meta/tasks.parquet"
    )
    both = ["lift the cup", "put it down"]
    edit_rows(
        dataset, EPISODE_TABLE, lambda rows: [row.update(tasks=both if not n else []) for n, row in enumerate(rows)]
    )
    found = read(dataset)
    assert found[0].episode.extra["instructions"] == [*both, "lift it"]
    assert found[0].episode.extra["language"] == {"language_instruction": ["lift it"]}
    assert [one.episode.instruction for one in found] == ["lift the cup", "hoch damit", "hoch damit"]


def test_an_episode_without_words_is_unspecified(dataset):
    set_column(dataset, DATA, "task_index", [1] * ROWS)
    edit_rows(dataset, EPISODE_TABLE, lambda rows: [row.update(tasks=[""]) for row in rows])
    assert {one.episode.instruction for one in read(dataset)} == {"unspecified"}


def test_reading_begins_anywhere_and_in_any_order(dataset):
    recordings = opened(dataset)
    whole = {one.number: one.episode for one in recordings.read(range(3))}
    for order in ([2], [1, 2], [2, 0, 1], [0, 0, 2, 2, 1], []):
        found = list(recordings.read(order))
        assert [one.number for one in found] == order
        for one in found:
            np.testing.assert_array_equal(one.episode.images, whole[one.number].images)
            np.testing.assert_array_equal(one.episode.actions, whole[one.number].actions)


def test_a_video_is_decoded_once_from_front_to_back(dataset, monkeypatch):
    """Long groups of pictures: whoever sought for each frame would decode them again and again."""
    for camera, key in enumerate(CAMERAS):
        with av.open(str(dataset / VIDEO.format(key)), "w") as container:
            stream = container.add_stream("h264", rate=RATE, options={"crf": "10"})
            stream.height, stream.width, stream.pix_fmt = 24, 40, "yuv420p"
            for row in range(ROWS):
                grey = np.full((24, 40, 3), brightness(camera, row), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(stream.encode())
    sought: list[float] = []
    decoded: list[float] = []
    seek, rest = Video._seek, Video._rest  # noqa: SLF001 (counted, and otherwise as they are)
    monkeypatch.setattr(Video, "_seek", lambda video, seconds: sought.append(seconds) or seek(video, seconds))

    def counted(video: Video):
        for shown, frame in rest(video):
            decoded.append(shown)
            yield shown, frame

    monkeypatch.setattr(Video, "_rest", counted)
    sound(read(dataset))
    assert not sought
    # A frame that already belongs to the next episode is put back, and comes again.
    assert len(decoded) <= len(CAMERAS) * (ROWS + len(LENGTHS))
    sought.clear()
    (last,) = opened(dataset).read([2])
    sound([last])
    assert len(sought) <= len(CAMERAS)


# Rows per second -> the rows that the control steps at 0, 0.2, 0.4 ... s have their pictures and states from.
RATES = {
    12.0: ([0, 2, 5, 7], [0, 2.4, 4.8, 7.2]),
    29.97: ([0, 6], [0, 5.994]),
    4.0: ([0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9], np.arange(12) * 0.8),
}


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_that_is_no_multiple_is_resampled_by_time(dataset, rate):
    """The dataset says 15 Hz and was recorded at another rate: rows, frames and spans are all of that one."""
    pictures, states = RATES[rate]
    for camera, key in enumerate(CAMERAS):
        with av.open(str(dataset / VIDEO.format(key)), "w") as container:
            stream = container.add_stream("mpeg4", rate=Fraction(rate).limit_denominator(100))
            stream.height, stream.width, stream.pix_fmt = 24, 40, "yuv420p"
            stream.codec_context.gop_size = 1
            stream.codec_context.bit_rate = 20_000_000
            for row in range(ROWS):
                grey = np.full((24, 40, 3), brightness(camera, row), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(stream.encode())
    begins = np.cumsum([0, *LENGTHS])

    def spans(rows: list) -> None:
        for number, row in enumerate(rows):
            for key in CAMERAS:
                row[f"videos/{key}/from_timestamp"] = begins[number] / rate
                row[f"videos/{key}/to_timestamp"] = begins[number + 1] / rate

    edit_rows(dataset, EPISODE_TABLE, spans)
    assert all("at 15 Hz take" in one.excluded.value for one in read(dataset))
    recordings = opened(dataset, rate=rate)
    assert "resampled by time" in recordings.understood["rate"]
    (first,) = recordings.read([0])
    np.testing.assert_allclose(levels(first)[:, 0], [brightness(0, row) for row in pictures], atol=2.5)
    np.testing.assert_allclose(first.episode.states[:, 0], states, atol=1e-4)


def test_a_snapshot_of_the_hubs_cache_is_read_and_has_the_digest_of_its_copy(dataset, tmp_path):
    snapshot = tmp_path / "datasets--lab--cups" / "snapshots" / ("0" * 40)
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in dataset.rglob("*") if path.is_file())):
        shutil.copy(path, blobs / str(number))
        link = snapshot / path.relative_to(dataset)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path("../" * (len(path.relative_to(dataset).parts) + 1)) / "blobs" / str(number))
    sound(read(snapshot))
    assert opened(snapshot).source_digest() == opened(dataset).source_digest()
    (tmp_path / "linked").symlink_to(snapshot)
    sound(read(tmp_path / "linked"))


def test_pictures_that_are_odd(dataset):
    to_pictures(dataset)
    key = CAMERAS[0]
    rows = pq.read_table(dataset / DATA)[key].to_pylist()
    odd = {
        0: picture(9, size=(30, 40)),
        3: picture(9, mode="I;16"),
        10: b"no picture",
        19: None,
    }
    for row, words in ((0, "40x30 pixels"), (3, "depth"), (10, "cannot be decoded"), (19, "has no picture")):
        values = [{"bytes": odd[row], "path": None} if number == row else value for number, value in enumerate(rows)]
        set_column(dataset, DATA, key, pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
        (excluded,) = [one.excluded for one in read(dataset) if one.excluded]
        assert words in excluded.value


def test_files_of_pictures_are_part_of_the_dataset(dataset, tmp_path):
    to_pictures(dataset, files=True)
    recordings = opened(dataset)
    image = dataset / f"images/{CAMERAS[0]}/000013.png"
    assert image in recordings.files
    before = recordings.source_digest()
    image.write_bytes(picture(7))
    assert opened(dataset).source_digest() != before
    with pytest.raises(VlawError, match="changed while it was being imported"):
        list(recordings.read([1]))
    image.unlink()
    assert "is missing" in read(dataset)[1].excluded.value
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(7))
    image.symlink_to(secret)
    with pytest.raises(VlawError, match="outside the dataset"):
        opened(dataset)


def test_what_changes_while_it_is_read_is_not_taken(dataset):
    recordings = opened(dataset)
    write_video(dataset / VIDEO.format(CAMERAS[2]), [9] * ROWS)
    with pytest.raises(VlawError, match="changed while it was being imported"):
        list(recordings.read([0]))


def test_one_file_of_v21_is_one_episodes_fault(dataset):
    to_v21(dataset)
    (dataset / f"videos/chunk-000/{CAMERAS[0]}/episode_000001.mp4").unlink()
    (dataset / "data/chunk-001/episode_000002.parquet").write_bytes(b"PAR1")
    found = read(dataset)
    assert [bool(one.excluded) for one in found] == [False, True, True]
    assert "is missing" in found[1].excluded.value
    assert "parquet file cannot be read" in found[2].excluded.value


def test_one_episode_whose_cameras_are_one_file(dataset):
    to_v21(dataset)
    names = [dataset / f"videos/chunk-000/{key}/episode_000001.mp4" for key in CAMERAS[:2]]
    names[1].unlink()
    names[1].hardlink_to(names[0])
    found = read(dataset)
    assert [bool(one.excluded) for one in found] == [False, True, False]
    assert "two cameras are one file" in found[1].excluded.value


def test_lance_tables_stay_inside(dataset, tmp_path):
    import lance

    to_lance(dataset)
    rows = lance.dataset(str(dataset / "frames.lance")).to_table()
    shutil.rmtree(dataset / "frames.lance")
    (tmp_path / "elsewhere").mkdir()
    lance.write_dataset(
        rows,
        str(dataset / "frames.lance"),
        initial_bases=[lance.DatasetBasePath(str(tmp_path / "elsewhere"), name="away")],
        target_bases=["away"],
    )
    with pytest.raises(VlawError, match="names files outside the dataset"):
        opened(dataset)
    shutil.rmtree(dataset / "frames.lance")
    (dataset / "frames.lance").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VlawError, match=r"no table frames\.lance"):
        opened(dataset)
