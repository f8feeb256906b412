"""A folder with episodes as Parquet files and a Croissant 1.1 card that describes them: what is uploaded to a hub.

The card (croissant.json, JSON-LD) has everything that is needed to read the files: names, types and meaning of all
columns, sizes and sha256, and where the data come from, as far as the ledger knows. Its version goes by the content.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vlaw_assets.exports.columns import TYPES, described
from vlaw_assets.exports.dataset import Chosen, Table, Written, choose, write
from vlaw_assets.lake.durable import as_written, digest_of, fsync_files
from vlaw_assets.lake.paths import FORMAT_VERSION
from vlaw_assets.reports.episodes.clips import RECORDED
from vlaw_assets.reports.episodes.robots import robot_of
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_models.robots.spec import RobotSpec

CARD = "croissant.json"
FILES = frozenset({CARD, "episodes.parquet", "steps.parquet", "frames.parquet"})
PARQUET = "application/x-parquet"
NAMES = {"episodes": "Episodes", "steps": "Control steps", "frames": "Camera frames"}
KEYS = {
    "episodes": ("artifact_id", "episode_id"),
    "steps": ("artifact_id", "episode_id", "step"),
    "frames": ("artifact_id", "episode_id", "step", "camera"),
}
IMAGINED = ("imagined", "replay")
"""Purposes of episodes that a world model made."""
TERMS = (
    "arrayShape",
    "citeAs",
    "column",
    "containedIn",
    "equivalentProperty",
    "extract",
    "field",
    "fileObject",
    "fileProperty",
    "fileSet",
    "format",
    "includes",
    "isArray",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
)
"""Of Croissant, which the card may use without a prefix."""
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in TERMS},
}
"""As the specification gives it."""


@dataclass(frozen=True)
class Stated:
    """What no ledger knows; '' where it is not said."""

    licence: str = ""
    """A URL, or a name of SPDX's list."""
    creator: str = ""
    url: str = ""


def write_folder(
    lake: Lake, ref: ArtifactRef | None, folder: Path, *, frames: bool, stated: Stated, force: bool
) -> Written:
    """Writes the folder, whole or not at all; of an artifact, or of the lake. Returns what is in it.

    VlawError for an artifact without episodes, damaged data, and a folder that is there: `force` replaces one that
    holds such a dataset and nothing else.
    """
    check_target(folder, lake, force=force)
    chosen = choose(lake, ref)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        draft.mkdir(parents=True)
        written = write(lake, chosen, draft, frames=frames)
        (draft / CARD).write_text(as_written(card(lake, chosen, written, stated)), encoding="utf-8")
        fsync_files([draft / name for name in (CARD, *(table.file for table in written.tables))], root=draft)
        if folder.exists():
            folder.replace(aside)
        draft.replace(folder)
        fsync_files([folder / CARD], root=folder.parent)
    except OSError as error:
        if aside.exists() and not folder.exists():
            aside.replace(folder)
        raise VlawError(
            f"the dataset cannot be written: {error.strerror}", where=str(folder), remedy="Name another folder."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
    return written


def check_target(folder: Path, lake: Lake, *, force: bool) -> None:
    """VlawError for a folder inside the lake, and for one that is there and may not be replaced."""
    if folder.resolve().is_relative_to(lake.paths.root.resolve()):
        raise VlawError("a dataset does not belong inside the lake", where=str(folder), remedy="Name another folder.")
    if not os.path.lexists(folder):
        return
    if not force:
        raise VlawError(
            "the folder exists", where=str(folder), remedy="Name another folder, or replace it with --force."
        )
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - FILES:
        raise VlawError(
            "it holds something else than a dataset that was exported, and is not replaced",
            where=str(folder),
            remedy="Name another folder.",
        )


def card(lake: Lake, chosen: Chosen, written: Written, stated: Stated) -> dict[str, Any]:
    """The card as plain values. The same lake gives the same card."""
    made = [holder.created_at for holder in chosen.holders] + ([chosen.ref.created_at] if chosen.ref else [])
    robots = {robot.name: robot for robot in _robots(chosen, written)}
    robot = next(iter(robots.values())) if len(robots) == 1 else None
    digest = digest_of({table.file: table.sha256 for table in written.tables})
    said = {"license": stated.licence, "url": stated.url}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": chosen.name,
        "description": _description(chosen, written, robots),
        "version": f"{FORMAT_VERSION}.0.0+{digest}",
        "dateCreated": min(made).astimezone(UTC).isoformat(timespec="seconds"),
        "datePublished": max(made).astimezone(UTC).isoformat(timespec="seconds"),
        "keywords": ["robotics", "robot learning", "vlaw", *robots],
        **{name: value for name, value in said.items() if value},
        **({"creator": {"@type": "sc:Organization", "name": stated.creator}} if stated.creator else {}),
        "isBasedOn": [
            {
                "@type": "sc:CreativeWork",
                "name": source.name,
                "identifier": source.artifact_id,
                "version": source.content_digest,
            }
            for source in _sources(lake, chosen)
        ],
        **_responsible(chosen, written, made),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": table.file,
                "name": table.file,
                "description": f"{NAMES[table.name]}: {table.rows} rows.",
                "contentUrl": table.file,
                "contentSize": f"{table.size} B",
                "encodingFormat": PARQUET,
                "sha256": table.sha256,
            }
            for table in written.tables
        ],
        "recordSet": [_record_set(table, written, robot) for table in written.tables],
    }


def _robots(chosen: Chosen, written: Written) -> list[RobotSpec]:
    worlds = sorted({world for purpose, world, _ in written.counts if purpose not in IMAGINED})
    found = [robot_of(holder, world) for holder in chosen.holders for world in (worlds or [""])]
    return [robot for robot in found if robot is not None]


def _description(chosen: Chosen, written: Written, robots: dict[str, RobotSpec]) -> str:
    rows = {table.name: table.rows for table in written.tables}
    purposes: Counter[str] = Counter()
    for (purpose, _, _), count in written.counts.items():
        purposes[purpose] += count
    counted = ", ".join(f"{count} {purpose.replace('_', ' ')}" for purpose, count in sorted(purposes.items()))
    text = f"{chosen.about} {rows['episodes']} episodes ({counted}), {rows['steps']} rows of steps."
    for robot in robots.values():
        cameras = ", ".join(robot.camera_names)
        text += f" Robot {robot.name}: {robot.control_hz:g} control steps a second, cameras {cameras}."
        text += f" Success: {robot.success}" + ("" if robot.success.endswith(".") else ".")
    if "frames" not in rows:
        text += " Without camera frames."
    return text


def _sources(lake: Lake, chosen: Chosen) -> list[ArtifactRef]:
    """The artifacts that hold the episodes; of a dataset that was made from others all that it stands on."""
    listed = list(chosen.holders) if chosen.ref is None else lake.ledger.closure(chosen.ref)
    return list({source.artifact_id: source for source in listed}.values())


def _responsible(chosen: Chosen, written: Written, made: list[datetime]) -> dict[str, Any]:
    """The properties of Croissant RAI that the ledger knows something of."""
    lines, kinds, limits = [], [], []
    for (purpose, world, by), count in sorted(written.counts.items()):
        how = "imagined by a world model" if purpose in IMAGINED else "recorded" if by == RECORDED else "run"
        where = f" in {world}" if world else ""
        lines.append(f"{count} episodes of purpose {purpose}: {how}{where}; success from: {by or 'nobody'}.")
        kinds.append("Software Collection" if purpose in IMAGINED else "Experiments")
    if any(purpose in IMAGINED for purpose, _, _ in written.counts):
        limits.append(
            "Frames of imagined and replayed episodes, after the first, are a world model's, and success in them is "
            "not known but by a judge or a label."
        )
    if written.left_out:
        limits.append(f"{written.left_out} episodes were left out: they are in quarantine.")
    annotated = ["Column success: the world that an episode ran in says it, or its recording; where a person labelled "]
    annotated[0] += f"the episode, the latest label holds ({written.labelled} episodes; column recorded has the other)."
    frame = [f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S}" for time in (min(made), max(made))]
    judges = [] if chosen.ref is None else _judges(chosen.ref)
    return {
        "rai:dataCollection": " ".join(lines),
        "rai:dataCollectionType": sorted(set(kinds)),
        "rai:dataCollectionTimeFrame": frame,
        "rai:dataAnnotationProtocol": annotated,
        **({"rai:machineAnnotationTools": judges} if judges else {}),
        **({"rai:dataLimitations": limits} if limits else {}),
    }


def _judges(ref: ArtifactRef) -> list[str]:
    """What decided which imagined episodes a training set took."""
    try:
        score = json.loads(ref.recipe_json)["score"]
    except (KeyError, TypeError, ValueError):
        return []
    settings = ", ".join(f"{name} {value}" for name, value in sorted(score.items()))
    return [f"The reward model of this iteration chose imagined episodes, with: {settings}."]


def _record_set(table: Table, written: Written, robot: RobotSpec | None) -> dict[str, Any]:
    references = table.name != "episodes" and written.unique
    return {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": f"{NAMES[table.name]}, one row each.",
        "key": [{"@id": f"{table.name}/{column}"} for column in KEYS[table.name]],
        "field": [_field(table, column, robot, references=references) for column in table.schema],
    }


def _field(table: Table, column: pa.Field, robot: RobotSpec | None, *, references: bool) -> dict[str, Any]:
    listed = pa.types.is_list(column.type)
    kind = column.type.value_type if listed else column.type
    vector = {"state": robot.state, "action": robot.action}.get(column.name) if robot and listed else None
    found: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{table.name}/{column.name}",
        "name": column.name,
        "description": described(column.name, vector),
        "dataType": TYPES[str(kind)],
        "source": {"fileObject": {"@id": table.file}, "extract": {"column": column.name}},
    }
    if listed:
        found |= {"isArray": True, "arrayShape": str(len(vector)) if vector else "-1"}
    if references and column.name == "episode_id":
        found["references"] = {"field": {"@id": "episodes/episode_id"}}
    return found
