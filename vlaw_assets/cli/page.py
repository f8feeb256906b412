"""Pieces of an HTML page that needs nothing else: tables and pictures inside the file."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of text, the header first."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f"<table><tr>{head}</tr>{body}</table>"


def image(png: bytes, text: str) -> str:
    """A picture as a data: URI."""
    return f'<p><img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'
