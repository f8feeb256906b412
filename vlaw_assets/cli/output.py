"""What every command shares: the two consoles, JSON on request, and errors as messages instead of tracebacks.

Exit codes: 0 done, 1 something is wrong (a defect, or doctor found a problem), 2 a VlawError: the user can mend it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

NOT_A_TERMINAL = 160
"""Width of what is written to a file or a pipe; a terminal has its own."""

AsOf = Annotated[str | None, typer.Option(
    "--as-of", metavar="MOMENT",
    help="See the lake as it was then: an artifact, an iteration (vlaw/02), a time (2026-03-01T12:00), or #sequence.",
)]
"""The option that every reading command has; give it to `existing_lake`."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else NOT_A_TERMINAL)
errors = Console(stderr=True, highlight=False)


class Commands(typer.core.TyperGroup):
    """The command group whose errors are messages."""

    def invoke(self, ctx: Any) -> Any:
        from vlaw_assets.driver import StageError

        try:
            return super().invoke(ctx)
        except VlawError as error:
            errors.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(2) from error
        except StageError as error:
            errors.print(f"[bold red]defect:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(1) from error


def print_json(value: Any) -> None:
    """JSON for programs, on standard output, nothing else around it."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, default=str, allow_nan=False) + "\n")


def print_table(rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table of text, the header first; the first column left, the others right."""
    if title:
        console.print(title, style="bold", markup=False, soft_wrap=True)
    table = Table(header_style="bold", box=None, pad_edge=False)
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def existing_lake(as_of: str | None = None) -> Lake:
    """The lake of VLAW_LAKE for reading, now or as of a moment. Raises VlawError where there is none."""
    from vlaw_assets.environment import default_lake
    from vlaw_assets.lake import Lake

    lake = Lake.open(Path(default_lake()), create=False)
    return lake if as_of is None else lake.as_of(as_of)


def known_experiment(name: str) -> Any:
    """The recipe of an experiment. Raises VlawError for an unknown one."""
    from vlaw_assets.environment import default_recipes
    from vlaw_assets.recipes import find_recipe

    folder = default_recipes()
    return find_recipe(name, Path(folder) if folder else None)
