"""`vlaw report`: one self-contained HTML page of an iteration (reports/iteration/), or the report of a study.

`vlaw report study NAME` writes a study's report instead (reports/study/): no experiment is called 'study'.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlaw_assets.cli.browser import open_browser
from vlaw_assets.cli.output import AsOf, console, existing_lake, known_experiment
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

STUDY = "study"
STUDY_FILE = Path("docs") / "study.md"


def report(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT|study", help="Name of a recipe; or the word 'study'.")
    ],
    which: Annotated[str, typer.Argument(metavar="ITERATION|NAME", help="The iteration, e.g. 2; or the study's name.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write; by default below runs/, of a study docs/study.md."),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER", help="An iteration of another experiment, e.g. filtered_bc/02, to hold this one against."
        ),
    ] = None,
    *,
    opened: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = False,
    rows: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", help="Of a study: a file that `vlaw export study` wrote, in place of the lake. Once per piece."
        ),
    ] = None,
    as_of: AsOf = None,
) -> None:
    """One HTML page about an experiment up to an iteration; or the Markdown report of a study, pictures beside it."""
    if experiment == STUDY:
        if compare is not None or opened:
            raise VlawError(
                "--compare and --open are for iterations",
                where="vlaw report study",
                remedy="Leave them out: the report of a study is Markdown, and compares its arms.",
            )
        if rows and as_of:
            raise VlawError("--as-of is for lakes", where="vlaw report study --from", remedy="Leave one of them out.")
        of_study(which, out or STUDY_FILE, as_of, rows or [])
        return
    if rows:
        raise VlawError("--from is for studies", where=f"vlaw report {experiment}", remedy="vlaw report study NAME")
    from vlaw_assets.lake.durable import write_page
    from vlaw_assets.reports.iteration.page import build

    iteration, lake = _number(which, f"vlaw report {experiment} 1"), existing_lake(as_of)
    _known(lake, experiment)
    path = out or Path("runs") / f"{experiment}_{iteration:02d}.html"
    page = build(lake, experiment, iteration, folder=path.parent, compared=_other(lake, experiment, iteration, compare))
    write_page(path, page, remedy="Choose a file with --out.")
    console.print(f"{path} ({len(page.encode()) / 1e6:.1f} MB)", markup=False, soft_wrap=True)
    if opened:
        open_browser(path.absolute().as_uri())


def of_study(study: str, out: Path, as_of: str | None, rows: list[Path]) -> None:
    """Writes the report of a study."""
    from vlaw_assets.reports.study.facts import facts_of, facts_of_files
    from vlaw_assets.reports.study.write import write_report

    facts = facts_of_files(rows, study) if rows else facts_of(existing_lake(as_of), study)
    files = write_report(facts, out)
    console.print(f"{files[0]} and {len(files) - 1} pictures in {out.with_suffix('')}", markup=False, soft_wrap=True)


def _number(text: str, example: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise VlawError(f"{text!r} is not an iteration", where="vlaw report", remedy=f"Give a number: {example}")
    return int(text)


def _known(lake: Lake, experiment: str) -> None:
    """What was made under a recipe that is gone by now can be read all the same."""
    if not any(ref.partition.startswith(f"{experiment}|") for ref in lake.ledger.artifacts()):
        known_experiment(experiment)


def _other(lake: Lake, experiment: str, iteration: int, text: str | None) -> tuple[str, int] | None:
    """The iteration that this one is held against. Raises VlawError for what is none, or is this one."""
    if text is None:
        return None
    name, _, number = text.replace("|", "/").partition("/")
    other = name, _number(number, f"vlaw report {experiment} {iteration} --compare {name}/1")
    _known(lake, name)
    if other == (experiment, iteration):
        raise VlawError(
            f"{text} is held against itself",
            where="--compare",
            remedy="Name another iteration: vlaw status lists them.",
        )
    return other
