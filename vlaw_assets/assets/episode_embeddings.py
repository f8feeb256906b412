"""Embeddings of this iteration's episodes, real and imagined: what `vlaw similar` searches and the report's coverage
uses.

Here: which episodes, by which model. Not here: the vectors (vlaw_models/reward_models/embed.py), the table and its
index (lake/embeddings.py), the search (vlaw_assets/query/similarity.py).

The model is the pretrained reward model of the foundation and not the one this iteration finetuned: distances mean
something only between vectors of one model, and people want to compare across iterations and experiments. Episodes of
the evaluations are not embedded: they keep only a few of their frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.stage import Plan, Stage, Work
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.pipeline import checks

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Handle
    from vlaw_models.episodes import Episode
    from vlaw_models.reward_models.base import Judge

EMBEDDED = {"real_rollouts": "rollout", "imagined_rollouts": "imagined", "validation_rollouts": "validation"}
"""Asset whose episodes are embedded -> their purpose."""
MODEL = "pretrained_reward_model"
FEATURES = "mean over frames, 1"
"""What `Judge.features` computes, for the recipe: raise the number when its meaning changes. Vectors of the same model
but other features lie in one table; only those of the same features are compared."""


def plan(stage: Stage) -> Plan:
    parents = {MODEL: stage.require_foundation(MODEL), **{asset: stage.require(asset) for asset in EMBEDDED}}
    recipe = {"tasks": list(stage.recipe.tasks), "features": FEATURES}
    return Plan(kind="episode_embeddings", recipe=recipe, parents=parents)


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    import numpy as np

    from vlaw_models.reward_models.base import load_judge
    from vlaw_models.reward_models.embed import embed_episodes

    judge = load_judge(work.read(MODEL).checkpoint())
    model, counts, lengths = work.parents[MODEL].content_digest, dict.fromkeys(EMBEDDED.values(), 0), []
    total = sum(work.parents[asset].num_rows for asset in EMBEDDED)
    for asset, episodes in read_ahead({asset: work.read(asset) for asset in EMBEDDED}, judge, stage.recipe.tasks):
        vectors = embed_episodes(judge, episodes)
        rows = [_row(episode, work.parents[asset].owner, EMBEDDED[asset]) for episode in episodes]
        work.draft.write_embeddings(model, rows, vectors)
        counts[EMBEDDED[asset]] += len(rows)
        lengths += np.linalg.norm(vectors, axis=1).tolist()
        stage.progress(sum(counts.values()), total, f"embedded {asset}")
    work.check(checks.numbers_finite(lengths, what="vectors"))
    work.metrics["embedded"] = counts


def refresh_index(stage: Stage, _plan: Plan, work: Work) -> None:
    if entry := work.ref.versions.get("embeddings"):
        from vlaw_assets.lake import embeddings

        embeddings.refresh_index(stage.lake.paths, entry["table"])


def show(_stage: Stage, _plan: Plan, ref: ArtifactRef) -> Mapping[str, Any]:
    return {"embedded": ref.metrics.get("embedded", {})}


def read_ahead(
    handles: Mapping[str, Handle], judge: Judge, tasks: Sequence[str]
) -> Iterator[tuple[str, list[Episode]]]:
    """(asset, its episodes of one task) in turn; while one part is used, a thread reads the next.

    One task at a time: the frames of all would be a gigabyte. Reading costs as much as embedding, on another core.
    """
    wanted = [(asset, task) for asset in handles for task in tasks]
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = deque[Any]()
        for number in range(len(wanted) + 1):
            if number < len(wanted):
                asset, task = wanted[number]
                coming.append((asset, reader.submit(frames_seen, handles[asset], judge, task)))
            if number:
                asset, part = coming.popleft()
                yield asset, part.result()


def frames_seen(handle: Handle, judge: Judge, task: str) -> list[Episode]:
    """The task's episodes with just the frames that the judge looks at: decoding the others would double the time."""
    from vlaw_models.reward_models.embed import steps_seen

    by_length: dict[int, list[str]] = {}
    for episode in handle.episodes(frames=False, tasks=[task]):
        by_length.setdefault(episode.num_steps, []).append(episode.episode_id)
    found = {
        episode.episode_id: episode
        for length, ids in by_length.items()
        for episode in handle.episodes(episode_ids=ids, steps=steps_seen(judge, length))
    }
    return [found[name] for name in sorted(found)]


def _row(episode: Episode, owner: str, purpose: str) -> dict[str, str]:
    outcome = "not judged" if episode.success is None else "success" if episode.success else "failure"
    return {
        "owner": owner,
        "episode_id": episode.episode_id,
        "task": episode.task,
        "purpose": purpose,
        "outcome": outcome,
    }


episode_embeddings = stage_asset(
    "episode_embeddings",
    "One vector per real and imagined episode of this iteration, from the features of the pretrained reward model.",
    plan=plan,
    make=make,
    after=refresh_index,
    show=show,
    group="evaluation",
    deps=(MODEL, *EMBEDDED),
    pool=POOL,
    kinds=("lance",),
    checks=(checks.FINITE,),
)
