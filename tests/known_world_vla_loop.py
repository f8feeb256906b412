"""A small study of World-VLA-Loop in a lake, every number given by hand: the loop over two rounds, an arm without the
reward head, one without near-success data, and VLAW; two seeds. Outcomes as in known_study.py."""

from __future__ import annotations

from typing import Any

import factories
from factories import TASKS, write_checkpoint
from known_study import StudyLake, episode, verdicts

from vlaw_assets.lake import ArtifactRef, Draft, Lake

LOOP, NO_NEAR, NO_HEAD = "world_vla_loop", "world_vla_loop_no_near_success", "world_vla_loop_no_reward_head"
BASE = {0: "10001000", 1: "01001000"}
SUCCESS = {
    (LOOP, 0, 1): "11001100",
    (LOOP, 1, 1): "11001100",
    (LOOP, 0, 2): "11101110",
    (LOOP, 1, 2): "11101110",
    (NO_HEAD, 0, 1): "10001000",
    (NO_HEAD, 1, 1): "11001000",
    (NO_NEAR, 0, 1): "11001000",
    (NO_NEAR, 1, 1): "11001000",
    ("vlaw", 0, 1): "11001000",
    ("vlaw", 1, 1): "01001110",
}
THRESHOLD, DONE_ABOVE, ALPHA = 0.5, 0.9, 0.8
"""What the reward of the head counts as a success, where it ends a trajectory, and what P(yes) counts as a success."""
HEAD = {LOOP: (45, 5, 4, 46), NO_NEAR: (40, 10, 12, 38)}
"""tp, fn, fp, tn of the head's word on replays, per seed, at the success threshold: 91 and 78 of 100 right."""
ENDS = (25, 25, 1, 49)
"""The same above DONE_ABOVE: 74 of 100 right."""
JUDGE = {LOOP: (30, 20, 20, 30), NO_HEAD: (35, 15, 15, 35), NO_NEAR: (30, 20, 20, 30), "vlaw": (40, 10, 10, 40)}
TRIES = {1: ("00", "00"), 2: ("10", "11"), 3: ("11", "11")}
"""RL step -> how the two tries from the failed start of 'stack' and of 'book' end; one from the others succeeds."""
TOLD = {"1": 0.55, "0": 0.45}
"""The reward that is told of them: a success above THRESHOLD, none above ALPHA."""
STOP = {1: 1, 2: 3}
"""Round -> the stop that is chosen: after the first RL step, and after the last."""
PRACTISED, STEPS = 18, 2
"""Imagined rollouts of an update, and the control steps of each rollout."""
ENDED, SAVED = 2, 3
"""Of an update: rollouts that ended early, and control steps that this saved."""
VALIDATED = 12
"""Validation trials of an update: three stops, two tasks, two starts."""
PAIRS = 4
"""Episodes of near_success."""
GRPO = {"steps": 50, "groups": 30, "group_size": 8, "threshold": THRESHOLD, "normalized": False, "temperature": 0.0}
RECIPE = {"learner": GRPO, "policy": {"stops": [1, 3]}, "imagine": {"done_above": DONE_ABOVE}}


class LoopLake(StudyLake):
    def practise(
        self, recipe: str, seed: int, iteration: int, start: ArtifactRef, collector: ArtifactRef, outcomes: str
    ) -> ArtifactRef:
        """Rollouts of `collector`, the policy that learned from `start` with what it imagined, and its evaluations."""
        key = self.key(recipe, seed, iteration)
        if iteration == 1:
            self.evaluate("start_evaluation", recipe, seed, 1, start, BASE[seed])
        real = self.commit(
            "real_rollouts",
            key,
            "real_rollouts",
            {"rollouts": {"episodes_per_task": 2}, "seed": seed, "iteration": iteration},
            lambda draft: draft.write_episodes(
                [episode(task, 1000 + 100 * seed + 10 * iteration + i, i == 0) for task in TASKS for i in range(2)],
                purpose="rollout",
                world="tabletop",
                policy=collector.content_digest,
                world_model="",
            ),
            {"policy": collector},
        )
        self.commit(
            "world_model",
            key,
            "world_model",
            {"world_model": {"near_success": recipe != NO_NEAR}, "of": key},
            lambda draft: write_checkpoint(draft.checkpoint_dir(), f"world model {key}"),
        )
        by_head = {"grpo": {"reward": "head", "threshold": THRESHOLD}}
        by_judge = {"grpo": {"reward": "judge", "threshold": THRESHOLD}, "practice": {"alpha": ALPHA}}
        settings = {"policy": {"learner": "grpo", "use_real": False}, "of": key}
        settings |= by_judge if recipe == NO_HEAD else by_head
        starts = self.lake.read(real).episodes(frames=False)
        policy = self.commit(
            "policy",
            key,
            "policy",
            settings,
            lambda draft: self._learn(draft, key, iteration, start, starts),
            {"policy": start, "real": real},
        )
        self.evaluate("policy_evaluation", recipe, seed, iteration, policy, outcomes)
        return policy

    def _learn(self, draft: Draft, key: str, iteration: int, start: ArtifactRef, starts: list[Any]) -> None:
        write_checkpoint(draft.checkpoint_dir(), key)
        made, told = [], []
        for step, tries in TRIES.items():
            for begin in starts:
                for said in "1" if begin.success else tries[TASKS.index(begin.task)]:
                    extra = {"rl_step": step}
                    made.append(
                        factories.episode(
                            begin.task, len(made), success=None, start=begin.episode_id, extra=extra, steps=STEPS
                        )
                    )
                    told.append(TOLD[said])
        names = draft.write_episodes(
            made, purpose="imagined", world="world_model", policy=start.content_digest, world_model="w" * 16
        )
        draft.write_scores(
            [
                {"episode_id": name, "owner": draft.artifact_id, "judge": "w" * 16, "p_success": p}
                for name, p in zip(names, told, strict=True)
            ]
        )
        draft.write_evaluations(
            [
                {
                    "task": task,
                    "metric": "validation_success",
                    "policy": "",
                    "trials": 2,
                    "successes": 1,
                    "value": 0.5,
                    "detail": {"stop": stop, "chosen": stop == STOP[iteration], "first_seed": 7000},
                }
                for stop in (0, 1, 3)
                for task in TASKS
            ]
        )
        steps = [{"success": 0.1 * step, "signal": step, "clipped": 0.01, "kl": 0.001} for step in TRIES]
        metrics = {"rl_steps": steps, "practised": len(made), "ended_early": ENDED, "steps_saved": SAVED}
        draft.set_metrics({**metrics, "stop": STOP[iteration], "seconds": 60})

    def align(self, recipe: str, seed: int) -> None:
        rows: list[dict[str, Any]] = verdicts("replay", *JUDGE[recipe])
        if recipe in HEAD:
            rows += [row for row in verdicts("head", *HEAD[recipe]) if row["metric"].endswith("_0.5")]
            ends = [row for row in verdicts("head", *ENDS) if row["metric"].endswith("_0.8")]
            rows += [{**row, "metric": row["metric"].replace("0.8", str(DONE_ABOVE))} for row in ends]
        self.commit(
            "world_model_metrics",
            self.key(recipe, seed, 1),
            "world_model_metrics",
            {"of": recipe, "seed": seed, "score": {"alpha": ALPHA}},
            lambda draft: draft.write_evaluations(rows),
        )


def known_world_vla_loop(lake: Lake) -> LoopLake:
    k = LoopLake(lake, "loop")
    arms = [
        {"recipe": recipe, "seeds": [0, 1], "iterations": 2 if recipe == LOOP else 1}
        for recipe in (LOOP, NO_HEAD, NO_NEAR, "vlaw")
    ]
    k.define(arms, experiments={f"loop-{LOOP}-s0": {"arm": LOOP, "recipe": RECIPE}})
    k.commit(
        "near_success",
        "",
        "scripted_episodes",
        {"purpose": "near_success"},
        lambda draft: draft.write_episodes(
            [episode(TASKS[i % 2], i, i < 2) for i in range(PAIRS)], purpose="near_success", world="tabletop"
        ),
    )
    last: dict[tuple[str, int], ArtifactRef] = {}
    for (recipe, seed, iteration), outcomes in SUCCESS.items():
        if recipe == "vlaw":
            k.iterate(recipe, seed, iteration, outcomes)
            k.imagine(recipe, seed, 1, k.base, k.lake.ledger.require("real_rollouts", k.key(recipe, seed, 1)))
        else:
            collector = last.get((recipe, seed), k.base)
            last[recipe, seed] = k.practise(recipe, seed, iteration, k.base, collector, outcomes)
        if iteration == 1:
            k.align(recipe, seed)
    unfinished = {"world_model": {"near_success": True}, "of": "a round that has no policy yet"}
    k.commit(
        "world_model",
        k.key(LOOP, 0, 3),
        "world_model",
        unfinished,
        lambda draft: write_checkpoint(draft.checkpoint_dir(), "round 3"),
    )
    return k
