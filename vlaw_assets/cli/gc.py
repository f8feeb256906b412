"""`vlaw gc`: delete what killed and failed runs left behind. What the ledger names stays, whatever its age."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from vlaw_assets.cli.output import console, existing_lake, print_json, print_table

MIB = 1 << 20


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list; delete nothing.")] = False,
    older_than: Annotated[
        float, typer.Option("--older-than", min=0.0, metavar="DAYS", help="Leave what is younger.")
    ] = 7.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Delete orphans: files that no artifact in the ledger consists of, and that no run at work can need."""
    from vlaw_assets.lake.upkeep.garbage import DAY_S, collect, find_garbage

    lake = existing_lake()
    found = (find_garbage if dry_run else collect)(lake, older_than_s=older_than * DAY_S)
    size = sum(item.size for item in found)
    if as_json:
        items = [{"path": lake.paths.relative(item.path), "kind": item.kind, "bytes": item.size} for item in found]
        print_json({"deleted": not dry_run, "bytes": size, "orphans": items})
        return
    if dry_run and found:
        print_table(
            [
                ["orphan", "kind", "bytes"],
                *([lake.paths.relative(item.path), item.kind, f"{item.size:,}"] for item in found),
            ]
        )
    counts = (
        ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(item.kind for item in found).items()))
        or "nothing"
    )
    verb = "would be freed" if dry_run else "freed"
    console.print(f"{counts}: {size:,} bytes ({size / MIB:.1f} MiB) {verb}", markup=False)
