"""`vlaw sql`: one SELECT over the lake, typed in or a question of `sql/`; and catalogue files for other programs."""

from __future__ import annotations

import csv
import math
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vlaw_assets.cli.output import AsOf, console, existing_lake, print_json, print_table, visible
from vlaw_assets.query.limits import MEMORY, TIMEOUT_S
from vlaw_models.errors import VlawError

SHOWN = 200
"""Rows printed for a person; --json and --csv print all."""


def sql(
    query: Annotated[
        str, typer.Argument(help="A SELECT, the path of a .sql file, or the name of a question of --list.")
    ] = "",
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="key=value, for $key in the SQL.")] = None,
    as_of: AsOf = None,
    *,
    listed: Annotated[
        bool, typer.Option("--list", help="Print the questions of the folder sql/ and their parameters.")
    ] = False,
    attach: Annotated[
        Path | None,
        typer.Option(
            help="Write a catalogue FILE.duckdb that the DuckDB command line, its UI and BI tools open: the ledger "
            "as tables, views "
            "over the files that it names now, the questions as table macros. A snapshot: what is committed later is "
            "not "
            "in it until it is written again. An older catalogue is replaced, any other file is left alone."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds after which the query is stopped.")] = TIMEOUT_S,
    memory: Annotated[str, typer.Option(help="Memory that the query may take, e.g. 500MB.")] = MEMORY,
    as_json: Annotated[bool, typer.Option("--json", help="All rows as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="All rows as CSV.")] = False,
) -> None:
    """DuckDB over the lake, for reading only. SHOW TABLES lists the views, `vlaw sql --list` the questions.

    Views: episodes, steps, reward_scores, members, evaluations, reads, quarantine, frames (references to images), and
    the ledger: artifacts, edges. Join data to artifacts on artifact_id = artifacts.owner_id, so that reuse is followed.
    """
    if sum((bool(query), listed, attach is not None)) != 1:
        raise VlawError("one thing at a time", where="vlaw sql", remedy="Give a query, or --list, or --attach FILE.")
    if listed:
        _list(as_json=as_json)
    elif attach is not None:
        _attach(attach, as_of)
    else:
        _ask(query, param or [], as_of, timeout, memory, as_json=as_json, as_csv=as_csv)


def _list(*, as_json: bool) -> None:
    from vlaw_assets.query.questions import questions

    found = questions()
    if as_json:
        print_json([{"name": q.name, "question": q.text, "parameters": q.parameters} for q in found])
        return
    for question in found:
        console.print(question.name, style="bold", markup=False)
        console.print(f"    {question.text}", markup=False, soft_wrap=True)
        for name in question.parameters:
            console.print(f"    -p {name}=...", markup=False)


def _attach(file: Path, as_of: str | None) -> None:
    from vlaw_assets.query.catalogue import write_catalogue

    path = write_catalogue(existing_lake(as_of), file)
    console.print(
        f"{path}: a snapshot; `duckdb -readonly {path}`, then SHOW TABLES or FROM vlaw_questions",
        markup=False,
        soft_wrap=True,
    )


def _ask(
    query: str, param: list[str], as_of: str | None, timeout: float, memory: str, *, as_json: bool, as_csv: bool
) -> None:
    from vlaw_assets.query import connect
    from vlaw_assets.query.questions import FOLDER, read_question

    path = Path(query) if query.endswith(".sql") else FOLDER / f"{query}.sql" if re.fullmatch(r"\w+", query) else None
    question, text = read_question(path) if path else ("", query)
    with connect(existing_lake(as_of), memory_limit=memory, lazy=True) as connection:
        table = connection.table(text, parameters(param), timeout_s=timeout)
    if as_json:
        print_json([{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()])
    elif as_csv:
        # To a file or a pipe a text goes as it is; a terminal would act on it.
        shown = visible if sys.stdout.isatty() else str
        writer = csv.writer(sys.stdout)
        writer.writerow(map(shown, table.column_names))
        writer.writerows(
            ["" if value is None else shown(str(value)) for value in row.values()] for row in table.to_pylist()
        )
    else:
        if question:
            console.print(question, style="bold", markup=False)
        rows = table.slice(0, SHOWN).to_pylist()
        print_table([table.column_names, *([_shown(v) for v in row.values()] for row in rows)])
        if table.num_rows > SHOWN:
            console.print(f"... {table.num_rows - SHOWN} rows more (--json or --csv prints all)", markup=False)


def _shown(value: Any) -> str:
    """As a person reads it; --json and --csv give all digits."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def parameters(given: list[str]) -> dict[str, str]:
    """The values of --param. Raises VlawError for one that is not key=value."""
    pairs = [item.partition("=") for item in given]
    for key, sign, _ in pairs:
        if not (key and sign):
            raise VlawError(
                f"{key!r} is not of the form key=value", where="--param", remedy="Give e.g. --param policy=vlaw."
            )
    return {key: value for key, _, value in pairs}
