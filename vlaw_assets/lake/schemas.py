"""Arrow schemas of the Delta and Lance tables; a row that does not fit, or breaks a rule (rules.py), never reaches the
disk.

Unsigned types are avoided (Delta stores them as signed ones of the same width).
"""

from __future__ import annotations

import pyarrow as pa

from vlaw_assets.lake.rules import broken
from vlaw_models.errors import VlawError

TIMESTAMP = pa.timestamp("us", tz="UTC")

_OWNER = [
    pa.field("artifact_id", pa.string(), nullable=False),
    pa.field("asset", pa.string(), nullable=False),
    pa.field("partition_key", pa.string(), nullable=False),
    pa.field("experiment", pa.string(), nullable=False),
    pa.field("iteration", pa.int32(), nullable=False),
]
"""First columns of every data table: whose rows these are."""
OWNER = tuple(field.name for field in _OWNER)


def _text(name: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, pa.string(), nullable=nullable)


EPISODES = pa.schema(
    [
        *_OWNER,
        _text("episode_id", nullable=False),
        pa.field("episode_index", pa.int32(), nullable=False),
        _text("purpose", nullable=False),
        _text("world"),
        _text("task", nullable=False),
        _text("instruction", nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        _text("start_episode_id"),
        _text("policy"),
        _text("world_model"),
        pa.field("num_steps", pa.int32(), nullable=False),
        pa.field("success", pa.bool_()),
        _text("event", nullable=False),
        pa.field("nearness", pa.float64()),
        _text("label_source", nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("cameras", pa.list_(pa.string())),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        _text("extra_json", nullable=False),
        _text("content_digest", nullable=False),
        pa.field("created_at", TIMESTAMP, nullable=False),
    ]
)
STEPS = pa.schema(
    [
        *_OWNER,
        _text("episode_id", nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("timestamp", pa.float64(), nullable=False),
        pa.field("state", pa.list_(pa.float32()), nullable=False),
        pa.field("action", pa.list_(pa.float32())),
        pa.field("reward", pa.float32()),
    ]
)
REWARD_SCORES = pa.schema(
    [
        *_OWNER,
        pa.field("position", pa.int64(), nullable=False),
        _text("episode_id", nullable=False),
        _text("owner"),
        _text("judge", nullable=False),
        _text("task"),
        pa.field("p_success", pa.float64(), nullable=False),
    ]
)
MEMBERS = pa.schema(
    [
        *_OWNER,
        pa.field("position", pa.int64(), nullable=False),
        _text("episode_id", nullable=False),
        _text("owner", nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        _text("source", nullable=False),
    ]
)
EVALUATIONS = pa.schema(
    [
        *_OWNER,
        pa.field("position", pa.int64(), nullable=False),
        _text("task", nullable=False),
        _text("metric", nullable=False),
        _text("policy"),
        _text("world_model"),
        _text("reward_model"),
        _text("camera"),
        pa.field("trials", pa.int64()),
        pa.field("successes", pa.int64()),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        _text("detail_json", nullable=False),
    ]
)
EDGES = pa.schema(
    [
        *_OWNER,
        _text("parent_id", nullable=False),
        _text("role", nullable=False),
        _text("read_as", nullable=False),
        _text("scope"),
        _text("selection"),
        _text("selection_id"),
    ]
)
READS = pa.schema(
    [
        *_OWNER,
        pa.field("position", pa.int64(), nullable=False),
        _text("parent_id", nullable=False),
        _text("episode_id", nullable=False),
    ]
)
QUARANTINE = pa.schema(
    [
        *_OWNER,
        pa.field("position", pa.int64(), nullable=False),
        _text("episode_id", nullable=False),
        _text("why", nullable=False),
        _text("by", nullable=False),
        pa.field("at", TIMESTAMP, nullable=False),
    ]
)
LABELS = pa.schema(
    [
        *_OWNER,
        pa.field("position", pa.int64(), nullable=False),
        _text("episode_id", nullable=False),
        _text("label", nullable=False),
        _text("who", nullable=False),
        _text("why", nullable=False),
        pa.field("at", TIMESTAMP, nullable=False),
    ]
)
IMPORT_FINDINGS = pa.schema(
    [
        *_OWNER,
        pa.field("position", pa.int64(), nullable=False),
        pa.field("episode", pa.int32(), nullable=False),
        pa.field("row", pa.int32()),
        _text("rule", nullable=False),
        _text("value", nullable=False),
        _text("decision", nullable=False),
    ]
)
RECORDED_STATISTICS = pa.schema(
    [
        *_OWNER,
        pa.field("position", pa.int64(), nullable=False),
        _text("vector", nullable=False),
        pa.field("number", pa.int32(), nullable=False),
        _text("name", nullable=False),
        _text("unit", nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("mean", "std", "min", "max", "q01", "q99")),
    ]
)
REFUSED_RECORDINGS = pa.schema(
    [
        *_OWNER,
        pa.field("position", pa.int64(), nullable=False),
        *(_text(name, nullable=False) for name in ("recording", "session", "what", "place", "remedy")),
        pa.field("at", TIMESTAMP, nullable=False),
    ]
)
ARTIFACTS = pa.schema(
    [
        *_OWNER,
        *(
            _text(name, nullable=False)
            for name in (
                "partition",
                "kind",
                "content_digest",
                "code_digest",
                "recipe_digest",
                "parents_digest",
                "identity_digest",
                "source_artifact_id",
                "location",
                "versions_json",
                "recipe_json",
                "metrics_json",
                "run_id",
                "code_revision",
            )
        ),
        pa.field("num_rows", pa.int64(), nullable=False),
        pa.field("created_at", TIMESTAMP, nullable=False),
        _text("contents_json"),
    ]
)
FRAMES = pa.schema(
    [
        _text("artifact_id"),
        _text("episode_id"),
        pa.field("step", pa.int32()),
        _text("camera"),
        _text("format"),
        pa.field("image", pa.binary()),
    ]
)

TABLES: dict[str, pa.Schema] = {
    "episodes": EPISODES,
    "steps": STEPS,
    "reward_scores": REWARD_SCORES,
    "members": MEMBERS,
    "evaluations": EVALUATIONS,
    "reads": READS,
    "quarantine": QUARANTINE,
    "labels": LABELS,
    "refused_recordings": REFUSED_RECORDINGS,
    "import_findings": IMPORT_FINDINGS,
    "recorded_statistics": RECORDED_STATISTICS,
    "edges": EDGES,
    "artifacts": ARTIFACTS,
}
ADDED = {"edges": {"scope": "whole", "selection": "all", "selection_id": ""}, "artifacts": {"contents_json": ""}}
"""Columns that format 1 did not have, and how its rows read: nullable in Delta, never null in a row written now."""
NEW = {"episodes": ("nearness",)}
"""Columns that formats 1 and 2 did not have: null in their rows, and where nobody measured it in rows of today."""
ORDER: dict[str, list[tuple[str, str]]] = {
    "episodes": [("episode_index", "ascending")],
    "steps": [("episode_id", "ascending"), ("step", "ascending")],
    **{name: [("position", "ascending")] for name, schema in TABLES.items() if "position" in schema.names},
}
"""Delta promises no row order; whoever draws batches by index needs the one the rows were written in."""
LATER = {"labels", "refused_recordings", "import_findings", "recorded_statistics"}
"""Tables that are made when something is first written to them: a lake may have none yet."""
PARTITIONED = set(TABLES) - {"artifacts", "edges"}
"""Ledger tables (artifacts, edges) are small and read whole: partitioning them would only make more folders."""


def validated(name: str, rows: list[dict] | pa.Table, *, where: str) -> pa.Table:
    """Rows as an Arrow table of the schema of `name`. Raises VlawError naming column and value of the first bad row."""
    schema = TABLES[name]
    try:
        if isinstance(rows, pa.Table):
            table = pa.Table.from_arrays([rows[field.name].cast(field.type) for field in schema], schema=schema)
        else:
            table = pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, KeyError) as error:
        raise VlawError(
            f"rows for {name} do not fit its schema: {error}", where=where, remedy="mend the rows"
        ) from error
    for field in schema:
        if (not field.nullable or field.name in ADDED.get(name, ())) and table[field.name].null_count:
            raise VlawError(
                f"{name}.{field.name} is missing in a row", where=where, remedy=f"give every row a {field.name}"
            )
    for column, rule, value in broken(name, table)[:1]:
        raise VlawError(f"{name}.{column} = {value!r}, must be {rule}", where=where, remedy="mend the rows")
    return table
