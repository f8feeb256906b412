"""All sections together, and the files: Markdown, and PNG pictures in a folder of the same name beside it.

Nothing is written before everything is computed. What a person has to say about the study is in a file of its own,
`NAME_notes.md` beside the report, and is put in; the report itself is made again each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.lake.durable import write_page
from vlaw_assets.reports.study import arms, choices, claims, gates, judge, models, ran, ranks, success, world_vla_loop
from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.study.pictures import Pictures
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.reports.study.facts import Facts


def write_report(facts: Facts, out: Path) -> list[Path]:
    """Writes the report of a study to `out` and its pictures to the folder `out` without suffix; returns all files.

    Raises VlawError where the files cannot be written.
    """
    if out.suffix != ".md":
        raise VlawError("a report is a Markdown file", where=str(out), remedy="Choose a name that ends in .md.")
    pictures = Pictures(out.stem)
    text = build(facts, pictures, notes_of(out))
    folder = out.with_suffix("")
    for name, png in pictures.made.items():
        write_page(folder / name, png, remedy="Choose a file with --out.")
    write_page(out, text, remedy="Choose a file with --out.")
    return [out, *(folder / name for name in pictures.made)]


def build(facts: Facts, pictures: Pictures, notes: str = "") -> str:
    """The report as text; `pictures` is filled."""
    sections = [
        ran.section(facts),
        gates.section(facts),
        success.section(facts, pictures),
        models.section(facts),
        judge.section(facts, pictures),
        arms.figure_9(facts, pictures),
        arms.price(facts, pictures),
        ranks.section(facts, pictures),
        choices.section(facts),
        claims.section(facts),
        *filter(None, [world_vla_loop.section(facts, pictures)]),
    ]
    if notes:
        sections.append(f"## Discussion\n\n{notes.strip()}")
    introduction = (
        f"Made by `vlaw report study {facts.study}` from {facts.source}; up to the discussion, every number is the "
        "answer to a question of `sql/study_*.sql`, or computed from such answers. Do not edit. Paper: "
        f"[{paper()['source']}]({paper()['url']})."
    )
    return f"# Study {facts.study}\n\n{introduction}\n\n" + "\n\n".join(sections) + "\n"


def notes_of(out: Path) -> str:
    """The hand-written discussion beside the report; '' where there is none."""
    file = out.with_name(f"{out.stem}_notes.md")
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise VlawError(
            f"the notes cannot be read: {error}", where=str(file), remedy="Save them as UTF-8 text."
        ) from error
