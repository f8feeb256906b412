"""What every command shares: the two consoles, JSON on request, and errors as messages instead of tracebacks.

Exit codes: 0 done, 1 something is wrong (a defect, or doctor found a problem), 2 a VlawError: the user can mend it.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from unicodedata import category

import typer
import typer.core
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from vlaw_models.errors import VlawError
from vlaw_models.plain_text import is_text

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_assets.recipes.schema import Recipe

GARBAGE_EVERY = 50_000
"""Objects that Python may make before it looks for cycles. A ledger is a million of them, all in use: looking for
cycles among them every 700 objects was a quarter of the time of `vlaw status`."""
WORDS = "vlaw.words"
"""Key of the words of a command in its context."""
NOT_A_TERMINAL = 160
"""Width of what is written to a file or a pipe; a terminal has its own."""

AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="MOMENT",
        help="See the lake as it was then: an artifact, an iteration (vlaw/02), a time (2026-03-01T12:00), or "
        "#sequence.",
    ),
]
"""The option that every reading command has; give it to `existing_lake`."""


def visible(text: str) -> str:
    r"""The text with everything that is not shown, but does something to a terminal or to a reader, written out:
    '\x1b'.

    That is whatever Unicode calls not printable (controls, direction and zero-width marks, other line ends, halves of
    characters, what has no meaning yet) but newline, tab and spaces of all widths.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" or category(char) == "Zs" else _written(ord(char)) for char in text
    )


def _written(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class SafeConsole(Console):
    """A console to which texts of a lake are texts: no character in them does anything but show.

    Everything that a command shows passes here. Texts become visible before they are measured (`render_str`), and
    whatever was made without that, when it is rendered; the escape sequences are rich's own.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield (
                segment
                if segment.control or segment.text.isprintable()
                else Segment(visible(segment.text), segment.style)
            )


console = SafeConsole(highlight=False, emoji=False, width=None if sys.stdout.isatty() else NOT_A_TERMINAL)
errors = SafeConsole(stderr=True, highlight=False, emoji=False)


class Commands(typer.core.TyperGroup):
    """The command group whose errors are messages."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        from vlaw_assets.lake import disk
        from vlaw_assets.pipeline.driver import StageError

        gc.set_threshold(GARBAGE_EVERY, *gc.get_threshold()[1:])
        try:
            _check_text(ctx.meta[WORDS])
            return super().invoke(ctx)
        except VlawError as error:
            errors.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(2) from error
        except StageError as error:
            errors.print(f"[bold red]defect:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(1) from error
        except typer.TyperException as error:
            error.message = visible(error.message)  # typer prints it, on a console of its own
            raise
        except Exception as error:  # whichever library met a full or read-only disk
            known = disk.named(error)
            if known is None:
                raise
            errors.print(f"[bold red]error:[/] {escape(str(known))}", soft_wrap=True)
            raise typer.Exit(2) from error


def _check_text(words: Sequence[str]) -> None:
    """Raises VlawError for bytes that are no text: nothing that reads or writes a lake takes them."""
    for word in words:
        if not is_text(word):
            raise VlawError("a word of the command is no text", where=word, remedy="Give it in UTF-8.")


def print_json(value: Any, *, notes: Sequence[str] = ()) -> None:
    """JSON for programs, on standard output, nothing else around it; a key "notes" (see `Lake.notes`) if there are any.

    It is ASCII: all other characters, and DEL, are JSON's escapes.
    """
    if notes:
        value = {**value, "notes": list(notes)}
    text = json.dumps(value, indent=2, sort_keys=True, default=str, allow_nan=False)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def print_table(rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table of text, the header first, as wide as the terminal (see tables.py); a pipe has no width.

    Not rich's own: that takes a millisecond for a row, and cuts every column to make room for the last.
    """
    from vlaw_assets.cli.tables import blocks

    if title:
        console.print(title, style="bold", markup=False, soft_wrap=True)
    cells = [[visible(str(cell)).replace("\n", "\\n").replace("\t", "\\t") for cell in row] for row in rows]
    for number, lines in enumerate(blocks(cells, console.width if console.is_terminal else None)):
        text = Text("\n".join([*[""] * (number > 0), *lines]), overflow="ignore", no_wrap=True)
        text.stylize("bold", 0, (number > 0) + len(lines[0]))
        console.print(text, soft_wrap=True)


def existing_lake(as_of: str | None = None) -> Lake:
    """The lake of VLAW_LAKE for reading, now or as of a moment; what is to be said of that moment is printed to stderr.

    Raises VlawError where there is none.
    """
    from vlaw_assets.environment import default_lake
    from vlaw_assets.lake import Lake

    lake = Lake.open(default_lake(), create=False)
    if as_of is not None:
        lake = lake.as_of(as_of)
    for note in lake.notes:
        errors.print(f"note: {note}", markup=False, soft_wrap=True)
    return lake


def known_experiment(name: str) -> Recipe:
    """The recipe of an experiment. Raises VlawError for an unknown one."""
    from vlaw_assets.environment import recipes_folder
    from vlaw_assets.recipes import find_recipe

    return find_recipe(name, recipes_folder())
