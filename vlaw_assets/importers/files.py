"""Files of a dataset that may come from anybody: none outside its folder is opened, and a damaged one is named.

Path templates are format strings out of a JSON file, so only plain number fields are allowed in them, and every path
must resolve to a regular file inside the dataset's folder.
"""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

NUMBER = re.compile(r"(0?\d?\d?d)?")
"""Format of a number in a path template, e.g. 03d; a width of at most two digits."""
BROKEN = "Copy the dataset again, or repair it with LeRobot's own tools (a recording must be finalized)."


def inside(root: Path, relative: str, *, what: str) -> Path:
    """`root/relative` resolved, links followed. VlawError unless it is a regular, non-empty file inside `root`."""
    where = str(root / relative) if "\0" not in relative else str(root)
    if "\0" in relative or Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise VlawError(
            f"the path of the {what} is not one inside the dataset: {relative!r}",
            where=where,
            remedy="Do not import this dataset unless you know why it points there.",
        )
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise VlawError(
            f"the {what} is a link to a file outside the dataset: {path}",
            where=where,
            remedy="Copy the dataset with its links followed (cp -rL), if you trust what they point to.",
        )
    if not path.is_file():
        raise VlawError(f"the {what} is missing", where=where, remedy=BROKEN)
    if path.stat().st_size == 0:
        raise VlawError(f"the {what} is empty", where=where, remedy=BROKEN)
    return path


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A parquet file as a table. VlawError where it is damaged or lacks a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            present = set(file.schema_arrow.names)
            missing = [name for name in columns or [] if name not in present]
            if missing:
                raise VlawError(f"the file has no column {missing[0]!r}", where=str(path), remedy=BROKEN)
            return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise VlawError(
            f"the parquet file cannot be read: {str(error)[:200]}", where=str(path), remedy=BROKEN
        ) from error


def template(text: Any, fields: set[str], name: str, where: str) -> str:
    """A path template with nothing in it but plain fields: no attribute, index, conversion or computed width."""
    wrong = VlawError(
        f"{name} is {str(text)[:120]!r}",
        where=where,
        remedy=f"A relative path with the fields {', '.join(sorted(fields))} and nothing else is expected.",
    )
    if not isinstance(text, str):
        raise wrong
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise wrong from error
    for _, field, spec, conversion in parts:
        if field is None:
            continue
        plain = field in fields and conversion is None
        if not plain or not (spec == "" if field == "video_key" else NUMBER.fullmatch(spec or "")):
            raise wrong
    if Path(text).is_absolute() or ".." in Path(text).parts or "\0" in text:
        raise wrong
    return text
