"""`vlaw similar`: episodes that look like a given one, from all iterations and experiments, real and imagined.

What "look like" means is said in vlaw_models/reward_models/embed.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlaw_assets.cli.output import AsOf, console, existing_lake, print_json, print_table

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_assets.query.similarity import Found

ANY, SAME = "any", "same"


def similar(
    episode: Annotated[str, typer.Argument(help="Id of an episode, as vlaw sql and the pictures name it.")],
    task: Annotated[str, typer.Option(help="Only this task; 'same': the episode's own; 'any'.")] = ANY,
    outcome: Annotated[str, typer.Option(help="success, failure, 'not judged' (imagined ones) or any.")] = ANY,
    source: Annotated[str, typer.Option(help="real, imagined or any.")] = ANY,
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="Only episodes of this experiment.")] = "",
    count: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    sheet: Annotated[
        Path | None, typer.Option(help="Also write a contact sheet of all of them to this PNG file.")
    ] = None,
    *,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every vector, also where there is an index.")] = False,
    as_of: AsOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The episodes nearest to one, nearest first, with task, outcome, source and the judge's score."""
    from vlaw_assets.query import similarity

    lake = existing_lake(as_of)
    if task == SAME:
        task = similarity.similar(lake, episode, k=1).query.task
    found = similarity.similar(
        lake,
        episode,
        k=count,
        exact=exact,
        experiment=experiment or None,
        **{
            name: None if value == ANY else value
            for name, value in (("task", task), ("outcome", outcome), ("source", source))
        },
    )
    if sheet is not None:
        _draw(lake, found, sheet)
    if as_json:
        print_json(found.as_json(), notes=lake.notes)
        return
    query = found.query
    console.print(
        f"{query.episode_id}: {query.task}, {query.outcome}, {query.source}, {query.partition}"
        + (f", P(yes) {query.p_success:.2f}" if query.p_success is not None else ""),
        markup=False,
    )
    if not found.neighbours:
        asked = ", ".join(
            f"{name} {value}"
            for name, value in (
                ("task", task),
                ("outcome", outcome),
                ("source", source),
                ("experiment", experiment or ANY),
            )
            if value != ANY
        )
        console.print(
            f"No other episode among {found.searched} embeddings" + (f" with {asked}." if asked else "."), markup=False
        )
        return
    rows = [
        [
            item.episode_id,
            f"{item.distance:.4f}",
            item.task,
            item.outcome,
            item.source,
            item.partition,
            f"{item.p_success:.2f}" if item.p_success is not None else "-",
        ]
        for item in found.neighbours
    ]
    print_table([["episode", "distance", "task", "outcome", "source", "partition", "P(yes)"], *rows])
    how = "by an index" if found.indexed else "one by one"
    console.print(
        f"nearest of {found.searched} embeddings, compared {how}"
        + (f"; {found.left_out} left out, being in quarantine" if found.left_out else "")
        + (f"; pictures in {sheet}" if sheet else "")
        + f"; side by side: vlaw watch {query.episode_id}",
        style="dim",
        markup=False,
    )


def _draw(lake: Lake, found: Found, path: Path) -> None:
    from vlaw_assets.lake.durable import write_page
    from vlaw_assets.query.similarity import episodes_of
    from vlaw_models.pictures import contact_sheet, png_bytes

    write_page(
        path,
        png_bytes(contact_sheet(episodes_of(lake, found), columns=8, scale=1)),
        remedy="Choose a file with --sheet.",
    )
