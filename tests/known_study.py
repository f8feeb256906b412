"""A small study in a lake, every outcome given by hand: two recipes and two ceilings, two seeds, two tasks, four starts
each.

Outcomes are strings of 0 and 1, one character per evaluation start, first those of 'stack', then of 'book'.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import factories
from factories import TASKS, checkpoint, write_checkpoint
from once import made_once

from vlaw_assets.lake import ArtifactRef, Draft, Lake
from vlaw_models.episodes import Episode

STARTS = 4
EVALUATION, VALIDATION, STOPPING, ROLLOUT = 2000, 6000, 7000, 1000
"""First seeds of the start sets."""
BASE = {0: "10001000", 1: "01001000"}
SUCCESS = {  # (recipe, seed, iteration) -> outcomes
    ("filtered_bc", 0, 1): "11001000",
    ("filtered_bc", 1, 1): "01001100",
    ("filtered_bc", 0, 2): "11001100",
    ("filtered_bc", 1, 2): "11001100",
    ("vlaw", 0, 1): "11101100",
    ("vlaw", 1, 1): "11001110",
    ("vlaw", 0, 2): "11101111",
    ("vlaw", 1, 2): "11111110",
}
CEILINGS = {
    ("oracle", 0, 1): "11111100",
    ("oracle", 1, 1): "11101110",
    ("imagined_true_labels", 0, 1): "11101100",
    ("imagined_true_labels", 1, 1): "11001110",
}
STOPS = {0: "1000", 600: "1100", 1200: "1000"}
"""Validation outcomes of every policy per stop, 'stack' and 'book' two starts each; 600 is taken."""
CLIPS = {"tp": 3, "fn": 1, "fp": 1, "tn": 5}
"""The judge's verdicts at alpha in each seed."""
REPLAYS = {"start": (1, 3, 4, 2), "vlaw": (3, 1, 1, 5), "vlaw_expert_only_world_model": (3, 1, 5, 1)}
"""tp, fn, fp, tn of replays in each seed: pretrained, with rollouts, expert-only."""
VIDEO = {"start": 20.0, "vlaw": 25.0, "vlaw_expert_only_world_model": 22.0}
METRICS = {
    "psnr": 1.0,
    "ssim": 0.03,
    "perceptual_judge": -0.01,
    "frechet_judge_frames": -0.5,
    "frechet_judge_clips": -2.0,
}
"""Each metric is its factor times VIDEO (plus 100 where lower is better), so more is better everywhere."""
IMAGINED = "1110010000"
"""True outcomes of the ten imagined episodes of seed 0 and of seed 1; the judge accepts the first four."""


def episode(task: str, seed: int, success: bool | None, start: str | None = None) -> Episode:
    return factories.episode(task, seed, success=success, start=start)


class StudyLake:
    """Commits artifacts of a study; equal identities are reused as in the pipeline."""

    def __init__(self, lake: Lake, study: str = "tiny"):
        self.lake, self.study = lake, study
        self.base = lake.ledger.current("base_policy") or self.commit(
            "base_policy", "", "policy", {}, checkpoint("base")
        )

    def key(self, recipe: str, seed: int, iteration: int) -> str:
        return f"{self.study}-{recipe}-s{seed}|{iteration:02d}"

    def commit(
        self,
        asset: str,
        partition: str,
        kind: str,
        recipe: dict[str, Any],
        write: Callable[[Draft], Any],
        parents: dict[str, ArtifactRef] | None = None,
    ) -> ArtifactRef:
        return factories.commit(self.lake, asset, partition, parents or {}, write, kind=kind, recipe=recipe)

    def define(self, arms: list[dict[str, Any]], **more: Any) -> ArtifactRef:
        definition = {"name": self.study, "description": "A study in miniature.", "arms": arms, **more}

        def write(draft: Draft) -> None:
            (draft.checkpoint_dir() / "study.json").write_text(json.dumps(definition))

        return self.commit("study", f"{self.study}|00", "study", definition, write)

    def evaluate(
        self, asset: str, recipe: str, seed: int, iteration: int, policy: ArtifactRef, outcomes: str
    ) -> ArtifactRef:
        low = asset.endswith("_low_noise")

        def write(draft: Draft) -> None:
            trials = [(task, EVALUATION + start) for task in TASKS for start in range(STARTS)]
            draft.write_episodes(
                [episode(task, start, said == "1") for (task, start), said in zip(trials, outcomes, strict=True)],
                purpose="evaluation",
                world="tabletop",
                policy=policy.content_digest,
                world_model="",
            )
            draft.set_metrics(
                {"made_with": {"machine": "x86_64", "python": "3.12.1", "torch": "2.13.0", "threads": "1"}}
            )

        settings = {"evaluation": {"noise_scale": 0.5 if low else 1.0}, "noise_seed": seed}
        return self.commit(
            asset,
            self.key(recipe, seed, iteration),
            "evaluation_low_noise" if low else "evaluation",
            settings,
            write,
            {"policy": policy},
        )

    def iterate(
        self,
        recipe: str,
        seed: int,
        iteration: int,
        outcomes: str,
        low: str | None = None,
        start: ArtifactRef | None = None,
    ) -> ArtifactRef:
        """One iteration: rollouts, the policy with its stops, evaluations of what it began with and of what it made."""
        key, begun = self.key(recipe, seed, iteration), start or self.base
        if iteration == 1:
            self.evaluate("start_evaluation", recipe, seed, 1, begun, BASE[seed])
            self.evaluate("start_evaluation_low_noise", recipe, seed, 1, begun, BASE[seed][:-1] + "1")
        if iteration > 1:
            verdict = {"policy": {"promoted": seed == 0, "measured": True, "reason": "0.5 against 0.4", "numbers": {}}}
            self.commit(
                "loop_state",
                key,
                "loop_state",
                {"of": key},
                lambda draft: draft.set_metrics({"promotion": verdict}),
                {"policy": begun},
            )
        real = self.commit(
            "real_rollouts",
            key,
            "real_rollouts",
            {"rollouts": {"episodes_per_task": 2}, "seed": seed, "iteration": iteration},
            lambda draft: draft.write_episodes(
                [episode(task, ROLLOUT + 100 * seed + 10 * iteration + i, i == 0) for task in TASKS for i in range(2)],
                purpose="rollout",
                world="tabletop",
                policy=begun.content_digest,
                world_model="",
            ),
            {"policy": begun},
        )

        def learn(draft: Draft) -> None:
            write_checkpoint(draft.checkpoint_dir(), key)
            rows = [
                {
                    "task": task,
                    "metric": "validation_success",
                    "policy": "",
                    "trials": 2,
                    "successes": said[half : half + 2].count("1"),
                    "value": said[half : half + 2].count("1") / 2,
                    "detail": {"stop": stop, "chosen": stop == 600, "first_seed": STOPPING}
                    | {"outcomes": [int(c) for c in said[half : half + 2]]},
                }
                for stop, said in STOPS.items()
                for task, half in zip(TASKS, (0, 2), strict=True)
            ]
            draft.write_evaluations(rows)

        policy = self.commit(
            "policy",
            key,
            "policy",
            {"policy": {"learner": "filtered", "use_real": True}, "of": key},
            learn,
            {"policy": begun, "real": real},
        )
        self.evaluate("policy_evaluation", recipe, seed, iteration, policy, outcomes)
        self.evaluate("policy_evaluation_low_noise", recipe, seed, iteration, policy, low or outcomes[:-1] + "1")
        return policy

    def imagine(
        self,
        recipe: str,
        seed: int,
        iteration: int,
        policy: ArtifactRef,
        real: ArtifactRef,
        *,
        world: str = "world_model",
        first: int | None = None,
    ) -> None:
        """Ten imagined episodes from the `first` real ones, the judge's scores of them, and their true outcomes."""
        key = self.key(recipe, seed, iteration)
        settings = {"world_model": {"use_rollouts": True}, "of": seed}
        model = self.commit("world_model", key, "world_model", settings, checkpoint(key))
        starts = [e.episode_id for e in self.lake.read(real).episodes(frames=False)][:first]
        dreams = self.commit(
            "imagined_rollouts",
            key,
            "imagined_rollouts",
            {"imagine": {"episodes_per_task": 5, "world": "world_model"}, "of": key},
            lambda draft: draft.write_episodes(
                [episode(TASKS[i % 2], i, None, starts[i % len(starts)]) for i in range(10)],
                purpose="imagined",
                world=world,
                policy=policy.content_digest,
                world_model=model.content_digest,
            ),
            {"starts": real, "world_model": model},
        )
        names = [e.episode_id for e in self.lake.read(dreams).episodes(frames=False)]

        def scores(judge: str, said: list[float]) -> Callable[[Draft], None]:
            return lambda draft: draft.write_scores(
                [
                    {"episode_id": name, "owner": dreams.owner, "judge": judge, "p_success": p}
                    for name, p in zip(names, said, strict=True)
                ]
            )

        self.commit(
            "reward_scores",
            key,
            "reward_scores",
            {"of": key},
            scores("judge", [0.9] * 4 + [0.3] * 6),
            {"imagined": dreams},
        )
        self.commit(
            "training_set",
            key,
            "training_set",
            {"score": {"alpha": 0.8, "labels": "judge"}, "of": key},
            lambda _: None,
            {"imagined": dreams},
        )

        def outcomes(draft: Draft) -> None:
            scores("simulator", [float(c) for c in IMAGINED])(draft)
            draft.write_evaluations(
                [
                    {"task": task, "metric": "failed_starts_covered", "trials": n, "successes": k, "value": k / n}
                    for task, k, n in (("stack", 1, 1), ("book", 0, 1), ("all", 1, 2))
                ]
            )

        self.commit("imagined_outcomes", key, "imagined_outcomes", {"of": key}, outcomes, {"imagined": dreams})

    def measure(self, recipe: str, seed: int) -> None:
        """World models and judge on clips, after iteration 1."""
        key = self.key(recipe, seed, 1)
        settings = {"world_model": {"use_rollouts": recipe == "vlaw"}, "of": seed}
        model = self.commit("world_model", key, "world_model", settings, checkpoint(key))
        net = {"name": "judge", "digest": "d" * 64}
        for asset, which in (("start_world_model_metrics", "start"), ("world_model_metrics", recipe)):
            rows = [
                {
                    "task": "all",
                    "metric": metric,
                    "camera": camera,
                    "trials": 10,
                    "value": factor * VIDEO[which] + (100 if factor < 0 else 0) + seed,
                    "detail": {"clips": ["a"], "feature_net": net, "perceptual_net": net},
                }
                for metric, factor in METRICS.items()
                for camera in ("exterior_1", "wrist")
            ]
            rows += verdicts("replay", *REPLAYS[which])
            self.commit(
                asset,
                key,
                asset,
                {"which": which, "seed": seed},
                lambda draft, rows=rows: draft.write_evaluations(rows),
                {"world_model": model} if which != "start" else {},
            )
        clips = self.commit(
            "validation_rollouts",
            key,
            "validation_rollouts",
            {"seed": seed},
            lambda draft: draft.write_episodes(
                [episode(TASKS[i % 2], VALIDATION + 10 * seed + i, i < 4) for i in range(10)],
                purpose="validation",
                world="tabletop",
            ),
        )
        names = [e.episode_id for e in self.lake.read(clips).episodes(frames=False)]

        def judge(draft: Draft) -> None:
            said = [0.9, 0.95, 0.99, 0.4, 0.85, 0.3, 0.2, 0.1, 0.15, 0.05]
            draft.write_scores(
                [
                    {"episode_id": name, "owner": clips.owner, "judge": "j", "p_success": p}
                    for name, p in zip(names, said, strict=True)
                ]
            )
            draft.write_evaluations(
                [*verdicts("real", **CLIPS), {"task": "all", "metric": "real_auroc", "value": 0.96, "trials": 10}]
            )

        self.commit("reward_model_metrics", key, "reward_model_metrics", {"seed": seed}, judge, {"clips": clips})


def verdicts(what: str, tp: int, fn: int, fp: int, tn: int) -> list[dict[str, Any]]:
    detail = {"tp": tp, "fn": fn, "fp": fp, "tn": tn}
    return [
        {
            "task": "all",
            "metric": f"{what}_{name}_at_{threshold}",
            "trials": n,
            "successes": k,
            "value": k / n,
            "detail": detail,
        }
        for threshold in ("0.5", "0.8")
        for name, k, n in (("precision", tp, tp + fp), ("recall", tp, tp + fn), ("false_positive_rate", fp, fp + tn))
    ]


def known_study(lake: Lake, seeds: Sequence[int] = (0, 1)) -> StudyLake:
    """filtered_bc and vlaw over two seeds and two iterations, the ceilings and an expert-only world model over one; of
    these what belongs to `seeds`."""
    k = StudyLake(lake)
    k.define(
        [
            {"recipe": "vlaw", "seeds": [0, 1], "iterations": 2},
            {"recipe": "filtered_bc", "seeds": [0, 1], "iterations": 2},
            {"recipe": "oracle", "seeds": [0, 1], "iterations": 1, "privileged": True},
            {"recipe": "imagined_true_labels", "seeds": [0, 1], "iterations": 1, "privileged": True},
            {"recipe": "vlaw_expert_only_world_model", "seeds": [0, 1], "iterations": 1},
        ]
    )
    policies: dict[tuple[str, int], ArtifactRef] = {}
    for (recipe, seed, iteration), outcomes in (SUCCESS | CEILINGS).items():
        if seed not in seeds:
            continue
        policies[recipe, seed] = k.iterate(recipe, seed, iteration, outcomes, start=policies.get((recipe, seed)))
    for seed in seeds:
        k.measure("vlaw", seed)
        k.measure("vlaw_expert_only_world_model", seed)
        real = k.lake.ledger.require("real_rollouts", k.key("vlaw", seed, 1))
        k.imagine("vlaw", seed, 1, k.base, real)
        again = k.lake.ledger.require("real_rollouts", k.key("vlaw", seed, 2))
        k.imagine("vlaw", seed, 2, k.lake.ledger.require("policy", k.key("vlaw", seed, 1)), again)
    return k


def shared_study(tmp_path_factory, seeds: Sequence[int] = (0, 1)) -> StudyLake:
    """The known study, made once for all processes; only for who reads it."""
    name = f"known-study-{'-'.join(map(str, seeds))}"
    folder = made_once(tmp_path_factory, name, lambda at: known_study(Lake.open(at, create=True), seeds))
    return StudyLake(Lake.open(folder))
