"""Texts of the data inside Markdown: as they are, whatever characters they are made of."""

from __future__ import annotations

import re

from vlaw_models.plain_text import readable

MARKS = re.compile(r"([\\`*\[\]<>|~$#!])|(?<![A-Za-z0-9])(_)|(_)(?![A-Za-z0-9])")


def literal(text: str) -> str:
    """A text that Markdown shows as it is: one line, its marks escaped, what cannot be printed as a question mark."""
    return MARKS.sub(lambda found: "\\" + found[0], readable(text).replace("&", "&amp;"))
