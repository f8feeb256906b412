"""What one SQL statement may use. Time is an argument of the statement; here is all the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vlaw_models.errors import VlawError

TIMEOUT_S = 60.0
MEMORY = "2GB"
MOST_SQL = 1_000_000
"""Bytes of a statement."""
MOST_DEPTH = 200
"""Brackets inside one another."""
MOST_PARAMETERS = 16 << 20
"""Bytes of a statement's parameters."""

_TOKEN = re.compile(r"""'[^']*'|"[^"]*"|--[^\n]*|/\*.*?\*/|[(\[{]|[)\]}]""", re.DOTALL)
_MEMORY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """Of one connection."""

    memory: str = MEMORY
    """What DuckDB may take for its tables and sorts, as in '2GB'; the process ends when it needs much more for
    anything."""
    threads: int = 2
    rows: int = 1_000_000
    """Rows of a result."""
    bytes: int = 64 << 20
    """Bytes of a result; each of its values, also those inside lists, counts 8 more, about what they take as Python
    objects."""

    @property
    def memory_bytes(self) -> int:
        """Raises VlawError for a text that is no size."""
        found = _MEMORY.fullmatch(self.memory)
        if not found or not float(found[1]):
            raise VlawError(
                f"{self.memory!r} is no amount of memory", where="memory_limit", remedy="give e.g. 2GB or 500MB"
            )
        power = " kmgt".index(found[2].lower() or " ")
        return int(float(found[1]) * (1024 if found[3] else 1000) ** power)

    def check(self, sql: str) -> None:
        """Raises VlawError for a statement that is too long or nested too deeply."""
        if len(sql) > MOST_SQL or len(sql.encode(errors="surrogatepass")) > MOST_SQL:
            raise VlawError(
                f"the statement has more than {MOST_SQL} bytes",
                where="sql",
                remedy="write it shorter: give a long list as one parameter (unnest($ids)), or join with a view",
            )
        depth = 0
        for token in _TOKEN.findall(sql):
            depth += (token in "([{") - (token in ")]}")
            if depth > MOST_DEPTH:
                raise too_deep()


def too_deep() -> VlawError:
    """The error for a statement that cannot be read or planned because it is nested too deeply."""
    return VlawError(
        f"the statement is nested too deeply (about {MOST_DEPTH} levels are possible)",
        where="sql",
        remedy="flatten it: WITH clauses instead of nested subqueries, a list in unnest instead of a long chain",
    )
