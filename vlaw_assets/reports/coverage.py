"""Which real failures of an iteration did imagination turn into successes, and which did it leave out?

A failure is covered *by start* when an accepted imagined episode (P(yes) > alpha) began with its first frame, and *by
similarity* when the embedding of an accepted imagined episode of the same task is near its own. "Near" is the task's
neighbour distance: the median, over the iteration's real episodes of the task, of the cosine distance to the nearest
other real episode of the task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_assets.reports.success import ALL
from vlaw_assets.reports.threshold import alpha_of

if TYPE_CHECKING:
    import numpy as np

    from vlaw_assets.lake import ArtifactRef, Lake


@dataclass(frozen=True)
class Failure:
    """A real episode that failed, and what imagination made of it."""

    episode_id: str
    task: str
    event: str
    tries: int
    """Imagined episodes that began with its first frame."""
    accepted: int
    """How many of these the judge accepted."""
    best: float | None
    """The highest P(yes) among them; None where there are none."""
    by_start: str | None
    """The accepted one with that P(yes)."""
    by_similarity: str | None
    """The nearest accepted imagined episode of the task, where it is near."""
    distance: float | None
    """Of the nearest accepted imagined episode of the task, near or not; None without embeddings or accepted
    episodes."""
    truly: tuple[bool, ...] | None
    """Of each try in order, whether its actions truly succeed; None where that was not measured."""

    @property
    def covered(self) -> bool:
        return self.by_start is not None or self.by_similarity is not None


@dataclass(frozen=True)
class Coverage:
    """All failures of one iteration."""

    alpha: float
    embedded: bool
    """False where the iteration's episodes have no embeddings: then nothing is covered by similarity."""
    near: dict[str, float | None]
    """Task -> its neighbour distance; None where fewer than two real episodes are embedded."""
    failures: list[Failure]
    scores: dict[str, float]
    """P(yes) of every imagined episode of the iteration."""
    left_out: int
    """Episodes of the iteration that are in quarantine, or were imagined from one that is."""

    def rescued(self, task: str, tries: int | None) -> tuple[int, int]:
        """(failures that the first so many tries of each truly rescued, failures that were tried at least so often), of
        a task or of "all"; None: by all tries that were made, of all failures. (0, 0) where it was not measured."""
        found = [
            any(item.truly[:tries])
            for item in self.failures
            if task in (item.task, ALL) and item.truly is not None and len(item.truly) >= (tries or 0)
        ]
        return sum(found), len(found)


def coverage(lake: Lake, partition: str) -> Coverage | None:
    """Coverage of the failures in `real_rollouts` of a partition; None where the iteration is not that far."""
    wanted = ("real_rollouts", "imagined_rollouts", "reward_scores", "training_set")
    refs = {asset: ref for asset in wanted if (ref := lake.ledger.current(asset, partition)) is not None}
    alpha = alpha_of(refs["training_set"]) if len(refs) == len(wanted) else None
    if alpha is None:
        return None
    handles = [lake.counted(refs[asset]) for asset in ("real_rollouts", "imagined_rollouts")]
    real, imagined = (handle.table("episodes").to_pylist() for handle in handles)
    owner = refs["imagined_rollouts"].owner
    scores = {
        row["episode_id"]: row["p_success"]
        for row in lake.counted(refs["reward_scores"]).table("reward_scores").to_pylist()
        if row["owner"] == owner
    }
    outcomes = lake.ledger.current("imagined_outcomes", partition)
    truth = {
        row["episode_id"]: row["p_success"] > 0.5
        for row in (lake.counted(outcomes).table("reward_scores").to_pylist() if outcomes else ())
        if row["owner"] == owner
    }
    vectors = _vectors(lake, partition, [refs["real_rollouts"], refs["imagined_rollouts"]])
    near, failures = {}, []
    for task in dict.fromkeys(row["task"] for row in real):
        threshold, found = _of_task(
            [row for row in real if row["task"] == task],
            [row for row in imagined if row["task"] == task],
            scores,
            truth,
            alpha,
            vectors,
        )
        near[task] = threshold
        failures += found
    return Coverage(alpha, bool(vectors), near, failures, scores, left_out=sum(handle.left_out for handle in handles))


def _of_task(
    real: list[dict[str, Any]],
    imagined: list[dict[str, Any]],
    scores: dict[str, float],
    truth: dict[str, bool],
    alpha: float,
    vectors: dict[str, np.ndarray],
) -> tuple[float | None, list[Failure]]:
    import numpy as np

    from vlaw_models.metrics.coverage import nearest, neighbour_distance

    failed = [row for row in real if row["success"] is False]
    accepted = [row["episode_id"] for row in imagined if scores.get(row["episode_id"], 0.0) > alpha]
    placed = [vectors[row["episode_id"]] for row in real if row["episode_id"] in vectors]
    threshold = neighbour_distance(np.stack(placed)) if placed else None
    known = [name for name in accepted if name in vectors]
    here = [row["episode_id"] for row in failed if row["episode_id"] in vectors]
    reached: dict[str, tuple[str, float]] = {}
    if known and here:
        index, apart = nearest(np.stack([vectors[name] for name in here]), np.stack([vectors[name] for name in known]))
        reached = {name: (known[i], float(d)) for name, i, d in zip(here, index, apart, strict=True)}
    found = []
    for row in failed:
        tries = [
            other["episode_id"]
            for other in imagined
            if other["start_episode_id"] == row["episode_id"] and other["episode_id"] in scores
        ]
        best = max(tries, key=lambda name: (scores[name], name), default=None)
        other, distance = reached.get(row["episode_id"], (None, None))
        found.append(
            Failure(
                row["episode_id"],
                row["task"],
                row["event"],
                len(tries),
                sum(scores[name] > alpha for name in tries),
                scores[best] if best else None,
                by_start=best if best and scores[best] > alpha else None,
                by_similarity=other
                if distance is not None and threshold is not None and distance <= threshold
                else None,
                distance=distance,
                truly=tuple(truth[name] for name in tries) if truth and truth.keys() >= set(tries) else None,
            )
        )
    return threshold, found


def _vectors(lake: Lake, partition: str, wanted: list[ArtifactRef]) -> dict[str, np.ndarray]:
    """Episode id -> vector of these artifacts' episodes; empty where the partition's embeddings are of other
    episodes."""
    import numpy as np

    ref = lake.ledger.current("episode_embeddings", partition)
    table = lake.read(ref).embeddings() if ref is not None else None
    if table is None or not table.num_rows:
        return {}
    flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    matrix = flat.reshape(table.num_rows, -1).astype(np.float32)
    owners = {item.owner for item in wanted}
    return {
        name: vector
        for name, owner, vector in zip(table["episode_id"].to_pylist(), table["owner"].to_pylist(), matrix, strict=True)
        if owner in owners
    }
