"""Which stages the first iteration of a recipe has, and what each would take.

Needs of models are found out with fake weights, at the sizes of the checkpoints that the foundation starts from, else
of the recipe's preset (vlaw_models/planning); counts of episodes, updates and steps are the recipe's. What is made once
(the corpora's latents, the judge) and what measures the models that the iteration starts with are in it. What is not
counted is said (`Planner.not_counted`), such as the simulator, which has its own pace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.planning.stage_plan import StagePlan, of_generation, of_training
from vlaw_models.robots.registry import find_robot

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_assets.recipes.schema import Foundation, Recipe
    from vlaw_models.config import Sampling
    from vlaw_models.planning.choose import Hardware
    from vlaw_models.planning.needs import Generation, Models, Training

ROBOT = "robot"
"""Source of episodes that the robot's simulator makes."""


class Planner:
    """Plans the stages of the first iteration of a recipe; each model is looked at once, whatever `hardware` is."""

    def __init__(
        self, recipe: Recipe, hardware: Hardware, foundation: Foundation | None = None, lake: Lake | None = None
    ):
        """`foundation`: whose checkpoints and corpora are planned with, where it is of the recipe's preset and robot;
        `lake`: where episodes are counted that are there."""
        from vlaw_models.planning.needs import Models

        self.recipe, self.hardware, self.lake = recipe, hardware, lake
        fits = foundation is not None and (foundation.preset, foundation.robot) == (recipe.preset, recipe.robot)
        self.foundation = foundation if fits else None
        given = self.foundation.weights if self.foundation else {}
        folders = {str(name): Path(path).expanduser() for name, path in given.items() if path}
        self.checkpoints = {name: folder for name, folder in folders.items() if folder.is_dir()}
        """Model, by its key in [weights] -> the folder that says what it is."""
        self.absent = {name: folder for name, folder in folders.items() if not folder.is_dir()}
        """Those whose folder is not there."""
        self.models: Models = Models(recipe.preset, find_robot(recipe.robot), self.checkpoints)
        self.tasks = max(1, len(recipe.tasks))

    def stages(self, looking_at: Callable[[str], None] = lambda _stage: None) -> Iterator[StagePlan]:
        """In the order in which they run; those with nothing to do are left out."""
        recipe, measured = self.recipe, self.recipe.world_model_metrics.clips_per_task > 0
        imagines = recipe.imagine.count > 0
        asked: dict[str, tuple[object, Callable[[str], StagePlan]]] = {
            "corpus_latents": (self._encodes and self._frames, self._corpus_latents),
            "real_rollouts": (recipe.rollouts.source == ROBOT, self._real_rollouts),
            "latents": (self._encodes, self._latents),
            "world_model": (recipe.needs_world_model and recipe.world_model.steps, self._world_model),
            "reward_model": (recipe.reward_model.steps, self._reward_model),
            "imagined_rollouts": (imagines, self._imagined),
            "reward_scores": (imagines and recipe.score.labels == "judge", self._scores),
            "policy": (self._imitates and self._updates, self._policy),
            "policy_evaluation": (recipe.evaluation.source == ROBOT, self._evaluation),
            "reward_model_metrics": (measured, self._judge_metrics),
            "world_model_metrics": (measured, self._world_model_metrics),
            "episode_embeddings": (True, self._embeddings),
        }
        for stage, (runs, plan) in asked.items():
            if runs:
                looking_at(stage)
                yield plan(stage)

    def not_counted(self) -> list[str]:
        """What takes time, memory or disk beside the stages, as this recipe has it."""
        recipe, metrics = self.recipe, self.recipe.world_model_metrics
        unknown = [asset for asset, frames in self._corpora.items() if frames is None]
        of = f" of {' and '.join(unknown)}, which the lake does not have" if unknown else ""
        simulates = ROBOT in (recipe.rollouts.source, recipe.evaluation.source) or recipe.privileged
        said = {
            f"corpus_latents{of}": self._encodes and (unknown or self.foundation is None),
            "unrolling (world_model.unroll)": recipe.needs_world_model and recipe.world_model.unroll,
            "replays for the judge (reward_model.replays)": recipe.reward_model.steps and recipe.reward_model.replays,
            f"practice and updates of the learner {recipe.policy.learner!r}": not self._imitates and self._updates,
            "policies on validation starts (policy.validation_per_task)": recipe.measures_policies,
            "networks of the video metrics": metrics.feature_net or metrics.perceptual_net,
            "the simulator's own time": simulates or self.models.robot.simulator,
            "real episodes on the disk": True,
        }
        return [what for what, holds in said.items() if holds]

    def _corpus_latents(self, stage: str) -> StagePlan:
        """At most: recordings that came with latents of this autoencoder keep those."""
        return self._encoding(stage, self._frames)

    def _latents(self, stage: str) -> StagePlan:
        table = self.recipe.rollouts
        return self._encoding(stage, table.episodes_per_task * self.tasks * (table.num_steps + 1))

    def _encoding(self, stage: str, frames: int) -> StagePlan:
        views, height, width, _ = self.models.picture()
        autoencoder, needs = self.models.autoencoder, self._needs_encoding
        numbers = autoencoder.latent_channels * (height // autoencoder.factor) * (width // autoencoder.factor)
        passes = frames * views / autoencoder.batch_size
        flop, disk = passes * needs.run.flop, frames * views * numbers * 2  # in float16
        batch = f"{autoencoder.batch_size} pictures"
        return of_generation(stage, [needs], self.hardware, samples=1, batch=batch, flop=flop, disk=disk)

    def _world_model(self, stage: str) -> StagePlan:
        table = self.recipe.world_model
        return of_training(
            stage,
            self._needs_world_model,
            self.hardware,
            steps=table.steps,
            batch_size=table.batch_size,
            samples="windows",
        )

    def _reward_model(self, stage: str) -> StagePlan:
        table = self.recipe.reward_model
        return of_training(
            stage,
            self._needs_judge,
            self.hardware,
            steps=table.steps,
            batch_size=table.batch_size,
            samples="clips",
            averaged=False,
        )

    def _policy(self, stage: str) -> StagePlan:
        table = self.recipe.policy
        return of_training(
            stage,
            self._needs_policy,
            self.hardware,
            steps=self._updates,
            batch_size=table.batch_size,
            samples="steps",
            averaged=table.ema > 0,
        )

    def _imagined(self, stage: str) -> StagePlan:
        table, policy = self.recipe.imagine, self.models.policy
        episodes, flop, models = table.count * self.tasks, self._acts(table.num_steps), [self._needs_acting]
        if table.world == "world_model":
            looks, chunk = -(-table.num_steps // policy.execute_steps), self.models.world_model.chunk
            chunks = looks * -(-policy.execute_steps // chunk)
            flop += self._imagines(chunks, table.num_steps, table.sampling)
            models = [self._needs_imagining, *models, self._needs_decoding]
        return of_generation(
            stage,
            models,
            self.hardware,
            samples=table.batch_size,
            batch=f"{table.batch_size} trajectories",
            flop=episodes * flop,
            disk=episodes * (table.num_steps + 1) * self._pixels,
            key="imagine.batch_size",
        )

    def _real_rollouts(self, stage: str) -> StagePlan:
        table = self.recipe.rollouts
        return self._simulated(stage, table.episodes_per_task, table.num_steps)

    def _evaluation(self, stage: str) -> StagePlan:
        """With that of the policy that the iteration starts with; at both noises, where there are two."""
        table = self.recipe.evaluation
        noises = 1 + (table.low_noise_scale != table.noise_scale)
        return self._simulated(stage, 2 * noises * table.episodes_per_task, table.num_steps)

    def _simulated(self, stage: str, per_task: int, steps: int) -> StagePlan:
        """The policy's part of episodes on the simulator."""
        from vlaw_models.rollouts.collect import BATCH

        flop, batch = per_task * self.tasks * self._acts(steps), f"{BATCH} rollouts"
        return of_generation(stage, [self._needs_acting], self.hardware, samples=BATCH, batch=batch, flop=flop)

    def _scores(self, stage: str) -> StagePlan:
        return self._judged(stage, self.recipe.imagine.count)

    def _judge_metrics(self, stage: str) -> StagePlan:
        return self._judged(stage, self.recipe.world_model_metrics.clips_per_task)

    def _judged(self, stage: str, per_task: int) -> StagePlan:
        from vlaw_models.reward_models.score import BATCH

        needs, batch = self._needs_judging, f"{BATCH} clips"
        flop = per_task * self.tasks * needs.run.flop
        return of_generation(stage, [needs], self.hardware, samples=BATCH, batch=batch, flop=flop)

    def _world_model_metrics(self, stage: str) -> StagePlan:
        """Replays, which are judged; with those of the world model that the iteration starts with."""
        from vlaw_models.rollouts.replay import BATCH

        table, judging = self.recipe.world_model_metrics, self._needs_judging
        clips, chunks = 2 * table.clips_per_task * self.tasks, -(-table.num_steps // self.models.world_model.chunk)
        return of_generation(
            stage,
            [self._needs_imagining, self._needs_decoding, judging],
            self.hardware,
            samples=BATCH,
            batch=f"{BATCH} clips",
            flop=clips * (self._imagines(chunks, table.num_steps, table.sampling) + judging.run.flop),
            disk=clips * (table.num_steps + 1) * self._pixels,
        )

    def _embeddings(self, stage: str) -> StagePlan:
        """Of real, imagined and validation episodes."""
        from vlaw_models.reward_models.embed import BATCH

        recipe, (needs, numbers) = self.recipe, self._needs_embedding
        counts = (recipe.rollouts.episodes_per_task, recipe.imagine.count, recipe.world_model_metrics.clips_per_task)
        episodes, batch = sum(counts) * self.tasks, f"{BATCH} clips"
        flop, disk = episodes * needs.run.flop, episodes * numbers * 4  # in float32
        return of_generation(stage, [needs], self.hardware, samples=BATCH, batch=batch, flop=flop, disk=disk)

    def _acts(self, steps: int) -> float:
        """Operations of the policy in an episode of so many steps."""
        return -(-steps // self.models.policy.execute_steps) * self._needs_acting.run.flop

    def _imagines(self, chunks: int, frames: int, sampling: Sampling) -> float:
        """Operations of the world model in so many chunks, and of decoding so many frames."""
        passes = 1 if self.models.world_model.deterministic else sampling.steps * (2 if sampling.guidance > 1 else 1)
        decodings = frames * self.models.picture()[0] / self.models.autoencoder.batch_size
        return chunks * passes * self._needs_imagining.run.flop + decodings * self._needs_decoding.run.flop

    @property
    def _encodes(self) -> bool:
        """Whether latents are kept."""
        return self.recipe.needs_world_model and not self.models.autoencoder.when_drawn

    @property
    def _imitates(self) -> bool:
        """Whether its learner trains the policy on batches of what was done, by the common trainer."""
        return "batch_size" in self.recipe.learner.policy_keys

    @property
    def _updates(self) -> int:
        policy = self.recipe.policy
        return max(policy.stops, default=self.recipe.learner.updates(policy))

    @property
    def _pixels(self) -> int:
        """Bytes of a frame with all its cameras."""
        views, height, width, channels = self.models.picture()
        return views * height * width * channels

    @property
    def _frames(self) -> int:
        """Of the corpora, as far as they are known."""
        return sum(frames or 0 for frames in self._corpora.values())

    @cached_property
    def _corpora(self) -> dict[str, int | None]:
        from vlaw_assets.assets.recordings import frames_of_corpora

        return frames_of_corpora(self.recipe, self.foundation, self.lake) if self.foundation else {}

    @cached_property
    def _needs_encoding(self) -> Generation:
        from vlaw_models.planning.needs import of_encoding

        return of_encoding(self.models)

    @cached_property
    def _needs_decoding(self) -> Generation:
        from vlaw_models.planning.needs import of_decoding

        return of_decoding(self.models)

    @cached_property
    def _needs_imagining(self) -> Generation:
        from vlaw_models.planning.needs import of_imagining

        return of_imagining(self.models)

    @cached_property
    def _needs_acting(self) -> Generation:
        from vlaw_models.planning.needs import of_acting

        return of_acting(self.models)

    @cached_property
    def _needs_judging(self) -> Generation:
        from vlaw_models.planning.needs import of_judging

        return of_judging(self.models)

    @cached_property
    def _needs_embedding(self) -> tuple[Generation, int]:
        from vlaw_models.planning.needs import of_embedding

        return of_embedding(self.models)

    @cached_property
    def _needs_world_model(self) -> Training:
        from vlaw_models.planning.needs import of_world_model

        table = self.recipe.world_model
        heads = bool(table.reward_weight or table.state_weight)
        return of_world_model(self.models, heads=heads, frozen_trunk=table.frozen_trunk)

    @cached_property
    def _needs_judge(self) -> Training:
        from vlaw_models.planning.needs import of_judge

        return of_judge(self.models, rank=self.recipe.reward_model.lora_rank)

    @cached_property
    def _needs_policy(self) -> Training:
        from vlaw_assets.recipes.fit import check_learner
        from vlaw_models.planning.needs import of_policy

        table = self.recipe.policy
        check_learner(self.recipe, type(self.models.policy).__name__)
        return of_policy(self.models, frozen_encoder=table.frozen_encoder, rank=table.lora_rank)
