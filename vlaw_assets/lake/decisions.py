"""What an episode is used for: everything, world models alone, or nothing.

An import decides (importers/findings.py), a person may decide otherwise (`vlaw label`), and an episode without an
outcome is for world models alone until somebody labels it. What an import decided lies in the row's `extra_json`; what
a person says of it is on the list of labels; an excluded episode is in quarantine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vlaw_assets.lake.durable import canonical_json
from vlaw_assets.lake.rules import DECISIONS, KEEP, WORLD_MODEL_ONLY

UNNAMED_TASK = "unspecified"
"""Instruction of an episode that was recorded without one (some of DROID's were)."""
KEY = "decision"
"""Of an episode's `extra`; not there where it is kept."""
MARK = canonical_json({KEY: WORLD_MODEL_ONLY})[1:-1]
"""What is in the `extra_json` of an episode for world models alone."""
IN_SQL = f"contains(extra_json, '{MARK}')"
"""The same of a row of `episodes`, in SQL."""


def worst(decisions: Iterable[str]) -> str:
    """What several findings on one episode come to."""
    return max(decisions, key=DECISIONS.index, default=KEEP)


def marked(extra: Mapping[str, Any], decision: str) -> dict[str, Any]:
    """An episode's `extra` with this decision."""
    bare = {name: value for name, value in extra.items() if name != KEY}
    return bare if decision == KEEP else bare | {KEY: decision}


def stored(extra_json: str) -> str:
    """The decision that lies in a row."""
    return str(json.loads(extra_json).get(KEY, KEEP)) if MARK in extra_json else KEEP


def as_stored(success: bool | None, extra_json: str) -> bool | None:  # noqa: FBT001 (a value, not a switch)
    """The outcome of a row that nobody has said anything of."""
    return None if stored(extra_json) == WORLD_MODEL_ONLY else success


def withheld(table: pa.Table) -> pa.ChunkedArray:
    """Column `success` of rows of `episodes` (with `extra_json`), null where the row is for world models alone."""
    none = pa.scalar(None, pa.bool_())
    return pc.if_else(pc.match_substring(table["extra_json"], MARK), none, table["success"])
