"""Labels: what people say of episodes after watching them. The latest holds; what was said before stays on the list.

The list is an artifact of its own (see listed.py). An episode's row keeps the success that it was recorded with; a
label outweighs it, and the judge of an imagined episode, in everything made from now on. What was made before keeps the
labels it was made with: an edge leads to that version of the list. A near success counts as a failure.

The list also says what an episode is used for (decisions.py): of one for world models alone no outcome is given away,
so that nobody counts it or learns from it what success is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from vlaw_assets.lake import listed, quarantine
from vlaw_assets.lake.artifact import ArtifactRef, Identity
from vlaw_assets.lake.decisions import as_stored, withheld
from vlaw_assets.lake.listed import Change
from vlaw_assets.lake.lookup import Lookup
from vlaw_assets.lake.rules import EXCLUDED, KEEP, LABELS, SAID, WORLD_MODEL_ONLY
from vlaw_assets.once import once
from vlaw_models.errors import VlawError
from vlaw_models.plain_text import is_text

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

ASSET = ROLE = "labels"
"""Name of the asset and of its only table, and role of the edges to it."""
COLUMNS = ("episode_id", "label", "who", "why", "at")
Given = tuple[str, str, str, str]
"""(episode id, label, who says so, why)."""


def latest(lake: Lake) -> ArtifactRef | None:
    """The list as this lake sees it, also as of a moment."""
    return listed.latest(lake, ASSET)


def history(lake: Lake, ref: ArtifactRef | None = None) -> list[dict[str, Any]]:
    """Every label that was given, {episode_id, label, who, why, at}, the oldest first; of one list, default the
    latest."""
    return listed.rows(lake, ref or latest(lake), COLUMNS)


def in_force(lake: Lake, ref: ArtifactRef | None = None) -> dict[str, dict[str, Any]]:
    """Episode id -> its latest label, {episode_id, label, who, why, at}; of one list, default the latest."""
    return {row["episode_id"]: row for row in history(lake, ref) if row["label"] in LABELS}


def decisions(lake: Lake, ref: ArtifactRef | None = None) -> dict[str, dict[str, Any]]:
    """Episode id -> what was last decided of its use, a row as of `in_force`; of one list, default the latest."""
    return {row["episode_id"]: row for row in history(lake, ref) if row["label"] not in LABELS}


def words(lake: Lake, ref: ArtifactRef | None = None) -> dict[str, str]:
    """Episode id -> all that holds of it in words: "failure", "success, world_model_only"."""
    parts = [in_force(lake, ref), decisions(lake, ref)]
    return {
        name: ", ".join(part[name]["label"] for part in parts if name in part)
        for name in dict.fromkeys(name for part in parts for name in part)
    }


def outcomes(lake: Lake, ref: ArtifactRef | None = None) -> dict[str, bool | None]:
    """Episode id -> success, as the labels in force have it, None where it is for world models alone; of one list,
    default the latest."""
    decided = {name: row["label"] for name, row in decisions(lake, ref).items()}
    found: dict[str, bool | None] = {name: success(row) for name, row in in_force(lake, ref).items()}
    kept = [name for name, decision in decided.items() if decision == KEEP and name not in found]
    with Lookup(lake) as lookup:  # kept, and not labelled: the outcome that was recorded
        found |= dict(lookup.rows("episodes", kept, lake.ledger.artifacts(), ["episode_id", "success"]))
    return found | {name: None for name, decision in decided.items() if decision == WORLD_MODEL_ONLY}


def success(row: Mapping[str, Any]) -> bool:
    """What a label counts as."""
    return bool(row["label"] == LABELS[0])


def label_episodes(
    lake: Lake, given: Sequence[Given], *, where: Callable[[int], str] | None = None, run_id: str = "label"
) -> Change:
    """Label episodes, real or imagined, in one commit; of an episode that is given twice the last one holds.

    Args:
        given: (episode id, 'success' | 'failure' | 'near_success' or 'keep' | 'world_model_only' | 'excluded', who
            says so, why). What is excluded goes into quarantine, and what is kept comes out of it, in
            commits of their own after that of the labels: said again after a failure, what is missing is done.
        where: names the place of the label of that index for an error, e.g. 'labels.csv, line 7'.

    Returns: the list now, the episodes that got a label, and those whose label in force was that very one, word for
    word. Raises VlawError, and changes nothing, where an episode is in no artifact, a label is none of these, or
    `who` or `why` is empty; and where somebody else labels at the same time.
    """
    place = where or (lambda index: f"label {index + 1} of {len(given)}" if len(given) > 1 else "label")
    _check(lake, given, place)
    before = latest(lake)
    rows = history(lake, before)
    held = {_about(row["episode_id"], row["label"]): row for row in rows}
    at, changed = datetime.now(UTC), dict[str, str]()
    for name, label, who, why in given:
        if label == EXCLUDED:
            continue
        about = _about(name, label)
        if (old := held.get(about)) and (old["label"], old["who"], old["why"]) == (label, who, why):
            continue
        held[about] = {"episode_id": name, "label": label, "who": who, "why": why, "at": at}
        rows.append(held[about])
        changed[name] = label
    ref = before
    if changed:
        metrics = {"labelled": len(changed), "labels": dict(list(changed.items())[:SHOWN])}
        ref = listed.commit(lake, ASSET, before, rows, metrics=metrics, run_id=run_id)
    changed |= dict.fromkeys(_excluded(lake, given, run_id), EXCLUDED)
    unchanged = tuple(name for name in dict.fromkeys(item[0] for item in given) if name not in changed)
    return Change(ref, tuple(changed), unchanged)


def _excluded(lake: Lake, given: Sequence[Given], run_id: str) -> list[str]:
    """Puts what is excluded into quarantine, and takes out what is kept after all; returns those that were moved."""
    last = {name: (label, who, why) for name, label, who, why in given if label not in LABELS}
    moved: list[str] = []
    for said in dict.fromkeys(last.values()):
        ids = [name for name, of in last.items() if of == said]
        change = quarantine.add if said[0] == EXCLUDED else quarantine.release
        moved += change(lake, ids, why=said[2], by=said[1], run_id=run_id).changed
    return moved


SHOWN = 20
"""Episodes that the ledger row names, of one commit; the list has all."""


def _about(episode_id: str, label: str) -> tuple[str, bool]:
    """What one statement replaces: what was said before of how the episode ended, or of its use."""
    return episode_id, label in LABELS


def with_labels(
    lake: Lake,
    identity: Identity,
    parents: Iterable[ArtifactRef],
    *,
    known: Mapping[str, Mapping[str, bool | None]] | None = None,
) -> tuple[Identity, ArtifactRef | None]:
    """The identity of what is made now, by what people say of its parents' episodes.

    Args:
        known: `corrections(lake)`, where a caller has many questions.

    Returns: (identity, the list to name in `Draft.label_by`, None where no episode is read otherwise than recorded).
    """
    ref = latest(lake)
    if ref is None:
        return identity, None
    owners = {parent.owner: lake.ledger.get(parent.owner) for parent in parents}
    here = corrections(lake, list(owners.values())) if known is None else known
    said: dict[str, bool | None] = {}
    for owner in owners:
        said |= here.get(owner, {})
    return (dataclasses.replace(identity, labels=tuple(said.items())), ref) if said else (identity, None)


def corrections(lake: Lake, among: Collection[ArtifactRef] | None = None) -> dict[str, dict[str, bool | None]]:
    """Artifact id -> {episode id: success} of the episodes it holds whose outcome in force is not as stored; of all
    artifacts, or of some."""
    if among is None:
        return _everywhere(lake)
    said = outcomes(lake)
    found: dict[str, dict[str, bool | None]] = {}
    if not said:
        return found
    columns = ["artifact_id", "episode_id", "success", "extra_json"]
    with Lookup(lake) as lookup:
        for artifact, name, recorded, extra in lookup.rows("episodes", said, among, columns):
            if said[name] is not as_stored(recorded, extra):
                found.setdefault(artifact, {})[name] = said[name]
    return found


@once
def _everywhere(lake: Lake) -> dict[str, dict[str, bool | None]]:
    return corrections(lake, lake.ledger.artifacts())


def list_of(lake: Lake, ref: ArtifactRef) -> ArtifactRef | None:
    """The list by which the parents' episodes were read when `ref` was made; None where they were read as recorded."""
    return next(
        (parent for role, parent in lake.ledger.edges(ref.owner) if role == ROLE and parent.asset == ASSET), None
    )


def labelled(table: pa.Table, said: Mapping[str, bool | None]) -> pa.Table:
    """Rows of `episodes` (episode_id, success and extra_json among the columns) with the success that people say, and
    none where the episode is for world models alone."""
    success = withheld(table)
    if said:
        index = pc.index_in(table["episode_id"], value_set=pa.array(list(said), pa.string()))
        known = pc.take(pa.array(list(said.values()), pa.bool_()), index)
        success = pc.if_else(pc.is_valid(index), known, success)
    return table.set_column(table.column_names.index("success"), table.schema.field("success"), success)


def _check(lake: Lake, given: Sequence[Given], place: Callable[[int], str]) -> None:
    for index, (name, label, who, why) in enumerate(given):
        if label not in (*SAID, EXCLUDED):
            raise VlawError(
                f"{label!r} is no label", where=place(index), remedy=f"one of {', '.join((*SAID, EXCLUDED))}"
            )
        for what, text, example in (("who", who, "ann"), ("why", why, "the cup tips over at the end")):
            if not is_text(text):
                raise VlawError(f"{what} is no text", where=place(index), remedy="give it in UTF-8")
            if not text.strip():
                raise VlawError(
                    f"{what} says that {name} is a {label} is missing" if what == "who" else "a reason is missing",
                    where=place(index),
                    remedy=f"say {what}: --{what} {example!r}, or the column {what} of the file",
                )
    unknown = set(listed.unknown(lake, [item[0] for item in given])) if given else set()
    for index, (name, *_) in enumerate(given):
        if name in unknown:
            raise VlawError(
                f"no artifact holds an episode {name!r}"
                + (f", nor {len(unknown) - 1} more" if unknown - {name} else ""),
                where=place(index),
                remedy='look it up: vlaw sql "select episode_id, task, success from episodes"',
            )
