"""The episodes of an export, and what the lake says of each besides its numbers: origin, outcome, score, weight."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vlaw_assets.exports.croissant import IMAGINED as BY_WORLD_MODEL
from vlaw_assets.exports.lerobot import layout
from vlaw_assets.exports.lerobot.layout import Layout
from vlaw_assets.importers.commit import ASSET as RECORDED
from vlaw_assets.importers.registry import NAME
from vlaw_assets.lake import labels, quarantine
from vlaw_assets.lake.lookup import Lookup, connected, source
from vlaw_assets.lake.picking import Key, pick
from vlaw_assets.partitions import single_partition
from vlaw_assets.reports.episodes import around
from vlaw_assets.reports.episodes.clips import Pictures, pictures_of
from vlaw_assets.reports.episodes.robots import numbers_of, robot_of
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.exports.lerobot.layout import Codec
    from vlaw_assets.lake import ArtifactRef, Lake

WHERE = "vlaw export lerobot"
TOGETHER = 64
"""Episodes whose states and actions are in memory together."""
NEGATIVE = "_negative"
"""End of the source of a member that is no example to follow."""
ODD, LEAST_SIDE = "h264", 4
"""The codec whose videos may have odd sides; pixels that a side of the others has at least."""
_ROW = ("artifact_id", "episode_id", "purpose", "world", "num_steps", "success", "cameras", "height", "width")


@dataclass(frozen=True)
class Facts:
    """What is known of one episode."""

    key: Key
    frames: int
    origin: str
    success: bool | None
    """By the label in force, else as recorded; None where nobody judged."""
    score: float | None
    weight: float | None
    """In the training set that is exported; None in none."""
    positive: bool

    @property
    def outcome(self) -> str:
        return layout.UNKNOWN if self.success is None else layout.SUCCESS if self.success else layout.FAILURE


@dataclass(frozen=True)
class Export:
    """What will be written."""

    layout: Layout
    facts: tuple[Facts, ...]
    """In the order in which they are written."""
    left_out: int
    """Episodes that are in quarantine."""

    @property
    def frames(self) -> int:
        return sum(item.frames for item in self.facts)

    def count(self, *, origin: str = "", outcome: str = "") -> int:
        """Episodes of that origin and outcome."""
        return sum(origin in ("", item.origin) and outcome in ("", item.outcome) for item in self.facts)


def imported(lake: Lake, words: list[str]) -> list[str]:
    """The words that name an artifact, where one word is the name of an imported dataset; else the words."""
    if len(words) != 1 or not NAME.fullmatch(words[0]):
        return words
    return [RECORDED, words[0], "0"] if lake.ledger.current(RECORDED, single_partition(words[0])) else words


def plan(
    lake: Lake, keys: Sequence[Key], members: ArtifactRef | None, codec: Codec, storage: str = layout.FILES
) -> Export:
    """Looks at the episodes of these keys, without their frames. VlawError where they make no dataset.

    Args:
        members: the training set that they are the members of.
        storage: one of `layout.STORAGES`.
    """
    import av

    if codec.encoder not in av.codec.codecs_available:
        raise VlawError(
            f"PyAV was built without {codec.encoder}", where=WHERE, remedy="Install the wheel of PyAV: pip install av"
        )
    apart = quarantine.in_force(lake)
    kept = [key for key in dict.fromkeys(keys) if key[1] not in apart]
    if not kept:
        raise VlawError(
            "no episode is left: all are in quarantine",
            where=WHERE,
            remedy="Choose others, or release them: vlaw quarantine EPISODE --release",
        )
    rows = _rows(lake, kept)
    said, scores = labels.outcomes(lake), around.scores(lake, set(kept))
    weights = _weights(lake, members) if members else {}
    facts = []
    for key in kept:
        row, member = rows[key], weights.get(key)
        facts.append(
            Facts(
                key,
                row["num_steps"] + 1,
                layout.IMAGINED if row["purpose"] in BY_WORLD_MODEL else layout.REAL,
                said.get(key[1], row["success"]),
                scores.get(key, {}).get("p"),
                member[0] if member else None,
                member is None or not member[1].endswith(NEGATIVE),
            )
        )
    common = replace(_layout(lake, rows, facts, codec), storage=storage)
    return Export(common, tuple(facts), len(dict.fromkeys(keys)) - len(kept))


def _rows(lake: Lake, keys: Sequence[Key]) -> dict[Key, dict[str, Any]]:
    holders = [lake.ledger.get(name) for name in dict.fromkeys(holder for holder, _ in keys)]
    wanted = set(keys)
    with Lookup(lake) as lookup:
        found = [
            dict(zip(_ROW, row, strict=True)) for row in lookup.rows("episodes", {k[1] for k in keys}, holders, _ROW)
        ]
    rows = {key: row for row in found if (key := (row["artifact_id"], row["episode_id"])) in wanted}
    empty = next((key for key in keys if not rows[key]["num_steps"]), None)
    if empty is not None:
        raise VlawError(
            f"episode {empty[1]} has no step: nothing was done in it",
            where=WHERE,
            remedy="Leave it out, e.g. by SQL: select episode_id from episodes where num_steps > 0",
        )
    return rows


def _weights(lake: Lake, members: ArtifactRef) -> dict[Key, tuple[float, str]]:
    columns = ["owner", "episode_id", "weight", "source"]
    with connected(os.getpid()) as connection:
        rows = connection.execute(source(lake, "members", [lake.ledger.get(members.owner)], columns)).fetchall()
    return {(owner, name): (weight, where) for owner, name, weight, where in rows}


def _layout(lake: Lake, rows: Mapping[Key, dict[str, Any]], facts: Sequence[Facts], codec: Codec) -> Layout:
    """What they have in common. VlawError where they have not."""
    frames: dict[tuple[Any, ...], None] = {}
    worlds: dict[tuple[str, str], None] = {}
    for item in facts:
        row = rows[item.key]
        frames[tuple(row["cameras"]), row["height"], row["width"]] = None
        # The world of an imagined episode is a world model's: its artifact names the robot, or nobody does.
        worlds[item.key[0], (row["world"] or "") if item.origin == layout.REAL else ""] = None
    found = [robot_of(lake.ledger.get(holder), world) for holder, world in worlds]
    robots = {robot.name: robot for robot in found if robot is not None}
    if len(frames) > 1 or len(robots) > 1:
        listed = list(robots) if len(robots) > 1 else [f"{', '.join(c)} of {w}x{h} pixels" for c, h, w in frames]
        raise VlawError(
            f"the episodes are of {len(listed)} kinds: {'; '.join(listed)}",
            where=WHERE,
            remedy="A dataset of LeRobot has one robot, and one size of frames: export them one after the other.",
        )
    [(cameras, height, width)] = frames
    if codec.name != ODD and (height % 2 or width % 2 or min(height, width) < LEAST_SIDE):
        raise VlawError(
            f"frames of {width}x{height} pixels: videos of this codec have even sides, of {LEAST_SIDE} at least",
            where=WHERE,
            remedy=f"Use --codec {ODD}.",
        )
    [first] = pick(lake, [facts[0].key], images=False).values()
    robot = next(iter(robots.values()), None)
    names = {
        which: tuple(name for name, _ in numbers_of(robot, first.ref, which, values.shape[1]))
        for which, values in (("state", first.episode.states), ("action", first.episode.actions))
    }
    imagined = any(item.origin == layout.IMAGINED for item in facts)
    return Layout(
        rate=first.episode.control_hz,
        robot_type=(robot.name if robot else "unknown") + (layout.MADE_UP if imagined else ""),
        cameras=cameras,
        size=(height, width),
        state=names["state"],
        action=names["action"],
        judged=all(item.success is not None for item in facts),
        weighted=any(item.weight is not None for item in facts),
        codec=codec,
    )


def read(lake: Lake, export: Export, *, redraw: bool) -> Iterator[tuple[Facts, Pictures]]:
    """The episodes with all of their frames, one after the other, a few in memory. VlawError for damaged data, and for
    one of another shape than the first, or without all of its frames."""
    for begin in range(0, len(export.facts), TOGETHER):
        part = export.facts[begin : begin + TOGETHER]
        picked = pick(lake, [item.key for item in part], images=False)
        shown = (pictures for some in pictures_of(lake, picked, redraw=redraw) for pictures in some)
        for item, pictures in zip(part, shown, strict=True):
            _check(item, pictures, export.layout)
            yield item, pictures


def _check(item: Facts, pictures: Pictures, common: Layout) -> None:
    episode = pictures.item.episode
    found = 0 if pictures.images is None else len(pictures.images)
    if found != item.frames:
        raise VlawError(
            f"episode {item.key[1]} has {found} of its {item.frames} frames. {pictures.said}".rstrip(),
            where=WHERE,
            remedy="Leave it out, e.g. by SQL: select episode_id from episodes where num_frames > num_steps",
        )
    shapes = (episode.states.shape[1], episode.actions.shape[1], episode.control_hz)
    expected = (len(common.state), len(common.action), common.rate)
    if shapes != expected:
        raise VlawError(
            f"episode {item.key[1]} has {shapes[0]} numbers of state and {shapes[1]} of action at {shapes[2]:g} Hz, "
            f"the first one {expected[0]} and {expected[1]} at {expected[2]:g} Hz",
            where=WHERE,
            remedy="A dataset of LeRobot has one robot: export them one after the other.",
        )
