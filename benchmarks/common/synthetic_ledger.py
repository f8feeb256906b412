"""Ledgers of any size whose answers are known before they are asked: a real lake, filled without running a model.

`generate` commits the whole loop (foundation, then every asset of every iteration, with the edges the stages record)
through the lake's own drafts, from Arrow columns: tables without frames, and checkpoints of a few bytes. The answers
are in synthetic_answers.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.synthetic_answers import ACCEPTED, ALPHA, SLOTS, TASKS, Known, Size, key, successful
from common.synthetic_rows import add_members, digests, episode_ids, figure, same, vectors, write_checkpoint
from vlaw_assets.assets.by_row import goes_by_row
from vlaw_assets.lake import ArtifactRef, Identity, Lake
from vlaw_assets.lake.durable import canonical_json
from vlaw_models.robots.tabletop.spec import SPEC

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
EMPTY: Mapping[str, list[str]] = {}
CODE = hashlib.sha256(b"synthetic").hexdigest()


class Generator:
    """Fills a lake, one artifact after the other; holds the rows of one artifact at a time."""

    def __init__(self, lake: Lake, size: Size, seed: int = 0, report: Callable[[str], None] = lambda _text: None):
        self.lake, self.size, self.seed, self.report = lake, size, seed, report
        self.known = Known(size)
        self.made: dict[str, ArtifactRef] = {}
        """The newest of each asset; real rollouts of all iterations under 'real_rollouts_01' and so on."""

    def foundation(self) -> None:
        for asset, purpose in (("expert_demonstrations", "demonstration"), ("co_training_data", "co_training")):
            self._commit(
                asset,
                "",
                "scripted_episodes",
                {},
                lambda draft, p=purpose: self._episodes(draft, p, self.size.corpus, iteration=0),
            )
        for asset, kind in (
            ("base_policy", "policy"),
            ("pretrained_world_model", "world_model"),
            ("pretrained_reward_model", "reward_model"),
            ("autoencoder", "autoencoder"),
        ):
            self._commit(asset, "", kind, {}, write_checkpoint)

    def iteration(self, number: int) -> None:
        """All assets of one iteration, in the order in which they are made."""
        made, size, at = self.made, self.size, key(number)
        before = {
            role: made[role if number > 1 else asset]
            for role, asset in (
                ("policy", "base_policy"),
                ("world_model", "pretrained_world_model"),
                ("reward_model", "pretrained_reward_model"),
            )
        }
        earlier = {role: ref for role, ref in made.items() if role.startswith("real_rollouts_")}

        def played(purpose: str, count: int) -> Callable[[Any], None]:
            return lambda draft: self._episodes(
                draft, purpose, count, iteration=number, policy=before["policy"].content_digest
            )

        def add(asset: str, kind: str, *arguments: Any, **options: Any) -> ArtifactRef:
            return self._commit(asset, at, kind, *arguments, **options)

        policy = {"policy": before["policy"]}
        add("loop_state", "loop_state", {**before, **earlier}, write_checkpoint)
        add("start_evaluation", "evaluation", policy, self._evaluated(size.evaluation, number))
        real = add("real_rollouts", "real_rollouts", policy, played("rollout", size.real))
        made[f"real_rollouts_{number:02d}"] = real
        so_far = {**earlier, f"real_rollouts_{number:02d}": real}
        clips = add("validation_rollouts", "validation_rollouts", policy, played("validation", size.validation))
        world_model = add(
            "world_model",
            "world_model",
            {
                "world_model": before["world_model"],
                "autoencoder": made["autoencoder"],
                "co_training": made["co_training_data"],
                **so_far,
            },
            write_checkpoint,
        )
        judge = add(
            "reward_model",
            "reward_model",
            {"reward_model": before["reward_model"], **({"real_rollouts": real} if number == 1 else {})},
            write_checkpoint,
        )
        imagined = add(
            "imagined_rollouts",
            "imagined_rollouts",
            {
                "policy": before["policy"],
                "world_model": world_model,
                "autoencoder": made["autoencoder"],
                "starts": real,
            },
            lambda draft: self._episodes(draft, "imagined", size.imagined, world="world_model", starts=real),
        )
        scores = add(
            "reward_scores",
            "reward_scores",
            {"imagined_rollouts": imagined, "reward_model": judge},
            lambda draft: self._scores(draft, imagined, judge),
        )
        sources = {**so_far, "imagined_rollouts": imagined, "reward_scores": scores}
        training_set = add(
            "training_set",
            "training_set",
            sources,
            lambda draft: self._members(draft, list(so_far.values()), imagined, number),
        )
        after = add(
            "policy",
            "policy",
            {"policy": made["base_policy"], "training_set": training_set, **so_far, "imagined_rollouts": imagined},
            write_checkpoint,
            chosen={
                **{
                    role: self._successes(ref, each).to_pylist()
                    for each, (role, ref) in enumerate(so_far.items(), start=1)
                },
                "imagined_rollouts": self._accepted(imagined).to_pylist(),
            },
        )
        evaluated = add(
            "policy_evaluation", "evaluation", {"policy": after}, self._evaluated(size.evaluation, number + 1)
        )
        judged = {"world_model": world_model, "reward_model": judge, "autoencoder": made["autoencoder"], "clips": clips}
        figures = add("world_model_metrics", "world_model_metrics", judged, self._replayed)
        verdicts = add(
            "reward_model_metrics",
            "reward_model_metrics",
            {"reward_model": judge, "clips": clips},
            lambda draft: draft.write_evaluations([figure("real_precision_at_0.8")]),
        )
        add(
            "iteration_report",
            "iteration_report",
            {
                "start_evaluation": made["start_evaluation"],
                "policy_evaluation": evaluated,
                "training_set": training_set,
                "world_model_metrics": figures,
                "reward_model_metrics": verdicts,
            },
            write_checkpoint,
        )
        self.report(f"iteration {number:02d}: {self.known.members(number):,} members")

    def _commit(
        self,
        asset: str,
        partition: str,
        kind: str,
        parents: dict[str, ArtifactRef],
        write: Callable[[Any], None],
        *,
        chosen: Mapping[str, list[str]] = EMPTY,
    ) -> ArtifactRef:
        """Reads `parents` (of those in `chosen` only these episodes) and writes, as the stage of that asset does."""
        # Evaluations of one policy are one artifact: the one at the end of an iteration, and at the start of the next.
        recipe = canonical_json(
            {"seed": self.seed, "score": {"alpha": ALPHA}}
            | ({} if kind == "evaluation" else {"of": asset, "in": partition})
        )
        identity = Identity(
            kind=kind,
            code=CODE,
            recipe=recipe,
            parents=tuple((role, ref.content_digest) for role, ref in parents.items()),
        )
        with self.lake.commit(asset=asset, partition=partition, identity=identity, run_id="synthetic") as draft:
            if draft.reused is None:
                for role, ref in parents.items():
                    handle = draft.read(ref, role, by_row=goes_by_row(asset, role))
                    if role in chosen:
                        handle.note(chosen[role])
                write(draft)
        self.made[asset] = draft.ref
        return draft.ref

    def _random(self, draft: Any, what: str) -> np.random.Generator:
        """A stream of its own for every artifact and use: the same whatever was made before."""
        return np.random.default_rng(
            [self.seed, *hashlib.sha256(f"{draft.identity.digest}{what}".encode()).digest()[:8]]
        )

    def _episodes(
        self,
        draft: Any,
        purpose: str,
        count: int,
        *,
        iteration: int | None = None,
        world: str = "tabletop",
        policy: str = "",
        starts: ArtifactRef | None = None,
    ) -> None:
        """Episodes and their steps; without `iteration` nobody has judged them."""
        index = np.arange(count, dtype=np.int32)
        prefix = f"{purpose}-{draft.identity.digest[:12]}"
        ids = pc.binary_join_element_wise(prefix, pc.utf8_lpad(pc.cast(pa.array(index), pa.string()), 5, "0"), "-")
        rows = np.full(count, self.size.rows)
        if self.size.rows > 10:
            rows += np.where(index % 2, 5, -5)
        won = None if iteration is None else successful(index, iteration)
        names = pa.array(TASKS).take(pa.array(index % len(TASKS)))
        draft.write_table(
            "episodes",
            pa.table(
                {
                    "episode_id": ids,
                    "episode_index": index,
                    "purpose": same(purpose, count),
                    "world": same(world, count),
                    "task": names,
                    "instruction": pc.binary_join_element_wise("do", names, " "),
                    "seed": index.astype(np.int64),
                    "start_episode_id": (
                        pa.nulls(count, pa.string()) if starts is None else episode_ids(starts, "rollout", index)
                    ),
                    "policy": same(policy, count),
                    "world_model": same("", count),
                    "num_steps": (rows - 1).astype(np.int32),
                    "success": pa.nulls(count, pa.bool_()) if won is None else pa.array(won),
                    "event": same("", count)
                    if won is None
                    else pa.array(["failed", "success"]).take(pa.array(won.astype(np.int8))),
                    "nearness": pa.nulls(count, pa.float64()),
                    "label_source": same("" if won is None else "world", count),
                    "num_frames": np.zeros(count, np.int32),
                    "cameras": pa.repeat(pa.scalar(list(SPEC.camera_names)), count),
                    "height": np.full(count, 64, np.int32),
                    "width": np.full(count, 64, np.int32),
                    "extra_json": same("{}", count),
                    "content_digest": digests(self._random(draft, "digests"), count),
                    "created_at": pa.repeat(
                        pa.scalar(EPOCH + timedelta(hours=len(self.made)), pa.timestamp("us", tz="UTC")), count
                    ),
                }
            ),
        )
        draft.write_table("steps", self._steps(self._random(draft, "steps"), ids, rows, won))

    def _steps(self, random: np.random.Generator, ids: pa.Array, rows: np.ndarray, won: np.ndarray | None) -> pa.Table:
        total, ends = int(rows.sum()), np.cumsum(rows)
        step = (np.arange(total) - np.repeat(ends - rows, rows)).astype(np.int32)
        last = np.zeros(total, bool)
        last[ends - 1] = True
        reward = np.zeros(total, np.float32)
        if won is not None:
            reward[ends - 2] = won
        return pa.table(
            {
                "episode_id": ids.take(pa.array(np.repeat(np.arange(len(rows)), rows))),
                "step": step,
                "timestamp": step / SPEC.control_hz,
                "state": vectors(random, total, np.zeros(total, bool)),
                "action": vectors(random, total, last),
                "reward": pa.array(reward, mask=last | (won is None)),
            }
        )

    def _scores(self, draft: Any, imagined: ArtifactRef, judge: ArtifactRef) -> None:
        index = np.arange(self.size.imagined)
        draft.write_table(
            "reward_scores",
            pa.table(
                {
                    "episode_id": episode_ids(imagined, "imagined", index),
                    "owner": same(imagined.owner, len(index)),
                    "judge": same(judge.content_digest, len(index)),
                    "task": pa.array(TASKS).take(pa.array(index % len(TASKS))),
                    "p_success": 1 - (index // len(TASKS) % SLOTS + 0.5) / SLOTS,
                }
            ),
        )

    def _members(self, draft: Any, real: list[ArtifactRef], imagined: ArtifactRef, number: int) -> None:
        for iteration, ref in enumerate(real, start=1):
            add_members(draft, ref, self._successes(ref, iteration), 1.0, "real")
        index = np.arange(self.size.real)
        last = index[index // len(TASKS) % SLOTS == SLOTS - 1]
        add_members(draft, real[number - 1], episode_ids(real[number - 1], "rollout", last), 0.0, "real")
        add_members(draft, imagined, self._accepted(imagined), 1.0, "imagined")

    def _successes(self, real: ArtifactRef, iteration: int) -> pa.Array:
        """Ids of the real successes of an iteration."""
        index = np.arange(self.size.real)
        return episode_ids(real, "rollout", index[successful(index, iteration)])

    def _accepted(self, imagined: ArtifactRef) -> pa.Array:
        index = np.arange(self.size.imagined)
        return episode_ids(imagined, "imagined", index[index // len(TASKS) % SLOTS < ACCEPTED])

    def _evaluated(self, count: int, iteration: int) -> Callable[[Any], None]:
        def write(draft: Any) -> None:
            policy = draft.identity.parents[0][1]
            self._episodes(draft, "evaluation", count, iteration=iteration, policy=policy)
            draft.write_evaluations(
                [
                    {
                        "task": name,
                        "policy": policy,
                        "trials": count // len(TASKS),
                        "successes": self.known.successes(iteration, count, task),
                    }
                    for task, name in enumerate(TASKS)
                ]
            )

        return write

    def _replayed(self, draft: Any) -> None:
        self._episodes(draft, "replay", self.size.validation, world="world_model")
        draft.write_evaluations([figure("psnr"), figure("replay_precision_at_0.8")])


def generate(lake: Lake, size: Size, seed: int = 0, report: Callable[[str], None] = lambda _text: None) -> Generator:
    """Fill an empty lake."""
    generator = Generator(lake, size, seed, report)
    generator.foundation()
    for number in range(1, size.iterations + 1):
        generator.iteration(number)
    return generator
