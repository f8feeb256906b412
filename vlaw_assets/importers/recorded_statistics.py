"""Statistics of the numbers of a recording: a versioned asset of its own, so that what scales by them has an edge to
them.

Of every number of state and action over all rows of all episodes, as they were recorded: count, mean, standard
deviation, ends, and the 1 % and 99 % quantiles (exact, between the two nearest values where none is there).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_models.robots.spec import RobotSpec

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Handle, Lake

ASSET = "recorded_statistics"
ROLE = "recorded_episodes"
AT_ONCE = 128 << 20
"""Bytes of numbers in memory: where a recording has more, it is read again for the others."""
QUANTILES = (0.01, 0.99)


def commit_statistics(lake: Lake, ref: ArtifactRef, robot: RobotSpec, *, run_id: str) -> ArtifactRef:
    """The statistics of a recording of this robot, under the recording's name; those that are there are used."""
    from vlaw_assets.lake import Identity, canonical_json
    from vlaw_assets.pipeline.code_identity import code_digest, made_with

    vectors = {"state": robot.state, "action": robot.action}
    recipe = {name: {"names": vector.names, "units": vector.units} for name, vector in vectors.items()}
    identity = Identity(ASSET, code_digest(__name__), canonical_json(recipe), ((ROLE, ref.content_digest),))
    with lake.commit(asset=ASSET, partition=ref.partition, identity=identity, run_id=run_id) as draft:
        if draft.reused is None:
            handle = draft.read(ref, role=ROLE)
            draft.write_statistics(
                [
                    {
                        "vector": name,
                        "number": number,
                        "name": vector.names[number],
                        "unit": vector.units[number],
                        **row,
                    }
                    for name, vector in vectors.items()
                    for number, row in enumerate(_of_vector(handle, name, len(vector)))
                ]
            )
            draft.set_metrics({"made_with": made_with()})
    return draft.committed


def _of_vector(handle: Handle, column: str, width: int) -> Iterator[dict[str, Any]]:
    count = handle.ref.versions["steps"]["rows"]
    together = max(1, min(width, AT_ONCE // (4 * max(count, 1))))
    for first in range(0, width, together):
        numbers = range(first, min(first + together, width))
        parts: list[np.ndarray] = []
        for batch in handle.batches("steps", [column]):
            flat = batch[column].flatten().to_numpy(zero_copy_only=False)
            # The last row of an episode has no action: nothing is in its place.
            parts.append(np.ascontiguousarray(flat.reshape(-1, width)[:, numbers.start : numbers.stop], np.float32))
        for values in np.concatenate(parts).T:
            yield of_numbers(values)


def of_numbers(values: np.ndarray) -> dict[str, Any]:
    """Of (N,) finite numbers, N at least 1."""
    exact = values.astype(np.float64)
    low, high = np.quantile(exact, QUANTILES)
    return {
        "count": len(values),
        "mean": float(exact.mean()),
        "std": float(exact.std()),
        "min": float(exact.min()),
        "max": float(exact.max()),
        "q01": float(low),
        "q99": float(high),
    }
