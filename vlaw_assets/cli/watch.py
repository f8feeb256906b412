"""`vlaw watch`: a page on which episodes are watched: named by id, found by SQL, or those of an artifact."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.control import Control
from rich.segment import ControlType

from vlaw_assets.cli.browser import open_browser
from vlaw_assets.cli.output import AsOf, console, errors, existing_lake
from vlaw_assets.reports.episodes.command import LIMIT, file_name
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_assets.reports.episodes.choosing import Choice
    from vlaw_assets.reports.episodes.content import Content

RUNS = Path("runs")

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE.html",
        help="File to write; a page above 20 MB becomes the folder FILE, with its clips beside it. Default: below "
        "runs/.",
    ),
]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")]
Limit = Annotated[int, typer.Option(help="Most episodes on the page; which ones are left out is said on it.")]
Redraw = Annotated[
    bool,
    typer.Option(
        "--redraw/--no-redraw",
        help="Evaluations keep the last frame only: draw the others again, by the robot's simulator from the recorded "
        "actions.",
    ),
]


def watch(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="EPISODE... | SQL | ASSET [EXPERIMENT ITERATION]",
            help="Ids of episodes; a SELECT with a column episode_id, or a question of vlaw sql --list; or an artifact "
            "as vlaw audit takes it, e.g. policy vlaw 02: the episodes that it was evaluated on.",
        ),
    ],
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="key=value, for $key in the SQL.")] = None,
    out: Out = None,
    limit: Limit = LIMIT,
    *,
    label: Annotated[
        bool,
        typer.Option(
            "--label",
            help="Serve the page, with buttons that label its episodes, to this machine alone, until Ctrl-C.",
        ),
    ] = False,
    who: Annotated[str | None, typer.Option(help="With --label: who says so; default: this user.")] = None,
    port: Annotated[int, typer.Option(help="With --label: the port; 0: any free one.")] = 0,
    opened: Open = False,
    redraw: Redraw = True,
    as_of: AsOf = None,
) -> None:
    """Watch episodes in a browser: clips of all cameras, filters, curves, what belongs to each and what it reached."""
    from vlaw_assets.reports.episodes import content as contents

    if label and (as_of is not None or out is not None):
        raise VlawError(
            "--label goes with neither --as-of nor --out",
            where="vlaw watch",
            remedy="Leave them out: labels are given now, on a page that is served.",
        )
    lake = existing_lake(as_of)
    choice = chosen(lake, what, param or [], limit)
    content = contents.content(
        lake,
        contents.of_keys(choice.keys),
        title=choice.title,
        about=choice.about,
        cut=choice.cut,
        command=choice.command,
        redraw=redraw,
        tell=drawing,
    )
    if label:
        from vlaw_assets.cli.labelling import serve_labelling

        if choice.cut:
            console.print(choice.cut, markup=False)
        serve_labelling(lake, content, who=who, port=port, opened=opened)
        return
    write_and_open(content, out or RUNS / file_name(choice.title), opened=opened)
    if choice.cut:
        console.print(choice.cut, markup=False)


def chosen(lake: Lake, what: list[str], param: list[str], limit: int) -> Choice:
    """The episodes that the words of the command mean. Raises VlawError for words that mean none."""
    from vlaw_assets.cli.sql import parameters
    from vlaw_assets.lineage.closure import subject
    from vlaw_assets.lineage.impact import find_subject
    from vlaw_assets.query.questions import FOLDER, read_question
    from vlaw_assets.reports.episodes import choosing

    if limit < 1:
        raise VlawError(f"a page of {limit} episodes", where="--limit", remedy="Ask for 1 or more.")
    first = what[0]
    if len(what) == 1:
        question = FOLDER / f"{first}.sql" if re.fullmatch(r"\w+", first) else Path(first)
        if first.endswith(".sql") or (question.parent == FOLDER and question.is_file()):
            asked, sql = read_question(question)
            return choosing.of_sql(lake, sql, parameters(param), limit, name=first, question=asked)
        if re.search(r"\s", first.strip()):
            return choosing.of_sql(lake, first, parameters(param), limit)
    if param:
        raise VlawError("--param belongs to SQL", where="vlaw watch", remedy="Give a SELECT, or leave it out.")
    if len(what) == 3 and what[2].isdecimal():
        return choosing.of_artifact(lake, subject(lake, first, what[1], int(what[2])), limit)
    if len(what) == 1 and lake.ledger.current(first, "") is not None:
        return choosing.of_artifact(lake, subject(lake, first, None, None), limit)
    if len(what) == 1:
        found = find_subject(lake, first)
        if not found.is_episode:
            return choosing.of_artifact(lake, found.holders[0], limit)
    return choosing.of_ids(lake, what, limit)


def write_and_open(content: Content, path: Path, *, opened: bool) -> None:
    """Writes the page, says where it is, and opens it if that is wanted."""
    from vlaw_assets.reports.episodes.page import write

    page, size = write(content, path)
    shown, clips = len(content.data["tiles"]), len(content.clips)
    console.print(f"{page} ({shown} shown, {clips} clips, {size / 1e6:.1f} MB)", markup=False, soft_wrap=True)
    if opened:
        open_browser(page.absolute().as_uri())


def drawing(done: int, count: int) -> None:
    """Says on a terminal how far drawing again has come."""
    if errors.is_terminal:
        errors.print(f"frames drawn again: {done} of {count} episodes", end="" if done < count else "\n")
        if done < count:
            errors.control(Control(ControlType.CARRIAGE_RETURN))  # as a character it would be written out
