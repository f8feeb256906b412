"""The report of one iteration as one HTML page that needs nothing else: `vlaw report` writes it, and the asset
`iteration_report` keeps it.

No script, nothing loaded from elsewhere: it can be mailed, printed, and opened in ten years. The same lake gives the
same bytes. It says what the lake says when it is made: an asset's page is not changed by what comes after.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.reports import audit_picture
from vlaw_assets.reports.iteration import (
    against,
    covered,
    details,
    headline,
    imagined,
    judge,
    over_iterations,
    practised,
    provenance,
    same_starts,
    world,
)
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import Html, joined, tag
from vlaw_assets.reports.success import Trials, evaluations, trials_of

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

STYLE = Path(__file__).parent / "page.css"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
"""What a browser lets this page do: show what is in it."""


def build(
    lake: Lake, experiment: str, iteration: int, *, folder: Path | None = None, compared: tuple[str, int] | None = None
) -> str:
    """The page as text. Raises VlawError where the iteration, or the one it is compared with, has no policy yet.

    Args:
        folder: where the file will lie; pages of episodes that lie there are linked.
        compared: experiment and iteration of another one that it is held against.
    """
    subject = Subject(lake, experiment, iteration, folder)
    lake.ledger.require("policy", subject.key)
    columns = evaluations(lake, experiment, range(1, iteration + 1))
    sections: list[Section | None] = []
    other_line = None
    if compared:
        other = Subject(lake, *compared, folder, subject.artifacts, subject.episodes)
        lake.ledger.require("policy", other.key)
        theirs = evaluations(lake, compared[0], range(1, compared[1] + 1))
        other_line = over_iterations.line_of(compared[0], theirs)
        if columns and theirs:
            ours, last = (list(found.values())[-1] for found in (columns, theirs))
            sections.append(against.section(subject, other, ours, last))
    if columns:
        sections.insert(0, over_iterations.section(subject, columns, other_line))
    sections += [
        make.section(subject) for make in (same_starts, judge, imagined, practised, world, covered, provenance)
    ]
    sections.append(details.section(subject))
    return _page(subject, columns, [section for section in sections if section is not None])


def _page(subject: Subject, columns: dict[str, Trials], sections: Sequence[Section]) -> str:
    before, after = (_trials(subject, asset) for asset in ("start_evaluation", "policy_evaluation"))
    head = joined(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", headline.headline(subject.name, before, after).sentence),
            tag("style", Html(STYLE.read_text(encoding="utf-8") + audit_picture.STYLE)),
        ],
        "\n",
    )
    contents = [
        tag("li", tag("a", one.title, href=f"#{one.anchor}"), f" \N{MIDDLE DOT} {one.finding}" if one.finding else "")
        for one in sections
    ]
    body = [
        headline.block(subject, columns, before, after),
        tag("nav", tag("ul", *contents), aria_label="contents"),
        *(tag("section", tag("h2", one.title), one.body, id=one.anchor) for one in sections),
        tag("footer", _footer(subject)),
    ]
    whole = tag("html", tag("head", head), "\n", tag("body", tag("main", joined(body, "\n"))), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _trials(subject: Subject, asset: str) -> Trials | None:
    ref = subject.current(asset)
    return trials_of(subject.lake, ref) if ref else None


def _footer(subject: Subject) -> str:
    moment = subject.lake.moment
    last = subject.lake.ledger.artifacts()[-1].created_at.astimezone(UTC)
    seen = f"as of {moment}" if moment is not None else f"after its commit of {last:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"The lake {seen}. Episodes in quarantine are left out, labels that people gave count. This page is one file "
        "without scripts; folded parts are not printed."
    )
