"""A lake of embedded episodes whose distances are known: their vectors lie in a plane, at angles given in degrees."""

from __future__ import annotations

from collections.abc import Sequence

import factories
import numpy as np
from factories import commit

from vlaw_assets.lake import ArtifactRef, Lake
from vlaw_models.episodes import Episode

MODEL = "ab" * 32
KEY = "vlaw|01"


def unit(*degrees: float) -> np.ndarray:
    """Vectors in a plane at these angles, (N, 8) float32."""
    angles = np.radians(degrees)
    out = np.zeros((len(degrees), 8), np.float32)
    out[:, 0], out[:, 1] = np.cos(angles), np.sin(angles)
    return out


def far(a: float, b: float) -> float:
    """Cosine distance of two angles, degrees."""
    return 1 - np.cos(np.radians(a - b))


def episode(task: str, success: bool | None, start: str | None = None, seed: int = 0) -> Episode:
    return factories.episode(task, seed, success=success, start=start, cameras=3, size=(8, 8), dims=(5, 5), noise=seed)


def embed(
    lake: Lake,
    partition: str,
    sources: Sequence[ArtifactRef],
    angles: Sequence[Sequence[float]],
    *,
    model: str = MODEL,
    force: bool = False,
) -> ArtifactRef:
    """Commits episode_embeddings whose vectors are at `angles`, one list per source artifact."""

    def write(draft):
        for ref, degrees in zip(sources, angles, strict=True):
            rows = lake.read(ref).table("episodes").to_pylist()
            draft.write_embeddings(
                model,
                [
                    {
                        "owner": ref.owner,
                        "episode_id": row["episode_id"],
                        "task": row["task"],
                        "purpose": row["purpose"],
                        "outcome": "not judged"
                        if row["success"] is None
                        else "success"
                        if row["success"]
                        else "failure",
                    }
                    for row in rows
                ],
                unit(*degrees),
            )

    parents = {ref.asset: ref for ref in sources}
    return commit(
        lake,
        "episode_embeddings",
        partition,
        parents,
        write,
        rows=parents,
        recipe={"features": "f", "in": partition},
        force=force,
    )


def ids(lake: Lake, ref: ArtifactRef) -> list[str]:
    return lake.read(ref).table("episodes")["episode_id"].to_pylist()


def known_vectors(lake: Lake) -> tuple[ArtifactRef, ArtifactRef, ArtifactRef]:
    """(real_rollouts, imagined_rollouts, episode_embeddings).

    Real: stack failures at 0, 4, 40 degrees, a success at 90, erase failure at 1. Imagined: see below.
    """
    real = commit(
        lake,
        "real_rollouts",
        KEY,
        write=lambda draft: draft.write_episodes(
            [
                episode("stack", False, seed=0),
                episode("stack", False, seed=1),
                episode("stack", False, seed=2),
                episode("stack", True, seed=3),
                episode("erase", False, seed=4),
            ],
            purpose="rollout",
            world="tabletop",
        ),
    )
    r = ids(lake, real)
    # Of the imagined ones: accepted from r0, refused from r1, accepted from r3 (a success) and 2 degrees from r1.
    imagined = commit(
        lake,
        "imagined_rollouts",
        KEY,
        write=lambda draft: draft.write_episodes(
            [
                episode("stack", None, r[0], 5),
                episode("stack", None, r[1], 6),
                episode("stack", None, r[3], 7),
                episode("erase", None, r[4], 8),
            ],
            purpose="imagined",
            world="world_model",
        ),
        parents={"starts": real},
        rows=("starts",),
    )
    i = ids(lake, imagined)
    p = dict(zip(i, (0.9, 0.5, 0.95, 0.1), strict=True))
    commit(
        lake,
        "reward_scores",
        KEY,
        write=lambda draft: draft.write_scores(
            [{"episode_id": name, "owner": imagined.owner, "p_success": value} for name, value in p.items()]
        ),
        parents={"imagined_rollouts": imagined},
        rows=("imagined_rollouts",),
    )
    commit(lake, "training_set", KEY, recipe={"score": {"alpha": 0.8}})
    made = embed(lake, KEY, [real, imagined], [(0, 4, 40, 90, 1), (60, 3, 6, 50)])
    return real, imagined, made
