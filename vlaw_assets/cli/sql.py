"""`vlaw sql`: one SELECT over the lake, typed in or from a file of `sql/`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from vlaw_assets.cli.output import console, existing_lake, print_json, print_table
from vlaw_models.errors import VlawError

SHOWN = 200
"""Rows printed for a person; --json and --csv print all."""


def sql(
    query: Annotated[str, typer.Argument(help="A SELECT, or the path of a .sql file.")],
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="key=value, for $key in the SQL.")] = None,
    at: Annotated[int | None, typer.Option(help="As of the artifact with this sequence number (see artifacts).")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="All rows as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="All rows as CSV.")] = False,
) -> None:
    """DuckDB over the lake, for reading only. Views: episodes, steps, reward_scores, members, evaluations, artifacts, edges."""
    from vlaw_assets.query import connect, read_question

    question, text = read_question(Path(query)) if query.endswith(".sql") else ("", query)
    with connect(existing_lake(), at=at) as connection:
        table = connection.table(text, _parameters(param or []))
    if as_json:
        print_json(table.to_pylist())
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(table.column_names)
        writer.writerows(row.values() for row in table.to_pylist())
    else:
        if question:
            console.print(question, style="bold", markup=False)
        rows = table.slice(0, SHOWN).to_pylist()
        print_table([table.column_names, *(["" if v is None else str(v) for v in row.values()] for row in rows)])
        if table.num_rows > SHOWN:
            console.print(f"... {table.num_rows - SHOWN} rows more (--json or --csv prints all)", markup=False)


def _parameters(given: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    for key, sign, _ in pairs:
        if not (key and sign):
            raise VlawError(f"{key!r} is not of the form key=value", where="--param", remedy="Give e.g. --param policy=vlaw.")
    return {key: value for key, _, value in pairs}
