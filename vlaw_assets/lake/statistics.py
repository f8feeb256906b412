"""What the log of a Delta table says of a data file, so that a reader can pass over it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

STATS_TEXT = 64
"""Longer texts have no minimum and maximum in the log: they are digests and JSON, which nobody looks up by range."""


def of_rows(rows: pa.Table) -> dict[str, Any]:
    """What lets a reader pass over a file: number of rows, and least and greatest value of plain columns."""
    least, greatest, nulls = {}, {}, {}
    for field in rows.schema:
        column = rows[field.name]
        nulls[field.name] = column.null_count
        plain = pa.types.is_integer(field.type) or pa.types.is_string(field.type)
        if not plain or column.null_count == len(column):
            continue
        found = pc.min_max(column)
        low, high = found["min"].as_py(), found["max"].as_py()
        if not isinstance(low, str) or max(len(low), len(high)) <= STATS_TEXT:
            least[field.name], greatest[field.name] = low, high
    return {"numRecords": rows.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The statistics of a file, from those of its parts; bounds of a column where every part with a value has some."""
    if len(parts) == 1:
        return parts[0]
    columns = parts[0]["nullCount"]
    bounded = {column: [part for part in parts if part["nullCount"][column] < part["numRecords"]] for column in columns}
    bounded = {
        name: having for name, having in bounded.items() if having and all(name in p["minValues"] for p in having)
    }
    return {
        "numRecords": sum(part["numRecords"] for part in parts),
        "minValues": {name: min(part["minValues"][name] for part in having) for name, having in bounded.items()},
        "maxValues": {name: max(part["maxValues"][name] for part in having) for name, having in bounded.items()},
        "nullCount": {column: sum(part["nullCount"][column] for part in parts) for column in columns},
    }
