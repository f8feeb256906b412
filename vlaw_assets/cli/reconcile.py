"""`vlaw reconcile`: Dagster's event log brought back in line with the ledger; rebuilds it where DAGSTER_HOME was
lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli.output import console, existing_lake, print_json
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef
    from vlaw_assets.pipeline.comparison import Comparison, Foreign

SHOWN = 20
"""Lines per heading in the text; --json has them all."""


def reconcile(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what differs.")] = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="This lake is the right one although it lacks artifacts that Dagster knows: go on, and do not ask "
            "again.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare the ledger with Dagster's events and report what Dagster lacks. Fails where Dagster knows artifacts that
    the ledger lacks."""
    from vlaw_assets.definitions import build_defs, default_recipes
    from vlaw_assets.pipeline import comparison, driver, liveness
    from vlaw_assets.pipeline import reconcile as mirrored

    begun = time.monotonic()
    lake = existing_lake()
    defs = build_defs(lake=lake.paths.root, recipes=default_recipes())
    with driver.open_instance() as instance:
        closed = [] if dry_run else liveness.close_dead_runs(instance)
        found, added = (
            (comparison.compare(lake, instance, defs), 0)
            if dry_run
            else mirrored.repair(lake, instance, defs, accept=accept)
        )
        home = instance.root_directory
    if as_json:
        print_json(
            {
                **summary(found),
                "closed_runs": closed,
                "events_added": added,
                "dry_run": dry_run,
                "accepted_now": len(found.unexplained) if accept and not dry_run else 0,
                "dagster_home": home,
                "seconds": round(time.monotonic() - begun, 2),
            }
        )
    else:
        _show_all(
            found,
            closed,
            added,
            lake=str(lake.paths.root),
            home=home,
            dry_run=dry_run,
            accept=accept,
            seconds=time.monotonic() - begun,
        )
    if found.unexplained and not accept:
        raise refusal(found.unexplained, lake=str(lake.paths.root), home=home)


def refusal(foreign: Sequence[Foreign], *, lake: str, home: str, gone: bool = False) -> VlawError:
    """The error for artifacts that Dagster knows and the ledger does not; what it can mean, and what to do in each
    case.

    `gone`: there is no lake at all.
    """
    means = "this lake was replaced by an older copy" if not gone else "the lake is gone"
    accept = (
        "" if gone else "; or, if this lake is the right one and what it lacks may be lost: vlaw reconcile --accept"
    )
    first = foreign[-1]
    count = f"{len(foreign)} artifacts" if len(foreign) > 1 else "an artifact"
    return VlawError(
        f"Dagster knows {count} that the ledger does not have ({first.name} "
        f"{first.artifact}{' for one' if len(foreign) > 1 else ''}): "
        f"{means}, or this DAGSTER_HOME belongs to another lake",
        where=f"lake {lake}, Dagster's log in {home}",
        remedy=f"Put the newer lake back, or point VLAW_LAKE at it; or set DAGSTER_HOME to this lake's own{accept}",
    )


def _show_all(
    found: Comparison,
    closed: Sequence[str],
    added: int,
    *,
    lake: str,
    home: str,
    dry_run: bool,
    accept: bool,
    seconds: float,
) -> None:
    for run_id in closed:
        console.print(f"run {run_id} was killed; it is now marked as failed", markup=False)
    _show("in the ledger, unknown to Dagster", [_line(ref) for ref in found.missing])
    _show(
        "Dagster's newest event says otherwise",
        [
            f"{_line(item.ref)}  (the event names {item.seen}; differs in {', '.join(item.wrong)})"
            for item in found.misled
        ],
    )
    _show("events of artifacts that this ledger does not have", [_foreign(item) for item in found.unexplained])
    _show(
        "events that were reported by hand, and of artifacts whose lack was accepted (kept)",
        [_foreign(item) for item in found.foreign if not item.unexplained],
    )
    _show("being made right now, left alone", [_line(ref) for ref in found.running])
    _show("not an asset, so Dagster has no page for it", sorted({ref.name for ref in found.outside}))
    console.print(
        f"{found.artifacts} artifacts of {found.partitions} asset partitions in the ledger of {lake}; "
        f"Dagster's log in {home}",
        markup=False,
        soft_wrap=True,
    )
    if found.in_line and not added:
        console.print("Dagster mirrors the ledger: nothing to do.", style="bold")
    elif dry_run:
        console.print(
            f"{len(found.to_report)} events to "
            f"report{' once that is accepted' if found.unexplained and not accept else ''}; "
            "nothing was changed (--dry-run).",
            style="bold",
        )
    elif found.unexplained and not accept:
        console.print("nothing was reported, so that Dagster's newest events stay the evidence.", style="bold")
    else:
        accepted = f", {len(found.unexplained)} foreign ones accepted" if found.unexplained else ""
        console.print(f"{added} events reported{accepted} in {seconds:.1f} s.", style="bold")


def summary(found: Comparison) -> dict[str, Any]:
    """The comparison for programs."""
    return {
        "in_line": found.in_line,
        "artifacts": found.artifacts,
        "partitions": found.partitions,
        "missing": [_entry(ref) for ref in found.missing],
        "misled": [{**_entry(item.ref), "seen": item.seen, "wrong": list(item.wrong)} for item in found.misled],
        "foreign": [
            {
                "asset": item.asset,
                "partition": item.partition,
                "artifact": item.artifact,
                "storage_id": item.storage_id,
                "accepted": item.accepted,
                "unexplained": item.unexplained,
            }
            for item in found.foreign
        ],
        "running": [_entry(ref) for ref in found.running],
        "not_an_asset": [_entry(ref) for ref in found.outside],
        "to_report": [_entry(ref) for ref in found.to_report],
    }


def _entry(ref: ArtifactRef) -> dict[str, str]:
    return {"asset": ref.asset, "partition": ref.partition, "artifact": ref.artifact_id, "run": ref.run_id}


def _foreign(item: Foreign) -> str:
    return f"{item.name}  {item.artifact}{f'  (accepted {item.accepted})' if item.accepted else ''}"


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
