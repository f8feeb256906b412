"""What an experiment would take on given GPUs, stage by stage, before anything is made: `vlaw plan`.

Needs of models are found out with fake weights at the sizes of the recipe's preset (vlaw_models/planning); counts of
episodes, updates and steps are the recipe's. Not here: the simulator and people at a robot, who have their own pace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vlaw_models.robots.registry import find_robot

if TYPE_CHECKING:
    from vlaw_assets.recipes.schema import Recipe
    from vlaw_models.planning.choose import Hardware, Misfit
    from vlaw_models.planning.needs import Generation, Models, Training

GIB = 2**30


@dataclass(frozen=True)
class StagePlan:
    """What one stage of an iteration takes."""

    stage: str
    model: str
    parameters: int
    state: int
    """Bytes of weights, and in training of gradients, optimizer and averages, all GPUs together if sharded."""
    activations: int
    """Bytes of one sample at the peak, on a GPU."""
    batch: str
    """What is computed at once."""
    memory: int
    """Bytes of each GPU, at the peak."""
    disk: int
    """Bytes that it leaves in the lake, at most."""
    hours: float
    keys: dict[str, Any] = field(default_factory=dict)
    """Keys of the recipe that say so."""
    sharded: bool = False
    fits: bool = True
    remedy: str = ""
    """What would make it fit."""


class Planner:
    """Plans the stages of an iteration of one recipe."""

    def __init__(self, recipe: Recipe, hardware: Hardware):
        from vlaw_models.planning.needs import Models

        self.recipe, self.hardware = recipe, hardware
        self.models: Models = Models(recipe.preset, find_robot(recipe.robot))
        self.tasks = max(1, len(recipe.tasks))

    def stages(self, looking_at: Callable[[str], None] = lambda _stage: None) -> Iterator[StagePlan]:
        """In the order in which they run; those with nothing to do are left out."""
        recipe = self.recipe
        asked: dict[str, tuple[bool, Callable[[], StagePlan]]] = {
            "latents": (not self.models.autoencoder.when_drawn and recipe.needs_world_model, self._latents),
            "world_model": (recipe.needs_world_model and recipe.world_model.steps > 0, self._world_model),
            "reward_model": (recipe.imagine.count > 0 and recipe.reward_model.steps > 0, self._reward_model),
            "imagined_rollouts": (recipe.needs_world_model and recipe.imagine.count > 0, self._imagined),
            "reward_scores": (recipe.imagine.count > 0 and recipe.score.labels == "judge", self._scores),
            "policy": (bool(recipe.policy.stops or recipe.policy.steps), self._policy),
        }
        for stage, (runs, plan) in asked.items():
            if runs:
                looking_at(stage)
                yield plan()

    def _world_model(self) -> StagePlan:
        from vlaw_models.planning.needs import of_world_model

        table = self.recipe.world_model
        heads = bool(table.reward_weight or table.state_weight)
        return self._training(
            "world_model", of_world_model(self.models, heads=heads), table.steps, table.batch_size, "windows"
        )

    def _reward_model(self) -> StagePlan:
        from vlaw_models.planning.needs import of_judge

        table = self.recipe.reward_model
        needs = of_judge(self.models, rank=table.lora_rank)
        return self._training("reward_model", needs, table.steps, table.batch_size, "clips", averaged=False)

    def _policy(self) -> StagePlan:
        from vlaw_models.planning.needs import of_policy

        table = self.recipe.policy
        needs = of_policy(self.models, frozen_encoder=table.frozen_encoder)
        return self._training(
            "policy", needs, max(table.stops, default=table.steps), table.batch_size, "steps", averaged=table.ema > 0
        )

    def _training(
        self, stage: str, needs: Training, steps: int, batch_size: int, samples: str, *, averaged: bool = True
    ) -> StagePlan:
        from vlaw_models.planning.choose import Misfit, choose

        found = choose(needs, batch_size, self.hardware, averaged=averaged)
        state = needs.weights + (4 if averaged else 3) * needs.trained
        # The checkpoint, and the whole state that an interrupted training goes on from.
        disk = needs.weights + needs.weights + (3 if averaged else 2) * needs.trained
        own = (stage, needs.model, needs.parameters, state)
        if isinstance(found, Misfit):
            run = needs.recomputed or needs.kept
            remedy = self._remedy(found)
            return StagePlan(*own, run.peak - run.copies, "-", found.memory, disk, 0.0, fits=False, remedy=remedy)
        settings = found.settings
        run = needs.recomputed if settings.recompute and needs.recomputed else needs.kept
        parts = -(-batch_size // (settings.micro_batch * self.hardware.gpus))
        return StagePlan(
            *own,
            run.peak - run.copies,
            f"{settings.micro_batch} {samples} a GPU"
            + (f", {parts} parts" if parts > 1 else "")
            + (", recomputed" if settings.recompute else "")
            + (", sharded" if settings.sharded else ""),
            found.memory,
            disk,
            self._hours(steps * batch_size * found.flop),
            keys={f"{stage}.micro_batch": settings.micro_batch, f"{stage}.recompute": settings.recompute},
            sharded=settings.sharded,
        )

    def _latents(self) -> StagePlan:
        from vlaw_models.planning.needs import of_encoding

        needs = of_encoding(self.models)
        count = self.recipe.rollouts.episodes_per_task * self.tasks * (self.recipe.rollouts.num_steps + 1)
        views, height, width, _ = self.picture
        autoencoder = self.models.autoencoder
        numbers = autoencoder.latent_channels * (height // autoencoder.factor) * (width // autoencoder.factor)
        at_once = autoencoder.batch_size
        return self._generating(
            "latents",
            [needs],
            f"{at_once} pictures",
            1,
            count * views * needs.run.flop / at_once,
            count * views * numbers * 2,
        )

    def _imagined(self) -> StagePlan:
        from vlaw_models.planning.needs import of_acting, of_decoding, of_imagining

        table, policy = self.recipe.imagine, self.models.policy
        acting, passing, decoding = of_acting(self.models), of_imagining(self.models), of_decoding(self.models)
        model = self.models.world_model
        episodes, views = table.count * self.tasks, self.picture[0]
        looks = -(-table.num_steps // policy.execute_steps)
        chunks = looks * -(-policy.execute_steps // model.chunk)
        passes = 1 if model.deterministic else table.sampling_steps * (2 if table.guidance > 1 else 1)
        decoded = table.num_steps * views * decoding.run.flop / self.models.autoencoder.batch_size
        flop = looks * acting.run.flop + chunks * passes * passing.run.flop + decoded
        disk = episodes * (table.num_steps + 1) * self.pixels
        return self._generating(
            "imagined_rollouts",
            [passing, acting, decoding],
            f"{table.batch_size} trajectories",
            table.batch_size,
            episodes * flop,
            disk,
            key="imagine.batch_size",
        )

    def _scores(self) -> StagePlan:
        from vlaw_models.planning.needs import of_judging
        from vlaw_models.reward_models.score import BATCH

        needs = of_judging(self.models)
        flop = self.recipe.imagine.count * self.tasks * needs.run.flop
        return self._generating("reward_scores", [needs], f"{BATCH} clips", BATCH, flop, 0)

    def _generating(
        self, stage: str, models: list[Generation], batch: str, samples: int, flop: float, disk: int, *, key: str = ""
    ) -> StagePlan:
        """Work that GPUs share, each with whole models; `samples` at once, by the recipe's `key` where it has one."""
        from vlaw_models.planning.choose import generating, most_at_once

        memory = generating(models, samples)
        fits, most = memory <= self.hardware.usable, most_at_once(models, self.hardware)
        remedy = f"Use GPUs of {self._gib(memory)} GiB each"
        return StagePlan(
            stage,
            models[0].model,
            sum(one.parameters for one in models),
            sum(one.weights for one in models),
            max(one.run.peak - one.run.copies for one in models if one.grows or len(models) == 1),
            batch,
            memory,
            disk,
            self._hours(flop),
            fits=fits,
            remedy="" if fits else f"{remedy}, or set {key} = {most}." if key and most else f"{remedy}.",
        )

    def _hours(self, flop: float) -> float:
        return flop / (self.hardware.gpus * self.hardware.rate) / 3600

    def _remedy(self, misfit: Misfit) -> str:
        more = f", or {misfit.gpus} GPUs like these" if misfit.gpus else ""
        return f"Use GPUs of {-(-misfit.memory // GIB)} GiB each{more}."

    def _gib(self, memory: int) -> int:
        """GiB that a GPU must have for so many bytes to be usable."""
        return -(-int(memory * self.hardware.memory / self.hardware.usable) // GIB)

    @cached_property
    def picture(self) -> tuple[int, int, int, int]:
        return self.models.picture()

    @property
    def pixels(self) -> int:
        """Bytes of a frame with all its cameras."""
        views, height, width, channels = self.picture
        return views * height * width * channels
