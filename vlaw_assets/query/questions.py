"""The questions of the folder `sql/` (in an installed wheel: of this package): one file each, the question in English
first, then its parameters, then the SQL.

They are read, listed, and made table macros of a catalogue file.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from vlaw_assets.query.limits import MOST_SQL
from vlaw_models.errors import VlawError

FOLDER = Path(__file__).parent.parent / "sql"

_PARAMETER = re.compile(r"\$([a-z][a-z0-9_]*)")
_OPTIONAL = re.compile(r"\bcoalesce\(\s*\$([a-z][a-z0-9_]*)|\$([a-z][a-z0-9_]*)(?:::\w+)? IS (?:NOT )?NULL")
"""A parameter of which the SQL says what holds where it is not given."""
_DEFAULT = re.compile(r"\b([a-z][a-z0-9_]*) \(default\b")
"""One of which the file says it."""


@dataclass(frozen=True)
class Question:
    """One file of `sql/`."""

    name: str
    text: str
    """The question in English."""
    sql: str

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters, in the order of their first use in the SQL."""
        return list(dict.fromkeys(_PARAMETER.findall(_code(self.sql))))

    @property
    def optional(self) -> list[str]:
        """Names of the parameters that may be left out."""
        said = {first or second for first, second in _OPTIONAL.findall(_code(self.sql))}
        said.update(_DEFAULT.findall(self.explained))
        return [name for name in self.parameters if name in said]

    @property
    def explained(self) -> str:
        """What the file says about its parameters, in one line; '' if it has none."""
        header = itertools.takewhile(lambda line: line.startswith("--"), self.sql.splitlines())
        joined = " ".join(line[2:].strip() for line in header)
        return joined.partition("Parameters:")[2].strip()

    def macro(self) -> str:
        """CREATE MACRO of the same name. A parameter is called p_NAME there, since columns have the plain names."""
        body = _PARAMETER.sub(r"p_\1", _code(self.sql))
        arguments = ", ".join(f"p_{name} := NULL" for name in self.parameters)
        return f"CREATE MACRO {self.name}({arguments}) AS TABLE {body}"

    @property
    def call(self) -> str:
        """How to call the macro."""
        return f"FROM {self.name}({', '.join(f'p_{name} := ...' for name in self.parameters)})"


def read_question(path: str | Path) -> tuple[str, str]:
    """(question in English, SQL) of one file of `sql/`. Raises VlawError without the question on its first line."""
    try:
        with Path(path).open("rb") as file:  # no more than is admitted, whatever it is
            sql = file.read(MOST_SQL + 1).decode("utf-8", errors="strict").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise VlawError(
            f"cannot read the SQL file: {why}", where=str(path), remedy="`vlaw sql --list` lists the files"
        ) from error
    first = sql.partition("\n")[0]
    if not first.startswith("-- "):
        raise VlawError("the first line is not a question", where=str(path), remedy="start with '-- Which ...?'")
    return first.removeprefix("-- ").strip(), sql


def questions(folder: Path = FOLDER, which: str = "*.sql") -> list[Question]:
    """All questions, or those whose files match, by name. Raises VlawError where the folder is not there."""
    files = sorted(folder.glob(which))
    if not files:
        raise VlawError(
            "there are no questions here", where=str(folder), remedy="run from a checkout, which has the folder sql/"
        )
    return [Question(file.stem, *read_question(file)) for file in files]


def _code(sql: str) -> str:
    """SQL without its comments (none of the files has '--' inside a string)."""
    return "\n".join(line.partition("--")[0].rstrip() for line in sql.splitlines() if line.partition("--")[0].strip())
