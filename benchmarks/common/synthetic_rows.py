"""Columns and rows of a synthetic ledger."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlaw_assets.lake import ArtifactRef

DIMENSIONS = 5
"""Of states and actions."""


def episode_ids(ref: ArtifactRef, purpose: str, indices: np.ndarray) -> pa.Array:
    """Ids as `Draft.write_episodes` gives them."""
    numbers = pc.utf8_lpad(pc.cast(pa.array(indices), pa.string()), 5, "0")
    return pc.binary_join_element_wise(f"{purpose}-{ref.identity_digest[:12]}", numbers, "-")


def episode_id(ref: ArtifactRef, purpose: str, index: int) -> str:
    return episode_ids(ref, purpose, np.array([index]))[0].as_py()


def add_members(draft: Any, ref: ArtifactRef, ids: pa.Array, weight: float, source: str) -> None:
    count = len(ids)
    draft.write_table(
        "members",
        pa.table(
            {
                "episode_id": ids,
                "owner": same(ref.artifact_id, count),
                "weight": np.full(count, weight),
                "source": same(source, count),
            }
        ),
    )


def same(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), count)


def digests(random: np.random.Generator, count: int) -> pa.Array:
    text = random.bytes(32 * count).hex().encode()
    offsets = np.arange(0, 64 * count + 1, 64, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))


def vectors(random: np.random.Generator, count: int, missing: np.ndarray) -> pa.Array:
    """(count, 5) float32 in 256 levels as lists; null where `missing`."""
    kept = count - int(missing.sum())
    levels = random.integers(0, 256, kept * DIMENSIONS, dtype=np.uint8)
    values = (levels.astype(np.float32) - 128) / 128
    lengths = np.where(missing, 0, DIMENSIONS)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), mask=pa.array(missing))


def write_checkpoint(draft: Any) -> None:
    """A few bytes that are this artifact's own."""
    (draft.checkpoint_dir() / "config.json").write_text(json.dumps({"synthetic": draft.identity.digest}) + "\n")


def figure(metric: str) -> dict[str, Any]:
    return {"task": "all", "metric": metric, "value": 0.9, "trials": 100, "successes": 90}
