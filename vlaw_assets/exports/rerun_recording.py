"""Episodes as one Rerun recording, with the layout in which to look at them.

Below an entity named by the episode's id lie its cameras (an MP4 each, and which of its frames is shown when), state
and action, rewards and score, outcome and labels, all over the timelines `step` and `time`, and what is known of the
episode as a whole. A tab per episode shows them. Frames are as `vlaw watch` shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.lake.durable import digest_of
from vlaw_assets.lake.picking import Key, Picked
from vlaw_assets.partitions import split_partition
from vlaw_assets.reports.episodes import around
from vlaw_assets.reports.episodes.clips import Pictures, pictures_of
from vlaw_assets.reports.episodes.robots import numbers_of, robot_of
from vlaw_models.errors import VlawError
from vlaw_models.mp4 import encode_mp4

if TYPE_CHECKING:
    from rerun import RecordingStream, TimeColumn
    from rerun.blueprint import Vertical

    from vlaw_assets.lake import Lake

APPLICATION = "vlaw"
STEP, TIME = "step", "time"
"""The timelines: control steps, and seconds since the episode began."""
WHERE = "vlaw export rerun"


def recording(
    lake: Lake,
    shown: Mapping[Key, Picked],
    *,
    title: str,
    redraw: bool,
    tell: Callable[[int, int], None] | None = None,
) -> bytes:
    """The bytes of an .rrd file with these episodes, which have no images yet. `redraw`, `tell`: see `pictures_of`.

    VlawError where Rerun's SDK is not installed or switched off, and for damaged or missing data.
    """
    try:
        import rerun
        from rerun import blueprint
    except ImportError as error:
        raise VlawError(
            "Rerun's SDK is not installed", where=WHERE, remedy='Install it: pip install "vlaw[rerun]".'
        ) from error
    known = _Known(lake, shown)
    # Its id goes by what is in it: exporting the same episodes again gives the same recording.
    stream = rerun.RecordingStream(APPLICATION, recording_id=digest_of(list(shown))[:32], send_properties=False)
    if not rerun.is_enabled(stream):
        raise VlawError("Rerun is switched off", where="RERUN in the environment", remedy="Unset RERUN.")
    written = rerun.binary_stream(stream)
    strict = rerun.strict_mode()
    rerun.set_strict_mode(True)  # what is wrong is raised, not printed
    try:
        stream.send_recording_name(title)
        tabs = []
        for part in pictures_of(lake, shown, redraw=redraw, tell=tell):
            tabs += [_episode(stream, pictures, known) for pictures in part]
        stream.send_blueprint(
            blueprint.Blueprint(
                blueprint.Tabs(*tabs, active_tab=0) if len(tabs) > 1 else tabs[0],
                blueprint.TimePanel(timeline=TIME, state="collapsed"),
            )
        )
        return written.read() or b""
    finally:
        rerun.set_strict_mode(strict)
        stream.disconnect()


class _Known:
    """What the lake says of these episodes besides their rows."""

    def __init__(self, lake: Lake, shown: Mapping[Key, Picked]):
        self.scores = around.scores(lake, shown.keys())
        self.labels = around.labelled(lake, {name for _, name in shown})
        self.apart = around.quarantined(lake, shown.keys())
        names = [name for _, name in shown]
        self.roots = {key: [key[1]] if names.count(key[1]) == 1 else [key[1], key[0]] for key in shown}
        """Key -> parts of the episode's path: its id, of two that have the same their artifacts too."""

    def said(self, key: Key) -> list[dict[str, Any]]:
        """Every label that people gave the episode, the oldest first."""
        return self.labels.get(key[1], {}).get("labels", [])


def _episode(stream: RecordingStream, pictures: Pictures, known: _Known) -> Vertical:
    """Logs one episode; returns its tab."""
    import rerun
    from rerun import blueprint

    item, episode = pictures.item, pictures.item.episode
    parts = known.roots[item.key]
    root = rerun.new_entity_path(parts)
    facts = _facts(pictures, known)
    told = {name: value for name, value in facts.items() if value not in (None, "")}
    stream.log(root, rerun.AnyValues(**told), static=True)
    text = "\n".join(f"{name}: {value}" for name, value in told.items())
    stream.log(f"{root}/about", rerun.TextDocument(text, media_type="text/plain"), static=True)
    cameras = _cameras(stream, pictures, parts)
    robot = robot_of(item.ref, item.row["world"] or "")
    curves = []
    for which, values in (("state", episode.states), ("action", episode.actions)):
        if values.size:
            names = numbers_of(robot, item.ref, which, values.shape[1])
            named = [f"{name} ({unit})" if unit else name for name, unit in names]
            stream.log(f"{root}/{which}", rerun.SeriesLines(names=named), static=True)
            _scalars(stream, f"{root}/{which}", range(len(values)), values, episode.control_hz)
            curves.append(blueprint.TimeSeriesView(origin=f"{root}/{which}", name=which))
    judged = [(step, value) for step, value in enumerate(item.rewards) if value is not None]
    if judged:
        steps, rewards = zip(*judged, strict=True)
        _scalars(stream, f"{root}/reward", steps, np.array(rewards)[:, None], episode.control_hz)
        contents = [f"{root}/reward", f"{root}/score"]
        curves.append(blueprint.TimeSeriesView(origin=root, contents=contents, name="reward, score"))
    if facts["p_success"] is not None:
        stream.log(f"{root}/score", rerun.SeriesPoints(names="P(success)"), static=True)
        _scalars(stream, f"{root}/score", [episode.num_steps], np.array([[facts["p_success"]]]), episode.control_hz)
    ends = [("outcome", facts["recorded"])]
    ends += [("label", f"{said['label']}: {said['who']}, {said['at']}: {said['why']}") for said in known.said(item.key)]
    for which, line in ends:
        columns = rerun.TextLog.columns(text=[line])
        stream.send_columns(f"{root}/{which}", _times([episode.num_steps], episode.control_hz), columns)
    texts = [
        blueprint.TextDocumentView(origin=f"{root}/about", name="episode"),
        blueprint.TextLogView(origin=root, contents=[f"{root}/outcome", f"{root}/label"], name="outcome, labels"),
    ]
    rows = [blueprint.Horizontal(*views) for views in (cameras, curves, texts) if views]
    shares = [3, 2, 2][-len(rows) :] if cameras else None
    return blueprint.Vertical(*rows, row_shares=shares, name=f"{episode.task}, {facts['outcome']}: {parts[0]}")


def _facts(pictures: Pictures, known: _Known) -> dict[str, Any]:
    """What is known of the episode as a whole, as plain values; None where it is not."""
    item, episode = pictures.item, pictures.item.episode
    experiment, iteration = split_partition(item.ref.partition)
    judged = "not judged" if episode.success is None else "success" if episode.success else "failure"
    said, score = known.labels.get(episode.episode_id, {}), known.scores.get(item.key, {})
    return {
        "episode_id": episode.episode_id,
        "task": episode.task,
        "instruction": episode.instruction,
        "source": item.row["purpose"],
        "world": item.row["world"],
        "experiment": experiment,
        "iteration": iteration or None,
        "outcome": said.get("outcome", judged),
        "recorded": judged if episode.event in ("", judged) else f"{judged}: {episode.event}",
        "label_by": said.get("label"),
        "p_success": score.get("p"),
        "alpha": score.get("alpha"),
        "judge": score.get("by"),
        "quarantined": known.apart.get(episode.episode_id),
        "start_episode_id": episode.start_episode_id,
        "seed": episode.seed,
        "num_steps": episode.num_steps,
        "control_hz": episode.control_hz,
        "policy": item.row["policy"],
        "world_model": item.row["world_model"],
        "artifact": item.ref.name,
        "artifact_id": item.ref.artifact_id,
        "frames": pictures.said,
    }


def _cameras(stream: RecordingStream, pictures: Pictures, parts: list[str]) -> list[Any]:
    """Logs a video per camera; returns their views."""
    import rerun
    from rerun import blueprint

    images, episode = pictures.images, pictures.item.episode
    if images is None:
        return []
    views = []
    first = episode.num_steps + 1 - len(images)  # what was kept are the last frames
    for place in range(images.shape[1]):
        name = episode.cameras[place] if episode.cameras else f"camera {place}"
        path = rerun.new_entity_path([*parts, "cameras", name])
        video = rerun.AssetVideo(contents=encode_mp4(images[:, place], episode.control_hz), media_type="video/mp4")
        stream.log(path, video, static=True)
        stream.send_columns(
            path,
            _times(range(first, episode.num_steps + 1), episode.control_hz),
            rerun.VideoFrameReference.columns_nanos(video.read_frame_timestamps_nanos()),
        )
        views.append(blueprint.Spatial2DView(origin=path, name=name))
    return views


def _scalars(stream: RecordingStream, path: str, steps: Any, values: np.ndarray, rate: float) -> None:
    import rerun

    stream.send_columns(path, _times(steps, rate), rerun.Scalars.columns(scalars=values.astype(np.float64)))


def _times(steps: Any, rate: float) -> list[TimeColumn]:
    import rerun

    numbers = np.array(list(steps), np.int64)
    return [rerun.TimeColumn(STEP, sequence=numbers), rerun.TimeColumn(TIME, duration=numbers / rate)]
