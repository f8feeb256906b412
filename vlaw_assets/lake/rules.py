"""What the values of the tables must be, as pandera schemas: asked of rows before they are written, and by the asset
checks before that.

Columns, types and what may be missing are those of the Arrow schemas (schemas.py). pandera is imported when rows are
first judged: reading a lake does without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pandera.pyarrow as pandera

PURPOSES = (
    *("demonstration", "co_training", "near_success", "pretraining", "validation", "rollout", "imagined"),
    *("evaluation", "replay"),
)
SCOPES = ("rows", "whole")
"""rows: a row of the child depends only on the parent rows it names. whole: on every parent row that was read."""
SELECTIONS = ("all", "members", "listed")
"""Which episodes of the parent were read: all; those with weight > 0 in the dataset `selection_id`; those in
`reads`."""
SOURCES = ("real", "imagined", "rehearsed", "real_negative", "imagined_negative")
"""What a policy update knows of a member: where it is from, and whether its advantage is positive."""
LABELS = ("success", "failure", "near_success")
"""What a person may say of how an episode ended. A near success is a failure to whoever counts or learns."""
KEEP, WORLD_MODEL_ONLY, EXCLUDED = DECISIONS = ("keep", "world_model_only", "excluded")
"""What an episode is used for: everything; world models alone, where it counts as not judged; nothing at all."""
SAID = (*LABELS, KEEP, WORLD_MODEL_ONLY)
"""What the list of labels may say of an episode; one that is excluded is in quarantine."""
INTERVALS = {"evaluations": ("low", "value", "high")}
"""Table -> columns in rising order, where they are known."""
UNIQUE = {"reward_scores": "episode_id", "members": "episode_id"}
"""Table -> the column in which no value is there twice among the rows that are judged together."""

RULED = frozenset({"episodes", "reward_scores", "members", "evaluations", "labels", "import_findings", "edges"})
"""Tables that have rules: rows of the others are written without asking pandera."""
TWICE = {"field_uniqueness": "there once"}
"""pandera's word for the rule of UNIQUE, and ours."""


class Broken(NamedTuple):
    """A rule that rows break."""

    column: str
    rule: str
    """What the value must be."""
    value: Any
    """One that is not."""


def broken(name: str, rows: pa.Table, also: Mapping[str, Iterable[pandera.Check]] | None = None) -> list[Broken]:
    """What rows of the table `name` break of its rules, of those columns that are there; a null breaks none.

    Args:
        also: column -> further checks of it.
    """
    checks = {column: list(found) for column, found in _checks().get(name, {}).items()} if name in RULED else {}
    for column, found in (also or {}).items():
        checks.setdefault(column, []).extend(found)
    unique = UNIQUE.get(name)
    if not rows.num_rows or not {*checks, unique}.intersection(rows.column_names):
        return []
    import pandera.pyarrow as pandera
    from pandera.errors import SchemaErrors

    schema = pandera.DataFrameSchema(
        {
            column: pandera.Column(None, checks.get(column), nullable=True, unique=column == unique)
            for column in rows.column_names
            if column in checks or column == unique
        }
    )
    try:
        schema.validate(rows, lazy=True)
    except SchemaErrors as errors:
        return [
            Broken(column, TWICE.get(case["check"], case["check"]), _value(case["failure_case"], rows[column].type))
            for case in errors.failure_cases.to_pylist()
            for column in [case["column"]]
        ]
    return _out_of_order(rows, *INTERVALS[name]) if name in INTERVALS else []


def _value(text: str, kind: pa.DataType) -> Any:
    """pandera tells values as texts."""
    return float(text) if pa.types.is_floating(kind) else int(text) if pa.types.is_integer(kind) else text


def _out_of_order(rows: pa.Table, low: str, value: str, high: str) -> list[Broken]:
    for below, above in ((low, value), (value, high)):
        if {below, above} <= set(rows.column_names):
            wrong = pc.greater(rows[below], rows[above])
            if pc.any(wrong).as_py():
                return [Broken(value, f"from {low} to {high}", rows[value].filter(wrong)[0].as_py())]
    return []


@cache
def _checks() -> dict[str, dict[str, list[pandera.Check]]]:
    from pandera.pyarrow import Check

    def one_of(values: Iterable[str]) -> list[Check]:
        return [Check.isin(list(values), error=f"one of {', '.join(values)}")]

    filled = [Check.str_length(min_value=1, error="not empty")]
    count = [Check.ge(0, error="at least 0")]
    finite = [Check.gt(-math.inf, error="finite"), Check.lt(math.inf, error="finite")]
    return {
        "episodes": {
            "purpose": one_of(PURPOSES),
            "task": filled,
            "num_steps": count,
            "nearness": [Check.in_range(0.0, 1.0, error="a share in [0, 1]")],
        },
        "reward_scores": {
            "episode_id": filled,
            "judge": filled,
            "p_success": [Check.in_range(0.0, 1.0, error="a probability in [0, 1]")],
        },
        "members": {
            "episode_id": filled,
            "owner": filled,
            "weight": [*count, *finite],
            "source": one_of(SOURCES),
        },
        "evaluations": {
            "task": filled,
            "metric": filled,
            "trials": count,
            "successes": count,
            "value": finite,
        },
        "labels": {"episode_id": filled, "label": one_of(SAID), "who": filled, "why": filled},
        "import_findings": {
            "episode": [Check.ge(-1, error="a number from 0, or -1 for the dataset")],
            "row": count,
            "rule": filled,
            "decision": one_of(DECISIONS),
        },
        "edges": {"scope": one_of(SCOPES), "selection": one_of(SELECTIONS)},
    }
