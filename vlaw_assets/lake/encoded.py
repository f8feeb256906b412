"""An episode as the lake stores it, in one Arrow row: made once, where its pixels are, and written wherever it goes.

It lacks what only the artifact that it is written to can say: owner, ids, position and time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from vlaw_assets.lake import frames
from vlaw_assets.lake.episodes import check_episode, episode_row, timestamps
from vlaw_assets.lake.schemas import EPISODES, FRAMES, OWNER, STEPS
from vlaw_models.episodes import Episode

LATER = {*OWNER, "episode_id", "episode_index", "created_at"}
"""Columns that are known when it is written."""
_STEP = pa.struct([field for field in STEPS if field.name not in LATER])
_FRAME = pa.struct([field for field in FRAMES if field.name in frames.Frame._fields])
ENCODED = pa.schema(
    [
        *(field for field in EPISODES if field.name not in LATER),
        pa.field("steps", pa.list_(_STEP), nullable=False),
        pa.field("frames", pa.list_(_FRAME), nullable=False),
    ]
)


def encode_episode(
    episode: Episode,
    *,
    purpose: str,
    world: str | None = None,
    policy: str | None = None,
    world_model: str | None = None,
    label_source: str | None = None,
    where: str,
) -> pa.Table:
    """One row of ENCODED. VlawError for arrays that do not fit each other, and an `extra` that is not plain JSON.

    Args:
        policy, world_model: content digests of what acted and of what it acted in.
        label_source: who judged success; default 'world' where success is known, else ''.
    """
    check_episode(episode, where=where)
    stored = frames.encoded(episode, purpose=purpose)
    row = episode_row(
        episode,
        stored,
        purpose=purpose,
        world=world,
        policy=policy,
        world_model=world_model,
        label_source=label_source,
        where=where,
    )
    columns = {name: [value] for name, value in row.items()}
    return pa.table(columns | {"steps": _whole(_steps(episode)), "frames": _whole(_frames(stored))}, schema=ENCODED)


def inner(part: pa.Table, name: str, ids: Sequence[str]) -> pa.Table:
    """The rows of the column 'steps' or 'frames' of encoded episodes, one after the other, with their episode ids."""
    lists = part[name].combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    counts = lists.value_lengths().to_numpy()
    rows = pa.Table.from_struct_array(lists.flatten())
    owners = pa.array(ids, pa.string()).take(pa.array(np.repeat(np.arange(len(ids)), counts)))
    return rows.append_column("episode_id", owners)


def _whole(rows: pa.StructArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array([0, len(rows)], pa.int32()), rows)


def _steps(episode: Episode) -> pa.StructArray:
    """T+1 rows: state at each step, the action taken there (none at the last), and the sparse reward of that action."""
    count = episode.num_steps + 1
    acted = np.arange(count) < episode.num_steps
    unknown = ~acted if episode.success is not None else np.ones(count, bool)
    reward = np.zeros(count, np.float32)
    reward[-2:-1] = float(bool(episode.success))
    columns = {
        "step": pa.array(np.arange(count), pa.int32()),
        "timestamp": pa.array(timestamps(episode), pa.float64()),
        "state": _lists(episode.states, count),
        "action": _lists(episode.actions, count),
        "reward": pa.array(reward, pa.float32(), mask=unknown),
    }
    return pa.StructArray.from_arrays(list(columns.values()), fields=list(_STEP))


def _lists(values: np.ndarray, count: int) -> pa.ListArray:
    """(rows, N) as `count` lists; those beyond the rows are null."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    begins = np.minimum(np.arange(count + 1), len(values)) * values.shape[1]
    there = pa.array(np.arange(count) >= len(values))
    return pa.ListArray.from_arrays(pa.array(begins, pa.int32()), flat, mask=there)


def _frames(stored: Sequence[frames.Frame]) -> pa.StructArray:
    columns = list(zip(*stored, strict=True)) if stored else [()] * len(_FRAME)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _FRAME, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(_FRAME))
