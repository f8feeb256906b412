"""`vlaw compare`: two policies on the same starts, trial by trial, as a page of pairs."""

from __future__ import annotations

from typing import Annotated

import typer

from vlaw_assets.cli.diff import named
from vlaw_assets.cli.output import AsOf, console, existing_lake, print_table
from vlaw_assets.cli.watch import RUNS, Open, Out, Redraw, drawing, write_and_open
from vlaw_assets.reports.episodes.command import file_name
from vlaw_models.errors import VlawError

LIMIT = 40
POLICY = "policy"


def compare(
    asset: Annotated[str, typer.Argument(help="policy.")],
    a: Annotated[str, typer.Argument(help="'vlaw/01', an artifact id, or base_policy: as vlaw diff takes it.")],
    b: Annotated[str, typer.Argument(help="The other one, in the same ways.")],
    out: Out = None,
    limit: Annotated[
        int, typer.Option(help="Most pairs on the page, of each group as many as there is room for.")
    ] = LIMIT,
    *,
    opened: Open = False,
    redraw: Redraw = True,
    as_of: AsOf = None,
) -> None:
    """Which starts only one of two policies won: counts, the paired difference, and a page with each pair of clips."""
    from vlaw_assets.reports.episodes import pairs
    from vlaw_assets.reports.episodes.content import content

    if asset != POLICY:
        raise VlawError(
            f"{asset} is not compared", where="vlaw compare", remedy=f"Give {POLICY}, e.g. vlaw compare policy {a} {b}."
        )
    if limit < 1:
        raise VlawError(f"a page of {limit} pairs", where="--limit", remedy="Ask for 1 or more.")
    lake = existing_lake(as_of)
    found = pairs.pairs(lake, named(lake, asset, a), named(lake, asset, b), (a, b))
    tiles, said = pairs.tiles(found, limit), pairs.summary(found)
    cut = f"{len(tiles)} of {found.total} pairs are shown; --limit {found.total} shows all."
    page = content(
        lake,
        tiles,
        title=f"{a} and {b} on the same starts",
        about=f"{found.total} trials of the starts that both were evaluated on. The groups count all of them.",
        cut=cut if len(tiles) < found.total else "",
        command=f"vlaw compare {asset} {a} {b}",
        summary=said,
        redraw=redraw,
        tell=drawing,
    )
    print_table([list(row) for row in said.table])
    for line in said.lines:
        console.print(line, markup=False, soft_wrap=True)
    write_and_open(page, out or RUNS / file_name(f"{a} {b}"), opened=opened)
    if page.data["cut"]:
        console.print(page.data["cut"], markup=False)
