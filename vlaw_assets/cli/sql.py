"""`vlaw sql`: one SELECT over the lake, typed in or a question of `sql/`; and catalogue files for other programs."""

from __future__ import annotations

import csv
import math
import re
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from vlaw_assets.cli.output import AsOf, console, existing_lake, print_json, print_table, visible
from vlaw_assets.query.limits import MEMORY, TIMEOUT_S
from vlaw_models.errors import VlawError

SHOWN = 200
"""Rows printed for a person; --json and --csv print all."""
DIGEST = re.compile(r"\b(?=[0-9]*[a-f])[0-9a-f]{16,}(?:-[0-9a-f]{8})?\b")
"""A digest, or an artifact's id, in a text."""
SHORT = 12
"""Characters of one that a person sees; commands that take a digest take its beginning."""
ZERO = 1e-12
"""What is nearer to zero is what sums of floats leave of it."""
OF_STUDIES = "study_"


def sql(
    query: Annotated[
        str, typer.Argument(help="A SELECT, the path of a .sql file, or the name of a question of --list.")
    ] = "",
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="key=value, for $key in the SQL.")] = None,
    as_of: AsOf = None,
    *,
    listed: Annotated[
        bool, typer.Option("--list", help="Print the questions of the folder sql/; [parameters] may be left out.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="With --list: also the questions about studies.")] = False,
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

    Views: episodes, steps, reward_scores, members, evaluations, reads, quarantine, label_history, import_findings,
    recorded_statistics, frames (references to images), and the ledger: artifacts, edges. Join data to artifacts on
    artifact_id = artifacts.owner_id, so that reuse is followed.
    """
    if sum((bool(query), listed, attach is not None)) != 1:
        raise VlawError("one thing at a time", where="vlaw sql", remedy="Give a query, or --list, or --attach FILE.")
    if every and not listed:
        raise VlawError("--all belongs to --list", where="vlaw sql", remedy="Add --list, or leave --all out.")
    if listed:
        _list(every=every, as_json=as_json)
    elif attach is not None:
        _attach(attach, as_of)
    else:
        _ask(query, param or [], as_of, timeout, memory, as_json=as_json, as_csv=as_csv)


def _list(*, every: bool, as_json: bool) -> None:
    from vlaw_assets.query.questions import questions

    found = questions()
    if as_json:
        print_json(
            [
                {
                    "name": q.name,
                    "question": q.text,
                    "parameters": q.parameters,
                    "optional": q.optional,
                    "said": q.explained,
                }
                for q in found
            ]
        )
        return
    listed = [question for question in found if every or not question.name.startswith(OF_STUDIES)]
    for question in listed:
        console.print(question.name, style="bold", markup=False)
        console.print(f"    {question.text}", markup=False, soft_wrap=True)
        needed = [f"-p {name}=..." for name in question.parameters if name not in question.optional]
        given = " ".join([*needed, *(f"[-p {name}=...]" for name in question.optional)])
        if given:
            console.print(f"    {given}", markup=False, soft_wrap=True)
            console.print(f"    {question.explained}", markup=False, soft_wrap=True, style="dim")
    left = (
        f"; {len(found) - len(listed)} more are about studies: vlaw sql --list --all"
        if len(listed) < len(found)
        else ""
    )
    console.print(f"\n[...] may be left out{left}", markup=False, soft_wrap=True)


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
    from vlaw_assets.query.questions import FOLDER, Question, read_question

    path = Path(query) if query.endswith(".sql") else FOLDER / f"{query}.sql" if re.fullmatch(r"\w+", query) else None
    question, text = read_question(path) if path else ("", query)
    with connect(existing_lake(as_of), memory_limit=memory, lazy=True) as connection:
        table = connection.table(text, parameters(param), timeout_s=timeout)
    names, rows = (
        _columns(table.column_names),
        list(zip(*(column.to_pylist() for column in table.columns), strict=True)),
    )
    if as_json:
        print_json([dict(zip(names, map(_plain, row), strict=True)) for row in rows])
    elif as_csv:
        # To a file or a pipe a text goes as it is; a terminal would act on it.
        written = visible if sys.stdout.isatty() else str
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(map(written, names))
        writer.writerows(["" if value is None else written(str(value)) for value in row] for row in rows)
    else:
        if question:
            console.print(question, style="bold", markup=False)
        print_table([names, *(list(map(shown, row)) for row in rows[:SHOWN])])
        if not rows:
            asked = Question(query, question, text)
            missing = [name for name in asked.parameters if name not in {*asked.optional, *parameters(param)}]
            console.print("no rows" + (f": -p {', -p '.join(missing)} not given" if missing else ""), markup=False)
        if len(rows) > SHOWN:
            console.print(f"... {len(rows) - SHOWN} rows more (--json or --csv prints all)", markup=False)
        if rows and "episode_id" in names and console.is_terminal:
            words = ["vlaw", "watch", query, *(word for item in param for word in ("-p", item))]
            console.print(f"watch them: {shlex.join(words)}", style="dim", markup=False, soft_wrap=True)


def _columns(names: list[str]) -> list[str]:
    """Names of columns, each another one: 'x', 'x_1' where a join gives two of one name, as DuckDB calls them in a
    table."""
    found: dict[str, None] = {}
    for name in names:
        number = 0
        while (other := f"{name}_{number}" if number else name) in found:
            number += 1
        found[other] = None
    return list(found)


def shown(value: Any) -> str:
    """As a person reads it; --json and --csv give all digits, as does a pipe of digests and times."""
    if value is None:
        return ""
    if isinstance(value, float):
        return "0" if abs(value) < ZERO else f"{value:.4g}" if not 1e4 <= abs(value) < 1e15 else f"{value:.0f}"
    if not console.is_terminal:
        return str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value) if isinstance(value, int) else DIGEST.sub(lambda found: found[0][:SHORT], str(value))


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
