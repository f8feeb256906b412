"""`vlaw label`: say of episodes whether they were successes and what they are used for; see what was made with other
labels."""

from __future__ import annotations

import csv
import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlaw_assets.cli.output import AsOf, console, existing_lake, print_json, print_table
from vlaw_assets.cli.quarantine import partitions, plain, show
from vlaw_assets.cli.tell import tell_dagster
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake.labels import Given

HEADER = ("episode_id", "label", "who", "why")
"""Columns of a file of labels, in any order."""
NAMED = 20
"""Episodes that are named one by one after they were labelled."""


def label(
    episode: Annotated[str, typer.Argument(help="An episode, real or imagined; none: show the labels.")] = "",
    given: Annotated[
        str,
        typer.Argument(metavar="LABEL", help="success, failure or near_success; or keep, world_model_only, excluded."),
    ] = "",
    *,
    who: Annotated[str | None, typer.Option(help="Who says so; default: the user of this machine.")] = None,
    why: Annotated[str, typer.Option(help="The reason, kept with the label.")] = "",
    file: Annotated[
        Path | None, typer.Option("--csv", help="A file of labels: columns episode_id,label,who,why.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Show also the labels that others replaced.")] = False,
    as_of: AsOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Label episodes: the latest label outweighs what was recorded and, of imagined ones, the judge.

    A near success counts as a failure and is kept as what it is. An episode is used for everything (keep), for world
    models alone, where it counts as not judged (world_model_only), or for nothing (excluded: it is in quarantine). What
    is stale by a label is printed, and made anew by

    vlaw run --rebuild-stale.
    """
    from vlaw_assets.environment import default_recipes
    from vlaw_assets.lake import labels, quarantine
    from vlaw_assets.lake.rules import EXCLUDED, KEEP
    from vlaw_assets.rebuild.staleness import stale

    if bool(episode) != bool(given) or (episode and file is not None):
        raise VlawError(
            "an episode and its label go together, without --csv",
            where="vlaw label",
            remedy="Give an episode with success, failure, near_success, keep, world_model_only or excluded and --why; "
            "or --csv FILE; or nothing.",
        )
    lake, change = existing_lake(as_of), None
    if episode or file is not None:
        if as_of is not None:
            raise VlawError("the past cannot be changed", where="--as-of", remedy="leave --as-of out")
        before = labels.latest(lake), quarantine.latest(lake)
        if file is None:
            name = getpass.getuser() if who is None else who
            change = labels.label_episodes(lake, [(episode, given, name, why)])
        else:
            rows = read_labels(file)
            change = labels.label_episodes(
                lake, [row for _, row in rows], where=lambda index: f"{file}, line {rows[index][0]}"
            )
        for ref in (labels.latest(lake), quarantine.latest(lake)):
            if ref is not None and ref not in before:
                tell_dagster(lake, ref)
    shown = labels.history(lake)
    if not history:
        shown = [*labels.in_force(lake).values(), *labels.decisions(lake).values()]
    found = stale(lake, recipes=default_recipes()) if change else []
    if as_json:
        print_json(
            {
                "changed": change.changed if change else (),
                "unchanged": change.unchanged if change else (),
                "labels": shown,
                "stale": [plain(item) for item in found],
                "partitions": partitions(found),
            },
            notes=lake.notes,
        )
    elif change is None:
        rows_shown = [[*(row[key] for key in HEADER), row["at"].strftime("%Y-%m-%d %H:%M")] for row in shown]
        print_table([["episode", "label", "who", "why", "at"], *rows_shown])
    else:
        now, out = labels.words(lake), quarantine.quarantined(lake)
        for name in change.changed[:NAMED]:
            said = EXCLUDED if name in out else now.get(name, KEEP)
            console.print(f"{name}: {said}", markup=False)
        if len(change.changed) > NAMED:
            console.print(f"and {len(change.changed) - NAMED} more", markup=False)
        if change.unchanged:
            console.print(f"labelled so already: {len(change.unchanged)}", markup=False)
        show(found)


def read_labels(file: Path) -> list[tuple[int, Given]]:
    """The rows of a file of labels with the numbers of their lines. Raises VlawError for a file that is none, naming
    the line."""
    remedy = f"a header {','.join(HEADER)}, then a label a line"
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            header = next(reader, [])
            if sorted(header) != sorted(HEADER):
                raise VlawError(
                    f"the columns are {','.join(header) or 'missing'}", where=f"{file}, line 1", remedy=remedy
                )
            order, found = [header.index(name) for name in HEADER], []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(HEADER):
                    raise VlawError(
                        f"{len(row)} values instead of {len(HEADER)}",
                        where=f"{file}, line {reader.line_num}",
                        remedy=remedy,
                    )
                episode, said, who, why = (row[at] for at in order)
                found.append((reader.line_num, (episode, said, who, why)))
    except (OSError, UnicodeDecodeError) as error:
        text = error.strerror if isinstance(error, OSError) else "it is not text"
        raise VlawError(f"the labels cannot be read: {text}", where=str(file), remedy=remedy) from error
    except csv.Error as error:
        raise VlawError(f"this is no CSV: {error}", where=f"{file}, line {reader.line_num}", remedy=remedy) from error
    if not found:
        raise VlawError("there is no label in the file", where=str(file), remedy=remedy)
    return found
