"""Where a policy's learner practises while it learns (`Learner.practises`), and the episodes that it makes there.

In the world model the groups start from the first frames that imagination would start from (starts.py). On the robot
they are real rollouts, on layouts of the iteration that its real_rollouts have not seen. Either way the policy's
artifact holds every episode, with its RL step and group in `extra`, and those of the world model with the score that
its reward follows from. A group with a rollout in quarantine is not rolled out when the policy is made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from vlaw_assets.assets.encoded import latents_for, read_latents
from vlaw_assets.assets.starts import Choice, Starts, begin_with_real_frames, start_parents, start_roles
from vlaw_assets.assets.written import Writing
from vlaw_assets.loop_roles import REAL
from vlaw_assets.pipeline import checks
from vlaw_models.config import SAMPLING
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.rollouts.seeds import start_seeds

if TYPE_CHECKING:
    import numpy as np

    from vlaw_assets.assets.stage import Stage
    from vlaw_assets.assets.state import LoopState
    from vlaw_assets.assets.work import Work
    from vlaw_assets.lake import ArtifactRef
    from vlaw_assets.recipes.schema import Recipe
    from vlaw_models.episodes import Episode, Start
    from vlaw_models.learners.grpo_learner import Grpo
    from vlaw_models.rollouts.practice import Practice

ROBOT = "robot"
READ = ("num_steps", *SAMPLING, "batch_size", "starts", "tries_per_failure", "done_above")
"""Keys of [imagine] that practice in the world model reads."""


def learner_of(recipe: Recipe) -> Grpo:
    """The recipe's learner, which practises."""
    return cast("Grpo", recipe.learner)


def parents_of(stage: Stage, state: LoopState) -> dict[str, ArtifactRef]:
    """Role -> artifact that practice stands on besides the policy; nothing on the robot."""
    recipe = stage.recipe
    if learner_of(recipe).practises == ROBOT:
        return {}
    real = {"real_rollouts": stage.require("real_rollouts")}
    return {
        "world_model": stage.require("world_model"),
        "autoencoder": stage.require_foundation("autoencoder"),
        **({"reward_model": stage.require("reward_model")} if learner_of(recipe).reward == "judge" else {}),
        **latents_for(stage, real, corpora=recipe.imagine.starts == "real"),
        **start_parents(stage, state),
    }


def tables_of(stage: Stage) -> dict[str, Any]:
    """What practice reads of the recipe besides the learner's own table."""
    recipe = stage.recipe
    shared = {"tasks": list(recipe.tasks), "order": recipe.seed, "robot": stage.robot.identity()}
    if learner_of(recipe).practises == ROBOT:
        simulator = simulator_of(stage.robot, needed_by="policy.learner", remedy="Choose another learner.")
        own = recipe.tables("rollouts")["rollouts"]
        return {
            **shared,
            "iteration": stage.iteration,
            "renderer": simulator.renderer(),
            "rollouts": {key: own[key] for key in ("episodes_per_task", "num_steps", "done_above") if key in own},
        }
    imagine = recipe.tables("imagine")["imagine"]
    judged = {"alpha": recipe.score.alpha} if learner_of(recipe).reward == "judge" else {}
    return {**shared, **judged, "imagine": {key: imagine[key] for key in READ if key in imagine}}


def count_of(recipe: Recipe) -> int:
    """Groups of an iteration: RL steps times groups."""
    learner = learner_of(recipe)
    return max(recipe.policy.stops, default=learner.steps) * learner.groups


def left_out(stage: Stage, work: Work) -> set[tuple[int, int]]:
    """(RL step, group) of the rollouts in quarantine that were made when this policy was made before."""
    from vlaw_assets.lake.lookup import Lookup

    identity, excluded = work.draft.identity, set(work.draft.identity.excluded)
    with Lookup(stage.lake) as lookup:
        holders = {ref.owner: ref for name in excluded for ref in lookup.holders(name)}
    own = [
        json.loads(row["extra_json"])
        for ref in holders.values()
        if (ref.kind, ref.recipe_digest) == (identity.kind, identity.recipe_digest)
        for row in stage.lake.read(ref).table("episodes").to_pylist()
        if row["episode_id"] in excluded
    ]
    return {(extra["rl_step"], extra["group"]) for extra in own}


class Practising:
    """The practice of one policy update, and the writing of its episodes."""

    def __init__(self, stage: Stage, work: Work):
        self.work, self.recipe = work, stage.recipe
        self.on_robot = learner_of(self.recipe).practises == ROBOT
        self._scores: list[dict[str, Any]] = []
        self._first: dict[str | None, np.ndarray | None] = {}
        self._writing = Writing(
            work,
            purpose="rollout" if self.on_robot else "imagined",
            tasks=self.recipe.tasks,
            labelled=self.on_robot,
            robot=stage.robot,
            world=stage.robot.world if self.on_robot else "world_model",
            policy=work.parents["policy"].content_digest,
            world_model="" if self.on_robot else work.parents["world_model"].content_digest,
            also=None if self.on_robot else lambda batch: begin_with_real_frames(batch, self._first),
        )
        self.practice = self._on_robot(stage) if self.on_robot else self._in_the_world_model(stage)

    @property
    def shown(self) -> list[Episode]:
        """Some of the episodes, with their frames."""
        return list(self._writing.done.seen.episodes)

    def finish(self, stage: Stage) -> None:
        """Writes the scores, notes what came of it, and warns where there was nothing to learn from."""
        work, steps = self.work, self.practice.steps
        done = self._writing.finish()
        if self._scores:
            work.check(checks.rows_fit_schema("reward_scores", self._scores))
            work.draft.write_scores(self._scores)
        work.metrics |= {"practised": len(done.episodes), "rl_steps": steps, **done.savings}
        if not any(step["signal"] for step in steps):
            learner = learner_of(self.recipe)
            stage.log.warning(
                f"no group of {len(steps)} RL steps had signal (success from {learner.least_success} to "
                f"{learner.most_success}): the policy stays as it is"
            )
            work.metrics["no_signal"] = True
            work.pass_on("policy")

    def _keep(self, episodes: Sequence[Episode], starts: Sequence[Start], scores: np.ndarray) -> None:
        self._first = {start.episode_id: start.images for start in starts}
        names = self._writing.add(episodes)
        if not self.on_robot:
            role = "reward_model" if learner_of(self.recipe).reward == "judge" else "world_model"
            self._scores += [
                {
                    "episode_id": name,
                    "owner": self.work.draft.artifact_id,
                    "task": episode.task,
                    "judge": self.work.parents[role].content_digest,
                    "p_success": float(score),
                }
                for name, episode, score in zip(names, episodes, scores, strict=True)
            ]

    def _in_the_world_model(self, stage: Stage) -> Practice:
        from vlaw_models.reward_models.score import scorer
        from vlaw_models.rollouts.practice import Practice, in_world_model
        from vlaw_models.rollouts.rewards import head_scores

        recipe, learner, work = self.recipe, learner_of(self.recipe), self.work
        by_head = learner.reward == "head"
        scores: Callable[[Sequence[Episode]], np.ndarray] = (
            head_scores if by_head else scorer(work.read("reward_model").checkpoint())
        )
        return Practice(
            in_world_model(
                work.read("world_model").checkpoint(),
                work.read("autoencoder").checkpoint(),
                recipe.imagine,
                robot=stage.robot,
                head=f"{recipe.policy.learner}.reward = 'head'" if by_head else "",
            ),
            self._recorded_starts(),
            scores,
            learner.threshold if by_head else recipe.score.alpha,
            self._keep,
            num_steps=recipe.imagine.num_steps,
            seed=stage.seed,
            graded=learner.graded,
            batch_size=recipe.imagine.batch_size,
            left_out=left_out(stage, work),
            progress=stage.progress,
        )

    def _recorded_starts(self) -> Starts:
        recipe, work = self.recipe, self.work
        rollouts, *others = [
            list(work.read(role).source(tasks=recipe.tasks, judged=True)) for role in start_roles(work)
        ]
        before = [
            work.read(role).episodes(frames=False, tasks=recipe.tasks, judged=True)
            for role in work.parents
            if role.startswith(REAL)
        ]
        per_task = -(-count_of(recipe) // len(recipe.tasks))
        choice = Choice(recipe.tasks, per_task, recipe.imagine.tries_per_failure, recipe.seed)
        scenes = [episode for found in others for episode in found]
        return Starts(choice.starts(rollouts, scenes, before)[: count_of(recipe)], read_latents(work))

    def _on_robot(self, stage: Stage) -> Practice:
        from vlaw_models.episodes import Start
        from vlaw_models.rollouts.practice import Practice, on_robot, world_scores

        recipe = self.recipe
        first, count = recipe.rollouts.episodes_per_task, count_of(recipe)
        per_task = -(-count // len(recipe.tasks))
        seeds = {
            task: start_seeds("rollout", task, stage.iteration, recipe.seed, first + per_task)[first:]
            for task in recipe.tasks
        }
        starts = [Start(task, seeds[task][index]) for index in range(per_task) for task in recipe.tasks]
        return Practice(
            on_robot(stage.robot, done_above=recipe.rollouts.done_above),
            starts[:count],
            world_scores,
            0.5,
            self._keep,
            num_steps=recipe.rollouts.num_steps,
            seed=stage.seed,
            left_out=left_out(stage, self.work),
            progress=stage.progress,
        )
