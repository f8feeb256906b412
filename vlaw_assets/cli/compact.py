"""`vlaw compact`: what makes the tables of a lake quick to open for other readers. No answer of vlaw changes by it."""

from __future__ import annotations

from typing import Annotated

import typer

from vlaw_assets.cli.output import AsOf, console, existing_lake, print_json, print_table


def compact(
    *,
    checkpoints_only: Annotated[
        bool,
        typer.Option(
            "--checkpoints-only", help="Leave the data as it is: only checkpoints of the Delta logs, bad ones replaced."
        ),
    ] = False,
    as_of: AsOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Put many small files together for other readers (delta-rs, Spark, polars, Lance), and give the Delta logs
    checkpoints.

    Nothing is deleted that the ledger names, so no space is freed; runs at work are not disturbed. Refused as of a
    moment.
    """
    from vlaw_assets.lake.upkeep import compaction

    done = compaction.compact(existing_lake(as_of), checkpoints_only=checkpoints_only)
    if as_json:
        print_json([vars(item) | {"dropped": list(item.dropped)} for item in done])
        return
    print_table(
        [
            ["table", "files before", "files now", "checkpoint of version"],
            *(
                [
                    item.table,
                    str(item.before),
                    str(item.after),
                    "-" if item.checkpoint is None else str(item.checkpoint),
                ]
                for item in done
            ),
        ]
    )
    for item in done:
        for path in item.dropped:
            console.print(
                f"{path}: deleted, it was damaged or did not say what the log says", markup=False, soft_wrap=True
            )
    made = sum(item.checkpoint is not None for item in done)
    smaller = sum(item.after < item.before for item in done)
    console.print(f"{smaller} tables have fewer files, {made} a new checkpoint", markup=False)
