"""Commands that show the episodes of a shift: `vlaw watch` with ids, or with a SELECT that finds them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

FEW = 6
"""Episodes that a command names one by one."""


def watch_ids(lake: Lake, ids: Sequence[str]) -> str:
    """These episodes, the first few of them; '' for none."""
    return _command(lake, [*ids[:FEW]]) if ids else ""


def watch_sql(lake: Lake, sql: str) -> str:
    """The episodes that this SELECT finds."""
    return _command(lake, [" ".join(sql.split())])


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _command(lake: Lake, words: list[str]) -> str:
    moment = [] if lake.moment is None else ["--as-of", str(lake.moment)]
    return " ".join(["vlaw", "watch", *map(_word, [*words, *moment])])


def _word(text: str) -> str:
    """A word of a shell: SQL is full of single quotes, so it stands in double ones where that changes nothing."""
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)
