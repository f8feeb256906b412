"""HTML as values: a text is escaped unless it is `Html`, so that no text of the data becomes markup."""

from __future__ import annotations

import base64
import html
import struct
from collections.abc import Iterable, Mapping, Sequence

from vlaw_models.plain_text import readable

VOID = ("img", "br", "meta")
SHARPER = 2
"""Pixels of a plot for each that it takes on the page: sharp on dense screens and on paper."""


class Html(str):
    """Markup, as it stands."""

    __slots__ = ()


def text(value: str) -> Html:
    """A text of the data on one line, escaped, what cannot be printed as a question mark; markup as it is."""
    return value if isinstance(value, Html) else Html(html.escape(readable(value)))


def joined(parts: Iterable[str], between: str = "") -> Html:
    """All parts, the texts among them escaped."""
    return Html(text(between).join(map(text, parts)))


def tag(name: str, /, *children: str, **attributes: str | None) -> Html:
    """An element. Attributes are escaped; `cls` is the class, '' an attribute without a value, None no attribute."""
    said = "".join(
        f" {'class' if key == 'cls' else key.replace('_', '-')}" + (f'="{text(value)}"' if value else "")
        for key, value in attributes.items()
        if value is not None
    )
    inner = joined(children)
    return Html(f"<{name}{said}>" if name in VOID else f"<{name}{said}>{inner}</{name}>")


def table(rows: Sequence[Sequence[str]], *, ids: Mapping[int, str] | None = None, cls: str = "") -> Html:
    """A table, the header first; where it is too wide it scrolls by itself. `ids`: row of the body -> its anchor."""
    head = tag("tr", *(tag("th", cell) for cell in rows[0]))
    body = [
        tag("tr", *(tag("td", cell) for cell in row), id=(ids or {}).get(number)) for number, row in enumerate(rows[1:])
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body), cls=cls or None), cls="wide")


def plot(png: bytes, alt: str) -> Html:
    """A plot that was drawn with `SHARPER` times the pixels that it takes."""
    width, height = struct.unpack(">II", png[16:24])
    return tag(
        "img", alt=alt, width=str(width // SHARPER), height=str(height // SHARPER), src=data_of(png, "image/png")
    )


def data_of(file: bytes, kind: str) -> Html:
    """The file as a data: URI."""
    return Html(f"data:{kind};base64,{base64.b64encode(file).decode('ascii')}")


def folded(title: str, /, *children: str, **attributes: str | None) -> Html:
    """What is shown at a click on its title."""
    return tag("details", tag("summary", title), *children, **attributes)


def note(*children: str) -> Html:
    """Small print."""
    return tag("p", *children, cls="note")


def code(value: str) -> Html:
    return tag("code", value)
