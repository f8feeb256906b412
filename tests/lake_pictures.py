"""All that a reader can see of a lake, as values to compare."""

from __future__ import annotations

from vlaw_assets.lake import Lake
from vlaw_assets.lake.schemas import ORDER, TABLES
from vlaw_assets.query import connect


def picture(lake: Lake) -> dict[str, object]:
    """All that can be read of a lake: ledger, current versions, edges, rows, pixels, checkpoints, SQL."""
    refs = lake.ledger.artifacts()
    names = {(ref.asset, ref.partition) for ref in refs}
    seen: dict[str, object] = {
        "refs": refs,
        "current": {name: lake.ledger.current(*name) for name in names},
        "edges": [lake.ledger.edge_rows(ref.artifact_id) for ref in refs],
    }
    for ref in refs:
        handle = lake.read(ref)
        seen[ref.artifact_id] = (
            [handle.table(name) for name in ORDER],
            [(e.episode_id, e.images.tobytes(), e.states.tobytes()) for e in handle.episodes()],
            handle.checkpoint() if ref.location else None,
        )
    with connect(lake) as query:
        for view in (*TABLES, "frames"):
            seen[f"sql {view}"] = sorted(map(str, query.execute(f"SELECT * FROM {view}").fetchall()))
    return seen


def moments(lake: Lake) -> dict[int, dict[str, object]]:
    """The picture of the lake as of each of its commits."""
    return {number: picture(lake.as_of(number)) for number in range(len(lake.ledger.artifacts()))}
