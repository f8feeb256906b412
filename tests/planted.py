"""Sides of a comparison: one iteration each, of the same kind of noise, in which one thing can be made worse.

Committed as the pipeline commits, without models or robot. Every side draws its own noise from its seed; the starts of
evaluations and the clips of measurements are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from factories import episode, write_checkpoint
from small_loop import commit

from vlaw_assets.lake import ArtifactRef, Draft, Lake, labels, quarantine
from vlaw_models.episodes import Episode

TASKS = ("stack", "book", "push", "draw")
REAL, IMAGINED, CLIPS, TRIALS = 12, 20, 8, 50
"""Episodes per task."""
SUCCESS = 0.6
ALPHA = 0.6
CAMERAS = ("exterior", "wrist")


@dataclass(frozen=True)
class Worse:
    """What is made worse on one side."""

    dropped: str = ""
    """A task without members in the training set."""
    believed: float = 0.0
    """Share of the imagined failures that the judge takes for successes."""
    shortened: bool = False
    """Episodes end after half their steps."""
    success: Mapping[str, float] | None = None
    """Task -> its success in evaluations, where it is not SUCCESS."""
    alpha: float = ALPHA
    learning_rate: float = 0.001
    loss: float = 1.0
    """Factor of the policy's losses."""
    excluded: Collection[str] = ()
    """Real episodes that were in quarantine when the models were made."""
    labelled: Mapping[str, bool] | None = None
    """Real episode -> what people had said of it when the models were made."""
    code: Mapping[str, str] | None = None
    """Asset -> its code."""
    psnr: Mapping[str, float] | None = None
    """Camera -> dB that its replays lose."""
    copied: int = 0
    """Times that every real success is there once more, in a batch that was recorded elsewhere."""


NOTHING = Worse()


def foundation(lake: Lake) -> dict[str, ArtifactRef]:
    """What all sides stand on and are measured on."""

    def checkpoint(draft: Draft) -> None:
        write_checkpoint(draft.checkpoint_dir(), draft.asset)

    made = {
        name: commit(lake, name, "", kind, {}, checkpoint)
        for name, kind in (("base_policy", "policy"), ("pretrained_world_model", "world_model"))
    }
    rng = np.random.default_rng(1000)
    clips = _episodes(rng, CLIPS, first_seed=500)
    made["validation_rollouts"] = commit(
        lake, "validation_rollouts", "", "validation_rollouts", {}, _writer(clips, "validation")
    )
    return made


def side(
    lake: Lake,
    base: Mapping[str, ArtifactRef],
    name: str,
    seed: int,
    worse: Worse = NOTHING,
    *,
    real: ArtifactRef | None = None,
    like: Mapping[str, ArtifactRef] | None = None,
) -> dict[str, ArtifactRef]:
    """The artifacts of one iteration called `name`|01.

    Args:
        real: another side's real rollouts in place of its own.
        like: another side up to its training set, in place of its own.
    """
    rng, partition, made = np.random.default_rng(seed), f"{name}|01", {**base, **(like or {})}
    codes = worse.code or {}

    def make(asset: str, parents: Sequence[str], write: Callable[[Draft], Any], **options: Any) -> None:
        of_real = bool({"real_rollouts", "recorded_episodes"} & {*parents})
        excluded = [*worse.excluded] if of_real else []
        labelled = dict(worse.labelled or {}) if of_real else {}

        def fill(draft: Draft) -> None:
            for changed, listed, name_it in (
                (excluded, quarantine.latest(lake), draft.leave_out),
                (labelled, labels.latest(lake), draft.label_by),
            ):
                if changed and listed is not None:
                    name_it(listed)
            if asset in ("policy", "world_model", "reward_model"):
                write_checkpoint(draft.checkpoint_dir(), f"{asset} {name}")
            write(draft)

        made_by = {"recipe": {}, "code": codes.get(asset, "code-1"), "excluded": excluded, "labels": labelled}
        kind = "evaluation" if asset == "policy_evaluation" else asset
        read = {role: made[role] for role in parents if role in made}
        made[asset] = commit(lake, asset, partition, kind, read, fill, force=True, **(made_by | options))

    def ids(asset: str) -> list[dict[str, Any]]:
        rows = lake.read(made[asset]).table("episodes").to_pylist() if asset in made else []
        said = worse.labelled or {}
        return [row | {"success": said.get(row["episode_id"], row["success"])} for row in rows]

    reality = ["real_rollouts", "recorded_episodes"]

    def learned_from() -> None:
        if real is not None:
            made["real_rollouts"] = real
        else:
            make("real_rollouts", ["base_policy"], _writer(_episodes(rng, REAL, shortened=worse.shortened), "rollout"))
        if worse.copied:
            won = [e for e in lake.read(made["real_rollouts"]).episodes() if e.success]
            batch = [e for e in won for _ in range(worse.copied)]
            make("recorded_episodes", [], _writer(batch, "rollout"))
        make("reward_model", reality, lambda draft: None)
        make("world_model", ["pretrained_world_model", *reality], lambda draft: None)
        starts = [row["episode_id"] for row in ids("real_rollouts")]
        dreams = _episodes(rng, IMAGINED, judged=False, starts=starts, shortened=worse.shortened)
        make("imagined_rollouts", ["base_policy", "world_model", "real_rollouts"], _writer(dreams, "imagined"))
        imagined = ids("imagined_rollouts")
        true = rng.random(len(imagined)) < SUCCESS
        taken = true | (rng.random(len(imagined)) < worse.believed)
        said = np.where(taken, rng.beta(8, 2, len(imagined)), rng.beta(2, 8, len(imagined)))

        def scores(values: Collection[float], judge: str) -> Callable[[Draft], None]:
            rows = [
                {
                    "episode_id": row["episode_id"],
                    "owner": made["imagined_rollouts"].owner,
                    "task": row["task"],
                    "judge": judge,
                    "p_success": float(value),
                }
                for row, value in zip(imagined, values, strict=True)
            ]
            return lambda draft: draft.write_scores(rows)

        make("reward_scores", ["imagined_rollouts", "reward_model"], scores(said, "judge"))
        make("imagined_outcomes", ["imagined_rollouts", "reward_scores"], scores(true.astype(float), "simulator"))
        found = [
            (asset, "real", row)
            for asset in reality
            for row in ids(asset)
            if row["success"] and row["episode_id"] not in worse.excluded
        ] + [("imagined_rollouts", "imagined", row) for row, p in zip(imagined, said, strict=True) if p > worse.alpha]
        members = [
            {"episode_id": row["episode_id"], "owner": made[asset].owner, "weight": 1.0, "source": source}
            for asset, source, row in found
            if row["task"] != worse.dropped
        ]
        make(
            "training_set",
            [*reality, "imagined_rollouts", "reward_scores"],
            lambda draft: draft.write_members(members),
            recipe={"score": {"alpha": worse.alpha}},
        )

    if like is None:
        learned_from()
    losses = worse.loss * 0.05 * (1 + np.exp(-np.arange(100) / 10)) * rng.lognormal(0, 0.1, 100)
    make(
        "policy",
        ["base_policy", "training_set", *reality, "imagined_rollouts"],
        lambda draft: draft.set_metrics({"losses": losses.tolist()}),
        recipe={"policy": {"learning_rate": worse.learning_rate}},
    )
    make("policy_evaluation", ["policy"], _writer(_trials(rng, worse.success or {}), "evaluation"))
    clips = [row["episode_id"] for row in ids("validation_rollouts")]
    measured = [
        {
            "task": "all",
            "metric": "psnr",
            "camera": camera,
            "trials": len(clips),
            "value": float(np.mean(values)),
            "detail": {"clips": clips, "values": values.tolist()},
        }
        for camera in CAMERAS
        for values in [rng.normal(22 - (worse.psnr or {}).get(camera, 0.0), 2, len(clips))]
    ]

    def replayed(draft: Draft) -> None:
        draft.write_episodes(_episodes(rng, CLIPS, first_seed=500), purpose="replay", world="world_model")
        draft.write_evaluations(measured)

    won = np.array([row["success"] for row in ids("validation_rollouts")])
    taken = won | (rng.random(len(clips)) < worse.believed)
    made["clips"] = made["validation_rollouts"]
    if like is None:
        rows = [
            {"episode_id": clip, "owner": made["clips"].owner, "judge": "judge", "p_success": 0.9 if yes else 0.1}
            for clip, yes in zip(clips, taken, strict=True)
        ]
        score = {"score": {"alpha": worse.alpha}}
        make("reward_model_metrics", ["reward_model", "clips"], lambda draft: draft.write_scores(rows), recipe=score)
    make("world_model_metrics", ["world_model", "clips"], replayed)
    return made


def _episodes(
    rng: np.random.Generator,
    count: int,
    *,
    judged: bool = True,
    starts: Sequence[str] = (),
    shortened: bool = False,
    first_seed: int = 0,
) -> list[Episode]:
    """`count` of every task."""
    found = []
    for task in TASKS:
        for number in range(count):
            steps, won = int(rng.integers(14, 26)), bool(rng.random() < SUCCESS)
            start = starts[int(rng.integers(len(starts)))] if starts else None
            steps = steps // 2 if shortened else steps
            success = won if judged else None
            found.append(_unseen(task, first_seed + number, rng, success=success, start=start, steps=steps))
    return found


def _unseen(task: str, seed: int, rng: np.random.Generator, *, steps: int = 20, **more: Any) -> Episode:
    """An episode without frames, which are most of what writing one costs."""
    states = rng.random((steps + 1, 2), dtype=np.float32)
    return episode(task, seed, images=np.zeros((0, 1, 2, 2, 3), np.uint8), states=states, steps=steps, **more)


def _trials(rng: np.random.Generator, success: Mapping[str, float]) -> list[Episode]:
    return [
        _unseen(task, 9000 + number, rng, success=bool(rng.random() < success.get(task, SUCCESS)))
        for task in TASKS
        for number in range(TRIALS)
    ]


def _writer(found: list[Episode], purpose: str) -> Callable[[Draft], None]:
    return lambda draft: draft.write_episodes(found, purpose=purpose, world="tabletop")
