"""`vlaw diff`: what differs between what two policies (or other artifacts) stand on."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli.diff_shifts import show_shifts
from vlaw_assets.cli.output import AsOf, console, existing_lake, print_json, print_table
from vlaw_assets.lineage.layout import SHORT
from vlaw_assets.partitions import join_partition
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

PARTITION = re.compile(r"([A-Za-z0-9_-]+)[|/]([0-9]{1,3})")
PREFIX = 8
"""Fewest characters of an artifact id that may name it."""


def diff(
    asset: Annotated[str, typer.Argument(help="The asset, e.g. policy.")],
    a: Annotated[str, typer.Argument(help="'vlaw/01' or 'vlaw|01', an artifact id, or an asset of the foundation.")],
    b: Annotated[str, typer.Argument(help="The other one, in the same ways.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs; with the ids of all episodes.")] = False,
    as_of: AsOf = None,
) -> None:
    """Why it may have got worse: shifts of success, data, judge and models, ranked, and all that was changed."""
    from vlaw_assets.lineage.closure import audit_of
    from vlaw_assets.lineage.differences import between
    from vlaw_assets.reports import shifts

    lake = existing_lake(as_of)
    left, right = (audit_of(lake, named(lake, asset, name)) for name in (a, b))
    found = between(lake, left, right)
    found["shifts"] = shifts.ranked([], []) if found["same"] else shifts.ranking(lake, left, right, found)
    if as_json:
        print_json(found, notes=lake.notes)
    else:
        _show(found, shlex.join(["vlaw", "compare", asset, a, b, *(["--as-of", as_of] if as_of else [])]))


def named(lake: Lake, asset: str, name: str) -> ArtifactRef:
    """The artifact that a person means. Raises VlawError for a name that is none or stands for several."""
    if match := PARTITION.fullmatch(name):
        return lake.ledger.require(asset, join_partition(match[1], int(match[2])))
    if (ref := lake.ledger.current(name, "")) is not None:
        return ref
    refs = lake.ledger.artifacts()
    found = [
        ref for ref in refs if ref.artifact_id == name or (len(name) >= PREFIX and ref.artifact_id.startswith(name))
    ]
    if len(found) == 1:
        return found[0]
    what = f"{name!r} stands for {len(found)} artifacts" if found else f"there is no {asset} {name!r}"
    known = list(dict.fromkeys(ref.partition.replace("|", "/") for ref in refs if ref.asset == asset and ref.partition))
    raise VlawError(
        what,
        where=str(lake.paths.root),
        remedy=f"Use {'one of ' + ', '.join(known[-8:]) + ', or ' if known else ''}an artifact id (vlaw audit --json).",
    )


def _show(found: dict[str, Any], compare: str) -> None:
    for side in ("a", "b"):
        console.print(
            f"{side}: {found[side]['name']} {found[side]['content_sha256'][:SHORT]} ({found[side]['artifact']})",
            markup=False,
            soft_wrap=True,
        )
    if found["same"]:
        console.print("no difference")
        return
    show_shifts(found["shifts"], compare)
    _table(
        "Recipe keys",
        ["key", "a", "b", "of"],
        [[row["key"], _value(row["a"]), _value(row["b"]), _pair(row["of"])] for row in _said_once(found["recipe"])],
    )
    _table(
        "Code",
        ["asset", "a", "b", "revisions", "of"],
        [
            [
                row["asset"],
                row["a"][:SHORT],
                row["b"][:SHORT],
                " -> ".join(text[:8] or "-" for text in row["revisions"]),
                _pair(row["of"]),
            ]
            for row in found["code"]
        ],
    )
    for key, role in (("judge", "judge"), ("world_model", "world_model")):
        rows = [
            [
                side,
                row["iteration"],
                row[role],
                (row["judge_sha256"] if key == "judge" else row["content_sha256"])[:SHORT] or "-",
                *([_value(row["alpha"])] if key == "judge" else []),
            ]
            for side in ("a", "b")
            for row in found[key][side]
        ]
        _table(
            key.replace("_", " ").capitalize(),
            ["only in", "iteration", role, "content", *(["alpha"] if key == "judge" else [])],
            rows,
        )
    for key, title in (("episodes", "Episodes read"), ("members", "Episodes learned from, through a training set")):
        rows = [
            [change, row["source"], row["task"], row["outcome"], str(row["count"])]
            for change in ("added", "removed", "changed")
            for row in found[key][change]["counts"]
        ]
        _table(title, ["b against a", "source", "task", "outcome", "count"], rows)
    rows = [
        [side[-1], row["name"], row["content_sha256"][:SHORT]]
        for side in ("only_a", "only_b")
        for row in found["artifacts"][side]
    ]
    _table("Artifacts", ["only in", "artifact", "content"], rows)
    if not any(found["artifacts"].values()):
        console.print("\nThe content is the same: only how it was made differs.")


def _said_once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The keys that differ; of a stage that was passed over on one side that alone, and not each key it did not
    read."""
    passed = {tuple(row["of"]) for row in rows if _is_passed_on(row)}
    whole = [tuple(row["of"]) not in passed or None not in (row["a"], row["b"]) for row in rows]
    return [row for row, shown in zip(rows, whole, strict=True) if shown or _is_passed_on(row)]


def _is_passed_on(row: dict[str, Any]) -> bool:
    return bool(row["key"] == f"{row['asset']}.pass_on")


def _table(title: str, header: list[str], rows: list[list[str]]) -> None:
    if rows:
        console.print()
        print_table([header, *rows], title=title)


def _pair(names: list[str]) -> str:
    return names[0] if names[0] == names[1] else " -> ".join(names)


def _value(value: Any) -> str:
    text = json.dumps(value, sort_keys=True) if value is not None else "-"
    return text if len(text) <= 40 else f"{text[:37]}..."
