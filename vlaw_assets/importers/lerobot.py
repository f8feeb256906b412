"""A LeRobot dataset: v3.0 in files or in Lance, v2.0 and v2.1. What it holds is understood here, before it is read.

Conventions: a row is an instant at the dataset's rate, its action is what was commanded there. Rows become control
steps, and actions absolute targets, as numbers.py says; the last kept row's action leads nowhere and is dropped.
Frames are those that are shown when their row was, and a row's words about itself (episode, frame, time, task) have to
agree with what the index says.
"""

from __future__ import annotations

import glob
import string
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vlaw_assets.importers import lerobot_index, lerobot_v2
from vlaw_assets.importers.base import Found, Recordings, robot_of
from vlaw_assets.importers.cameras import check_shape, choose_cameras
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.files import Folder, MissingFileError, printable, shown
from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.lerobot_format import INFO, Info, read_info
from vlaw_assets.importers.lerobot_frames import (
    Frames,
    Place,
    RowPictures,
    VideoFrames,
    clip_faults,
    picture_files,
    unused_frames,
)
from vlaw_assets.importers.lerobot_index import EpisodeIndex
from vlaw_assets.importers.lerobot_lance import FRAMES, VIDEOS, LanceRows, LanceVideos, table_files
from vlaw_assets.importers.lerobot_reader import Reader, names_of
from vlaw_assets.importers.lerobot_rows import ParquetRows, RowSource, find_rows
from vlaw_assets.importers.lerobot_tasks import LINES, TABLE, read_tasks
from vlaw_assets.importers.lerobot_words import Chosen, facts, lost_labels, settings, words_of
from vlaw_assets.importers.numbers import action_kind, check_rate, chosen_places, unit_factors
from vlaw_models.errors import VlawError

STATE, ACTION = "observation.state", "action"
SPARE_ROWS = 1000
"""Rows beyond twice the dataset's that its files may have: left over from what was cut out of it."""


def open_recordings(path: Path, options: Options) -> Recordings:
    """The dataset in a folder. Its episodes have images (T+1, V, height, width, 3) uint8, states (T+1, D) and actions
    (T, A) float32, at the robot's rate.

    Raises VlawError, with the file and a remedy, for what contradicts itself or is not clear.
    """
    if options.split:
        raise VlawError(
            f"split {options.split!r} of a LeRobot dataset",
            where=printable(path),
            remedy="Leave --split out; --episodes takes a part.",
        )
    try:
        folder = Folder.of(path, holds=INFO, remedy="Give the folder that contains meta/, data/ and videos/.")
    except VlawError as error:
        raise VlawError(
            f"this is not a LeRobot dataset: {error.what}", where=error.where, remedy=error.remedy
        ) from error
    info = read_info(folder)
    if options.rate is not None:
        info = replace(info, fps=options.rate)
    chosen = _understand(info, options)
    way = check_rate(info.fps, chosen.robot, where=info.where)
    videos = [key for key in chosen.keys if info.features[key].dtype == "video"]
    read = lerobot_v2.read_index if info.version == 2 else lerobot_index.read_index
    index = read(folder, info, videos, options.success_key)
    tasks, text_column = read_tasks(folder, info.version)
    faults = clip_faults(index, info.fps)
    files = [INFO, LINES if info.version == 2 else TABLE, *index.files]
    if info.storage == "lance":
        table = LanceRows(folder, info)
        source: RowSource = table
        named = np.zeros(len(index), np.int64)
        stored = LanceVideos(folder)
        files += [*table_files(folder, FRAMES), *(table_files(folder, VIDEOS) if videos else ())]
        table.table()  # one that reaches outside is no fault of single episodes
        frames = _lance_videos(stored, videos, index, info, faults)
    else:
        source, named = _data_files(folder, info, index)
        frames, found = _video_files(folder, videos, index, info, faults)
        files += found
    rows = find_rows(source, named, index, options.success_key, options.success_values, info.where)
    if info.storage == "files":
        used = {*rows.place.tolist(), *named.tolist()} - {-1}
        files += [source.files[place] for place in sorted(used)]
    for key in chosen.keys:
        if key not in videos:
            named_files = picture_files(folder, source, {*rows.place.tolist()} - {-1}, key)
            frames[key] = RowPictures(key, folder, source, rows, info.frame_size(key), frozenset(named_files))
            files += named_files
    faults.update(rows.faults)
    reader = Reader(
        folder,
        info,
        options,
        chosen.robot,
        chosen.cameras,
        chosen.state,
        chosen.action,
        chosen.kind,
        index,
        tasks,
        source,
        rows,
        frames,
        faults,
        files,
    )
    source.close()
    return Recordings(
        f"lerobot v{info.version}",
        folder.root,
        robot=chosen.robot,
        files=sorted(folder.root / name for name in dict.fromkeys(files)),
        index=[
            Found(number, str(number), int(length), index.tasks[number]) for number, length in enumerate(index.lengths)
        ],
        read=reader.read,
        settings=settings(chosen, options),
        facts=facts(info, chosen, options),
        understood=words_of(info, chosen, options, way, rows, text_column),
        findings=(*lost_labels(info, rows), *rows.notes, *unused_frames(index, info.fps)),
    )


def _understand(info: Info, options: Options) -> Chosen:
    """The robot, its cameras and its numbers. VlawError where one of them is not clear."""
    features, where = info.features, info.where
    words = [*options.cameras, *(key.rsplit(".", 1)[-1] for key in features)]
    robot = robot_of(options, called=info.robot_type, cameras=words, where=where)
    pictures = [key for key, feature in features.items() if feature.pictures and not feature.depth]
    depth = [key for key, feature in features.items() if feature.pictures and feature.depth]
    cameras = choose_cameras(pictures, robot, options.cameras, where=where, depth=depth)
    for key in dict.fromkeys(cameras.values()):
        check_shape(robot, info.frame_size(key), where=f"{where}, feature {key!r}")
    state, action = _vectors(info, options)
    kind = action_kind(options.action_kind, action, names_of(info, action), robot, where=where)
    for what, key, vector in (("state", state, robot.state), ("action", action, robot.command)):
        names = names_of(info, key, kind if what == "action" else "absolute")
        chosen_places(
            info.features[key].width or 0, names, options.components.get(what, ()), vector, what=what, where=where
        )
        unit_factors(options.units.get(what, ()), vector, what=what, where=where)
    return Chosen(robot, cameras, state, action, kind)


def _vectors(info: Info, options: Options) -> tuple[str, str]:
    """Keys of the state and of the action. VlawError where they are not there, or no vectors."""
    listed = ", ".join(info.vectors()) or "none: it has no vectors"
    keys = {"state": options.state or STATE, "action": options.action or ACTION}
    missing = {what: key for what, key in keys.items() if key not in info.features}
    if missing:
        raise VlawError(
            f"the dataset has no feature {' and no feature '.join(shown(key) for key in missing.values())}",
            where=info.where,
            remedy=f"Say which one it is: {' '.join(f'--{what} KEY' for what in missing)}, of {listed}.",
        )
    for what, key in keys.items():
        if info.features[key].width is None:
            raise VlawError(
                f"feature {key!r} is no vector of numbers",
                where=info.where,
                remedy=f"Name one that is (--{what} KEY), of {listed}.",
            )
    return keys["state"], keys["action"]


def _data_files(folder: Folder, info: Info, index: EpisodeIndex) -> tuple[ParquetRows, np.ndarray]:
    """The files of rows: those that the index names first, then whatever else is there by such a name."""
    places, which = np.unique(index.places, axis=0, return_inverse=True)
    there: list[str] = []
    known: dict[str, int] = {}
    number_of: list[int] = []
    for chunk, file in places.tolist():
        name = _filled(info.data_path, info, (chunk, file))
        try:
            folder.locate(name, what="data file")
        except MissingFileError:
            number_of.append(-1)
            continue
        if name not in known:
            known[name] = len(there)
            there.append(name)
        number_of.append(known[name])
    for name in folder.listed(_pattern(info.data_path)):
        if name not in known:
            try:
                folder.locate(name, what="data file")
            except VlawError:
                continue  # nobody named it
            there.append(name)
    named = np.array(number_of, np.int64)[which.reshape(-1)]
    return ParquetRows(folder, there, 2 * info.frames + SPARE_ROWS), named


def _video_files(
    folder: Folder, keys: Sequence[str], index: EpisodeIndex, info: Info, faults: dict[int, Finding]
) -> tuple[dict[str, Frames], list[str]]:
    """Frames of each camera feature, and the files that they are in."""
    frames: dict[str, Frames] = {}
    found: list[str] = []
    owner: dict[tuple[int, int], tuple[str, str]] = {}
    twice: dict[int, str] = {}
    taken: set[str] = set()
    for key in keys:
        clips = index.clips[key]
        places, which = np.unique(clips.places, axis=0, return_inverse=True)
        for number, (chunk, file) in enumerate(places.tolist()):
            name, what = _filled(info.video_path, info, (chunk, file), key), f"video file of camera {key}"
            if name in taken:
                raise VlawError(
                    f"video_path is {shown(info.video_path)}: several files of the index would be {name}",
                    where=info.where,
                    remedy="Name in it what tells them apart: {chunk_index}, {file_index} and {video_key}.",
                )
            taken.add(name)
            try:
                status = folder.locate(name, what=what).stat()
            except MissingFileError as error:
                for episode in np.flatnonzero(which.reshape(-1) == number).tolist():
                    text = f"episode {episode}: {error.what} ({name})"
                    faults.setdefault(episode, Finding("missing", text, "excluded", episode))
                continue
            found.append(name)
            other, its_name = owner.setdefault((status.st_dev, status.st_ino), (key, name))
            if other != key:
                text = f"two cameras are one file: {its_name} and {name}"
                twice |= dict.fromkeys(np.flatnonzero(which.reshape(-1) == number).tolist(), text)
        frames[key] = VideoFrames(
            key,
            clips,
            index.lengths,
            info.fps,
            info.frame_size(key),
            partial(_open_video, folder, info, key),
            partial(_filled, info.video_path, info, key=key),
        )
    if len(twice) == len(index):
        raise VlawError(
            next(iter(twice.values())),
            where=info.where,
            remedy="Where one camera is to serve for several of the robot's, say so: --camera NAME=FEATURE.",
        )
    for episode, text in twice.items():
        faults.setdefault(episode, Finding("shared_file", f"episode {episode}: {text}", "excluded", episode))
    return frames, found


def _lance_videos(
    stored: LanceVideos, keys: Sequence[str], index: EpisodeIndex, info: Info, faults: dict[int, Finding]
) -> dict[str, Frames]:
    frames: dict[str, Frames] = {}
    if keys:
        stored.load()
    for key in keys:
        clips = index.clips[key]
        for episode, (chunk, file) in enumerate(clips.places.tolist()):
            if not stored.has(key, (chunk, file)):
                text = f"episode {episode}: {VIDEOS} has no video {chunk}, {file} of {key}"
                faults.setdefault(episode, Finding("missing", text, "excluded", episode))
        frames[key] = VideoFrames(
            key,
            clips,
            index.lengths,
            info.fps,
            info.frame_size(key),
            partial(stored.open, key),
            partial("{0}, {1} {2}".format, VIDEOS, key),
        )
    return frames


def _open_video(folder: Folder, info: Info, key: str, place: Place) -> BinaryIO:
    return folder.open(_filled(info.video_path, info, place, key), what=f"video file of camera {key}")


def _filled(text: str, info: Info, place: Place, key: str = "") -> str:
    """The path of a data or video file."""
    chunk, file = place
    if info.version == 2:
        return text.format(episode_chunk=chunk, episode_index=file, video_key=key)
    return text.format(chunk_index=chunk, file_index=file, video_key=key)


def _pattern(text: str) -> str:
    """What the paths of a template's files look like."""
    parts = string.Formatter().parse(text)
    return "".join(glob.escape(literal) + ("*" if field is not None else "") for literal, field, _, _ in parts)
