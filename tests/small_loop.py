"""A lake with the loop's assets in it, made in a moment without models or robot: every count in it is known.

Per iteration and task: `REAL` real episodes (those with an odd index are successes), `IMAGINED` imagined ones with the
scores 0.1, 0.2, ... of the judge, a training set, and checkpoints of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import factories
import numpy as np
from begun import begin
from factories import TASKS, checkpoint, episode

from vlaw_assets.lake import ArtifactRef, Draft, Lake
from vlaw_models.episodes import Episode

REAL, IMAGINED, EXPERT = 4, 8, 2
ALPHA = 0.65
"""The scores 0.7 and 0.8 are above."""
ACCEPTED = 2
"""Imagined episodes per task with a score above ALPHA."""
LAMBDA = 0.5


def episodes(count: int, *, seed: int, judged: bool = True, starts: list[str] | None = None) -> list[Episode]:
    """`count` tiny episodes per task, tasks interleaved."""
    rng = np.random.default_rng(seed)
    return [
        episode(
            task,
            index,
            success=bool(index % 2) if judged else None,
            event="done",
            start=starts[(index * len(TASKS) + number) % len(starts)] if starts else None,
            cameras=2,
            size=(8, 8),
            noise=rng,
        )
        for index in range(count)
        for number, task in enumerate(TASKS)
    ]


def commit(
    lake: Lake,
    asset: str,
    partition: str,
    kind: str,
    parents: Mapping[str, ArtifactRef],
    write: Callable[[Draft], Any],
    **options: Any,
) -> ArtifactRef:
    """`factories.commit` with the kind before the parents."""
    return factories.commit(lake, asset, partition, parents, write, kind=kind, **options)


def foundation(lake: Lake) -> dict[str, ArtifactRef]:
    if lake.ledger.artifacts():
        return _foundation(lake)
    begin(lake, "foundation", lambda: _foundation(lake))
    return {ref.asset: ref for ref in lake.ledger.artifacts()}


def _foundation(lake: Lake) -> dict[str, ArtifactRef]:
    made = {
        name: commit(lake, name, "", kind, {}, checkpoint(name))
        for name, kind in (
            ("base_policy", "policy"),
            ("pretrained_world_model", "world_model"),
            ("pretrained_reward_model", "reward_model"),
            ("autoencoder", "autoencoder"),
        )
    }
    made["co_training_data"] = commit(
        lake,
        "co_training_data",
        "",
        "scripted_episodes",
        {},
        lambda draft: draft.write_episodes(episodes(EXPERT, seed=1), purpose="co_training", world="tabletop"),
    )
    return made


def no_latents(lake: Lake) -> ArtifactRef:
    """What `corpus_latents` is where encoding costs nothing: stages that could read latents want to know."""
    return commit(lake, "corpus_latents", "", "latents", {}, lambda draft: draft.set_metrics({"costless": True}))


def iteration(
    lake: Lake,
    base: Mapping[str, ArtifactRef],
    before: Mapping[str, ArtifactRef],
    partition: str,
    *,
    alpha: float = ALPHA,
    steps: int = 2,
    policy_code: str = "code-1",
    run_id: str = "run-1",
) -> dict[str, ArtifactRef]:
    """The assets of one iteration; `before` is what `iteration` returned for the one before, or the foundation."""
    number = int(partition.partition("|")[2])

    def commit_here(
        asset: str, kind: str, parents: Mapping[str, ArtifactRef], write: Any, **options: Any
    ) -> ArtifactRef:
        return commit(lake, asset, partition, kind, parents, write, run_id=run_id, **options)

    policy = before.get("policy") or base["base_policy"]
    world, judge = (
        before.get("world_model") or base["pretrained_world_model"],
        before.get("reward_model") or base["pretrained_reward_model"],
    )
    made: dict[str, ArtifactRef] = {}
    made["real_rollouts"] = real = commit_here(
        "real_rollouts",
        "real_rollouts",
        {"policy": policy},
        lambda draft: draft.write_episodes(episodes(REAL, seed=10 + number), purpose="rollout", world="tabletop"),
    )
    made["reward_model"] = commit_here(
        "reward_model", "reward_model", {"reward_model": judge, "real_rollouts": real}, checkpoint(f"judge {number}")
    )
    made["world_model"] = commit_here(
        "world_model",
        "world_model",
        {
            "world_model": world,
            "autoencoder": base["autoencoder"],
            "co_training": base["co_training_data"],
            "real_rollouts_01": real,
        },
        checkpoint(f"world model {number}"),
        recipe={"world_model": {"co_training_weight": LAMBDA, "steps": 2}},
    )
    starts = lake.read(real).table("episodes")["episode_id"].to_pylist()
    made["imagined_rollouts"] = imagined = commit_here(
        "imagined_rollouts",
        "imagined_rollouts",
        {"policy": policy, "world_model": made["world_model"], "autoencoder": base["autoencoder"], "starts": real},
        lambda draft: draft.write_episodes(
            episodes(IMAGINED, seed=20 + number, judged=False, starts=starts), purpose="imagined", world="world_model"
        ),
    )
    ids = [(row["episode_id"], row["task"], row["seed"]) for row in lake.read(imagined).table("episodes").to_pylist()]
    made["reward_scores"] = commit_here(
        "reward_scores",
        "reward_scores",
        {"imagined_rollouts": imagined, "reward_model": made["reward_model"]},
        lambda draft: draft.write_scores(
            [
                {
                    "episode_id": name,
                    "owner": imagined.owner,
                    "task": task,
                    "judge": made["reward_model"].content_digest,
                    "p_success": (seed + 1) / 10,
                }
                for name, task, seed in ids
            ]
        ),
    )
    made["training_set"] = commit_here(
        "training_set",
        "training_set",
        {"real_rollouts_01": real, "imagined_rollouts": imagined, "reward_scores": made["reward_scores"]},
        lambda draft: draft.write_members(
            [
                *(
                    {"episode_id": row["episode_id"], "owner": real.owner, "weight": 1.0, "source": "real"}
                    for row in lake.read(real).table("episodes").to_pylist()
                    if row["success"]
                ),
                *(
                    {"episode_id": name, "owner": imagined.owner, "weight": 1.0, "source": "imagined"}
                    for name, _, seed in ids
                    if (seed + 1) / 10 > alpha
                ),
            ]
        ),
        recipe={"score": {"alpha": alpha}},
    )
    made["policy"] = commit_here(
        "policy",
        "policy",
        {
            "policy": policy,
            "training_set": made["training_set"],
            "real_rollouts_01": real,
            "imagined_rollouts": imagined,
        },
        checkpoint(f"policy {number} {steps} {alpha}", seconds=2.5, losses=[0.5, 0.25]),
        recipe={"policy": {"steps": steps, "learning_rate": 0.001}, "seed": number},
        code=policy_code,
    )
    made["world_model_metrics"] = commit_here(
        "world_model_metrics",
        "world_model_metrics",
        {"world_model": made["world_model"]},
        lambda draft: draft.set_metrics({"figures": {"psnr": 20.0 + number}}),
    )
    made["policy_evaluation"] = commit_here(
        "policy_evaluation",
        "evaluation",
        {"policy": made["policy"]},
        lambda draft: draft.set_metrics({"success": {"stack": 0.5, "all": 0.25}, "trials": 4}),
    )
    return made


def loop(lake: Lake, iterations: int = 2, *, anew: bool = False) -> list[dict[str, ArtifactRef]]:
    """[foundation, iteration 01, iteration 02, ...] of the experiment 'vlaw' in an empty lake. `anew`: with a history
    of its own, where others of one process are copies."""
    if anew:
        return _loop(lake, iterations)
    begin(lake, f"loop of {iterations}", lambda: _loop(lake, iterations))
    found: list[dict[str, ArtifactRef]] = [{} for _ in range(iterations + 1)]
    for ref in lake.ledger.artifacts():
        found[int(ref.partition.partition("|")[2] or 0)][ref.asset] = ref
    return found


def _loop(lake: Lake, iterations: int) -> list[dict[str, ArtifactRef]]:
    base = _foundation(lake)
    made = [base]
    for number in range(1, iterations + 1):
        before = made[-1] if number > 1 else {}
        made.append(iteration(lake, base, before, f"vlaw|{number:02d}", run_id=f"run-{number}"))
    return made
