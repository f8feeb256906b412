"""`vlaw reconcile`: Dagster's event log brought back in line with the ledger; rebuilds it where DAGSTER_HOME was lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli.output import console, existing_lake, print_json

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef
    from vlaw_assets.reconcile import Comparison

SHOWN = 20
"""Lines per heading in the text; --json has them all."""


def reconcile(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what differs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare the ledger with Dagster's events and report what Dagster lacks."""
    from vlaw_assets import driver, liveness
    from vlaw_assets import reconcile as mirrored
    from vlaw_assets.definitions import build_defs, default_recipes

    begun = time.monotonic()
    lake = existing_lake()
    defs = build_defs(lake=lake.paths.root, recipes=default_recipes())
    with driver.open_instance() as instance:
        closed = [] if dry_run else liveness.close_dead_runs(instance)
        found, added = (mirrored.compare(lake, instance, defs), 0) if dry_run else mirrored.repair(lake, instance, defs)
        home = instance.root_directory
    if as_json:
        print_json({**summary(found), "closed_runs": closed, "events_added": added, "dry_run": dry_run,
                    "dagster_home": home, "seconds": round(time.monotonic() - begun, 2)})
        return
    for run_id in closed:
        console.print(f"run {run_id} was killed; it is now marked as failed", markup=False)
    _show("in the ledger, unknown to Dagster", [_line(ref) for ref in found.missing])
    _show("Dagster's newest event says otherwise",
          [f"{_line(item.ref)}  (the event names {item.seen}; differs in {', '.join(item.wrong)})" for item in found.misled])
    _show("events of artifacts that this ledger does not have (kept; the ledger's are newer now, where it has the partition)",
          [f"{item.asset}{f'[{item.partition}]' if item.partition else ''}  {item.artifact}" for item in found.foreign])
    _show("being made right now, left alone", [_line(ref) for ref in found.running])
    _show("not an asset, so Dagster has no page for it", sorted({ref.name for ref in found.outside}))
    console.print(f"{found.artifacts} artifacts of {found.partitions} asset partitions in the ledger of {lake.paths.root}; "
                  f"Dagster's log in {home}", markup=False, soft_wrap=True)
    if found.in_line and not added:
        console.print("Dagster mirrors the ledger: nothing to do.", style="bold")
    elif dry_run:
        console.print(f"{len(found.to_report)} events to report; nothing was changed (--dry-run).", style="bold")
    else:
        console.print(f"{added} events reported in {time.monotonic() - begun:.1f} s.", style="bold")


def summary(found: Comparison) -> dict[str, Any]:
    """The comparison for programs."""
    return {
        "in_line": found.in_line, "artifacts": found.artifacts, "partitions": found.partitions,
        "missing": [_entry(ref) for ref in found.missing],
        "misled": [{**_entry(item.ref), "seen": item.seen, "wrong": list(item.wrong)} for item in found.misled],
        "foreign": [{"asset": item.asset, "partition": item.partition, "artifact": item.artifact,
                     "storage_id": item.storage_id} for item in found.foreign],
        "running": [_entry(ref) for ref in found.running],
        "not_an_asset": [_entry(ref) for ref in found.outside],
        "to_report": [_entry(ref) for ref in found.to_report],
    }


def _entry(ref: ArtifactRef) -> dict[str, str]:
    return {"asset": ref.asset, "partition": ref.partition, "artifact": ref.artifact_id, "run": ref.run_id}


def _line(ref: ArtifactRef) -> str:
    return f"{ref.name}  {ref.artifact_id}  {ref.created_at:%Y-%m-%d %H:%M:%S}"


def _show(title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print(f"{title}: {len(lines)}", style="bold", markup=False, soft_wrap=True)
    for line in lines[:SHOWN]:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    if len(lines) > SHOWN:
        console.print(f"  ... and {len(lines) - SHOWN} more (--json)", markup=False)
