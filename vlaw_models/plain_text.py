"""Texts that come from data, made fit for one line of a page, a picture or a terminal."""

from __future__ import annotations


def readable(text: str) -> str:
    """The text on one line: what cannot be printed becomes a question mark, what is space a space."""
    return "".join(one if one.isprintable() else " " if one.isspace() else "?" for one in text)


def is_text(text: str) -> bool:
    """Whether it can be written: half a character, which stands for bytes of another encoding, cannot."""
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)
