"""Embeddings of this iteration's episodes, real and imagined: what `vlaw similar` searches and the report's coverage
uses.

The model is the pretrained reward model of the foundation and not the one this iteration finetuned: distances mean
something only between vectors of one model, and people want to compare across iterations and experiments. Episodes of
the evaluations are not embedded: they keep only a few of their frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.pipeline import checks

if TYPE_CHECKING:
    from vlaw_models.episodes import Episode
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
    from vlaw_models.reward_models.embed import embedding

    judge = work.read(MODEL).checkpoint()
    model, counts, lengths = work.parents[MODEL].content_digest, dict.fromkeys(EMBEDDED.values(), 0), []
    total = sum(work.parents[asset].num_rows for asset in EMBEDDED)
    sources = {asset: work.read(asset).source(tasks=stage.recipe.tasks) for asset in EMBEDDED}
    parts = Parts(sources, stage.recipe.tasks, load_reward_model(judge).num_frames)
    made = zip(parts.wanted, stage.spread(work)(embedding, {"reward_model": judge}, {}, parts), strict=True)
    for (asset, _), of_task in groupby(made, key=lambda item: item[0][:2]):
        rows, found = [], []
        for (_, _, numbers), vectors in of_task:
            found.append(vectors)
            rows += [_row(sources[asset][number], work.parents[asset].owner, EMBEDDED[asset]) for number in numbers]
        work.draft.write_embeddings(model, rows, np.concatenate(found))
        counts[EMBEDDED[asset]] += len(rows)
        lengths += np.linalg.norm(np.concatenate(found), axis=1).tolist()
        stage.progress(sum(counts.values()), total, f"embedded {asset}")
    work.check(checks.numbers_finite(lengths, what="vectors"))
    work.metrics["embedded"] = counts


def refresh_index(stage: Stage, _plan: Plan, work: Work) -> None:
    if entry := work.ref.versions.get("embeddings"):
        from vlaw_assets.lake import embeddings

        embeddings.refresh_index(stage.lake.paths, entry["table"])


class Parts(Sequence[dict[str, Any]]):
    """Some episodes of one task each, with just the frames that a judge looks at: decoding the others would double the
    time. They are read when they are asked for; in turn, while one part is used, a thread reads the next: reading costs
    as much as embedding, on another core."""

    def __init__(self, sources: Mapping[str, EpisodeSource], tasks: Sequence[str], num_frames: int):
        self._sources, self._num_frames = sources, num_frames
        self.wanted = [
            (asset, task, numbers)
            for asset, source in sources.items()
            for task in tasks
            for numbers in _numbers(source, task)
        ]
        """Asset, task and numbers of the episodes of each part."""

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, index: Any) -> Any:
        from vlaw_models.reward_models.embed import steps_seen

        asset, _, numbers = self.wanted[index]
        source = self._sources[asset]
        found = [(number, source[number]) for number in numbers]
        frames = [source.frames(number, steps_seen(self._num_frames, episode.num_steps)) for number, episode in found]
        return {"items": [dataclasses.replace(e, images=seen) for (_, e), seen in zip(found, frames, strict=True)]}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(self.__getitem__, 0) if self.wanted else None
            for index in range(1, len(self) + 1):
                assert coming is not None
                part = coming.result()
                if index < len(self):
                    coming = reader.submit(self.__getitem__, index)
                yield part


def _numbers(source: EpisodeSource, task: str) -> Iterator[list[int]]:
    """Numbers of the task's episodes, PART at a time, in the order of their ids."""
    own = [number for number, episode in enumerate(source) if episode.task == task]
    own.sort(key=lambda number: source[number].episode_id)
    return (own[begin : begin + PART] for begin in range(0, len(own), PART))


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
