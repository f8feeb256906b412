"""`vlaw migrate`: bring a lake of an older format to this one; or seal a ledger again."""

from __future__ import annotations

from typing import Annotated

import typer

from vlaw_assets.cli.output import console


def migrate(
    *,
    reseal: Annotated[bool, typer.Option("--reseal", help="Accept the ledger as it is and seal it anew.")] = False,
) -> None:
    """Bring the lake to the format of this program, in place. Make a copy of it first."""
    from vlaw_assets.definitions import default_lake
    from vlaw_assets.lake.paths import FORMAT_VERSION, lake_root
    from vlaw_assets.lake.upkeep import migrate as migration

    root = lake_root(default_lake())
    if reseal:
        done = migration.reseal(root)
        if done.restored:
            console.print(
                f"restored from their data files: versions {', '.join(map(str, done.restored))} of the ledger",
                markup=False,
            )
        if done.lost:
            console.print(
                f"accepted as lost: versions {', '.join(map(str, done.lost))} of the ledger; their numbers stay taken",
                markup=False,
            )
        console.print(f"{root}: sealed as it is", markup=False)
        return
    before = migration.migrate(root)
    console.print(
        f"{root}: format {FORMAT_VERSION}" + (f", was {before}" if before != FORMAT_VERSION else " already"),
        markup=False,
    )
