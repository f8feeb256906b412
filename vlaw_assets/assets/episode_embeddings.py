"""Embeddings of this iteration's episodes, real and imagined: what `vlaw similar` searches and the report's coverage
uses.

The model is the pretrained reward model of the foundation and not the one this iteration finetuned: distances mean
something only between vectors of one model, and people want to compare across iterations and experiments. Episodes of
the evaluations are not embedded: they keep only a few of their frames.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.pipeline import checks

if TYPE_CHECKING:
    from vlaw_assets.lake import Handle
    from vlaw_models.episodes import Episode
    from vlaw_models.reward_models.base import RewardModel
    from vlaw_models.sources import EpisodeSource

EMBEDDED = {"real_rollouts": "rollout", "imagined_rollouts": "imagined", "validation_rollouts": "validation"}
"""Asset whose episodes are embedded -> their purpose."""
MODEL = "pretrained_reward_model"
PART = 64
"""Episodes whose frames are in memory at once."""
FEATURES = "mean over frames, 1"
"""What `RewardModel.features` computes, for the recipe: raise the number when its meaning changes. Vectors of the same
model but other features lie in one table; only those of the same features are compared."""


def plan(stage: Stage) -> Plan:
    parents = {MODEL: stage.require_foundation(MODEL), **{asset: stage.require(asset) for asset in EMBEDDED}}
    recipe = {"tasks": list(stage.recipe.tasks), "features": FEATURES}
    return Plan(kind="episode_embeddings", recipe=recipe, parents=parents)


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    import numpy as np

    from vlaw_models.reward_models.base import load_reward_model
    from vlaw_models.reward_models.embed import embed_episodes

    judge = load_reward_model(work.read(MODEL).checkpoint())
    model, counts, lengths = work.parents[MODEL].content_digest, dict.fromkeys(EMBEDDED.values(), 0), []
    total = sum(work.parents[asset].num_rows for asset in EMBEDDED)
    coming = read_ahead({asset: work.read(asset) for asset in EMBEDDED}, judge, stage.recipe.tasks)
    for (asset, _), of_task in groupby(coming, key=itemgetter(0, 1)):
        rows, found = [], []
        for _, _, episodes in of_task:
            found.append(embed_episodes(judge, episodes))
            rows += [_row(episode, work.parents[asset].owner, EMBEDDED[asset]) for episode in episodes]
        vectors = np.concatenate(found)
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


def read_ahead(
    handles: Mapping[str, Handle], judge: RewardModel, tasks: Sequence[str]
) -> Iterator[tuple[str, str, list[Episode]]]:
    """(asset, task, some of its episodes) in turn; while one part is used, a thread reads the next.

    Reading costs as much as embedding, on another core.
    """
    sources = {asset: handle.source(tasks=tasks) for asset, handle in handles.items()}
    wanted = [
        (asset, task, part) for asset, source in sources.items() for task in tasks for part in parts(source, task)
    ]
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = deque[Any]()
        for number in range(len(wanted) + 1):
            if number < len(wanted):
                asset, task, part = wanted[number]
                coming.append((asset, task, reader.submit(frames_seen, sources[asset], judge, part)))
            if number:
                asset, task, read = coming.popleft()
                yield asset, task, read.result()


def parts(source: EpisodeSource, task: str) -> Iterator[list[int]]:
    """Numbers of the task's episodes, PART at a time, in the order of their ids."""
    own = [number for number, episode in enumerate(source) if episode.task == task]
    own.sort(key=lambda number: source[number].episode_id)
    return (own[begin : begin + PART] for begin in range(0, len(own), PART))


def frames_seen(source: EpisodeSource, judge: RewardModel, numbers: Sequence[int]) -> list[Episode]:
    """The episodes with just the frames that the judge looks at: decoding the others would double the time."""
    from vlaw_models.reward_models.embed import steps_seen

    found = [(number, source[number]) for number in numbers]
    return [
        dataclasses.replace(episode, images=source.frames(number, steps_seen(judge, episode.num_steps)))
        for number, episode in found
    ]


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
    group="evaluation",
    deps=(MODEL, *EMBEDDED),
    pool=POOL,
    kinds=("lance",),
    checks=(checks.FINITE,),
)
