"""`vlaw quarantine`: take episodes out of everything made from now on, and see what has used them."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli.output import AsOf, console, existing_lake, print_json, print_table
from vlaw_assets.cli.tell import tell_dagster
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_assets.rebuild.staleness import Stale


SHOWN = 3
"""Names given of artifacts that are blocked for one reason."""


def quarantine(
    episodes: Annotated[list[str] | None, typer.Argument(help="Episode ids; none: show the list.")] = None,
    *,
    why: Annotated[str, typer.Option(help="The reason, kept with the list.")] = "",
    release: Annotated[bool, typer.Option("--release", help="Take them off the list again.")] = False,
    by: Annotated[str, typer.Option(help="Who says so; default: the user of this machine.")] = "",
    as_of: AsOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Exclude episodes from every later dataset; prints what is stale by it, and the partitions to rebuild."""
    from vlaw_assets.environment import default_recipes
    from vlaw_assets.lake import quarantine as listed
    from vlaw_assets.rebuild.staleness import stale

    lake = existing_lake(as_of)
    change = None
    if episodes:
        if as_of is not None:
            raise VlawError("the past cannot be changed", where="--as-of", remedy="leave --as-of out")
        who = by or getpass.getuser()
        change = (
            listed.release(lake, episodes, why=why, by=who) if release else listed.add(lake, episodes, why=why, by=who)
        )
    rows = list(listed.quarantined(lake).values())
    if change and change.changed and change.ref:
        tell_dagster(lake, change.ref)
    found = stale(lake, recipes=default_recipes()) if change else []
    if as_json:
        print_json(
            {
                "changed": change.changed if change else (),
                "unchanged": change.unchanged if change else (),
                "quarantine": rows,
                "stale": [plain(item) for item in found],
                "partitions": partitions(found),
            },
            notes=lake.notes,
        )
        return
    if change is None:
        print_table(
            [
                ["episode", "since", "by", "why"],
                *([row["episode_id"], row["at"].strftime("%Y-%m-%d %H:%M"), row["by"], row["why"]] for row in rows),
            ]
        )
        return
    for name in change.changed:
        console.print(f"{name}: {'released' if release else 'in quarantine'}", markup=False)
    for name in change.unchanged:
        console.print(
            f"{name}: {'is not in quarantine' if release else 'is in quarantine already: ' + _reason(rows, name)}",
            markup=False,
            soft_wrap=True,
        )
    if change.changed and not release:
        _say_what_has_no_record(lake, change.changed)
    show(found)


def _say_what_has_no_record(lake: Lake, ids: tuple[str, ...]) -> None:
    """Weights that were taken into the lake as they are have no edge to the episodes they were trained on."""
    from vlaw_assets.lake.lookup import Lookup

    with Lookup(lake) as lookup:
        of_foundation = [name for name in ids if any(not ref.partition for ref in lookup.holders(name))]
    if of_foundation:
        console.print(
            "the pretrained weights of the foundation have no record of what they were trained on: they cannot be "
            "rebuilt without an episode from here (vlaw pretrain makes them)",
            markup=False,
            soft_wrap=True,
        )


def show(found: list[Stale]) -> None:
    """Stale artifacts with their reasons, and what to do."""
    if not found:
        console.print("nothing is stale")
        return
    stale, blocked = [item for item in found if not item.blocked], dict[str, list[str]]()
    for item in found:
        if item.blocked:
            blocked.setdefault(item.blocked, []).append(item.name)
    if stale:
        print_table([["stale", "why"], *([item.name, "; ".join(item.reasons)] for item in stale)])
    for why, names in blocked.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        console.print(f"cannot be made again: {', '.join(names[:SHOWN])}{more}: {why}", markup=False, soft_wrap=True)
    rebuild = [name or "the foundation" for name in partitions(found)]
    if rebuild:
        console.print(
            f"{len(found)} stale; to rebuild: {', '.join(rebuild)}: vlaw run --rebuild-stale",
            markup=False,
            soft_wrap=True,
        )


def partitions(found: list[Stale]) -> list[str]:
    """Partitions to rebuild, in order; '' is the foundation."""
    from vlaw_assets.rebuild.staleness import rebuild_plan

    return [partition for partition, _ in rebuild_plan(found)]


def plain(item: Stale) -> dict[str, Any]:
    return {
        "artifact": item.ref.artifact_id,
        "asset": item.ref.asset,
        "partition": item.ref.partition,
        "reasons": list(item.reasons),
        "blocked": item.blocked,
    }


def _reason(rows: list[dict[str, Any]], name: str) -> str:
    return next(f"{row['why']} ({row['by']}, {row['at']:%Y-%m-%d})" for row in rows if row["episode_id"] == name)
