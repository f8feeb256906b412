"""What recipes, the foundation's file and studies may say: pydantic's models of their keys.

The tables of the stages are the dataclasses of `vlaw_models/config.py`, those of learners the learners themselves
(`vlaw_models/learners`); the limits of their values stand at their fields. The other keys, and what does not go
together, are said here. checking.py checks a document by these models and says what is wrong with it.
"""

from __future__ import annotations

import dataclasses
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Lt, Predicate, doc
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vlaw_assets.partitions import MAX_ITERATIONS
from vlaw_models import config as stages
from vlaw_models import presets
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import Learner
from vlaw_models.ranges import Count, Positive, is_recording
from vlaw_models.robots.registry import DEFAULT as DEFAULT_ROBOT
from vlaw_models.robots.registry import find_robot
from vlaw_models.rollouts.seeds import HELD_OUT_SEEDS


def wrong(what: str, remedy: str, key: str = "") -> PydanticCustomError:
    """The error of a validator; `key` where it is not that of the validated field."""
    return PydanticCustomError("wrong", "{what}", {"what": what, "remedy": remedy, "key": key})


def known_robot(name: str) -> str:
    """The name, if a robot has it; else the error of a validator."""
    try:
        find_robot(name)
    except VlawError as error:
        raise wrong(f"is {name!r}: {error.what}", error.remedy) from error
    return name


Iterations = Annotated[int, Ge(1), Lt(MAX_ITERATIONS + 1), doc(f"Use 1 to {MAX_ITERATIONS}.")]
Seed = Annotated[int, Ge(0), Lt(HELD_OUT_SEEDS), doc(f"Use 0 to {HELD_OUT_SEEDS - 1}.")]
Corpus = Annotated[
    str,
    Predicate(lambda source: source == "scripted" or is_recording(source)),
    doc("Use 'scripted', or 'recorded:NAME' of an imported dataset."),
]
Preset = Literal[presets.PRESETS]  # type: ignore[valid-type]  # said there alone
Weights = Literal[presets.MODELS]  # type: ignore[valid-type]
Robot = Annotated[str, Field(validate_default=True), AfterValidator(known_robot)]


class Keys(BaseModel):
    """Keys of a file: no others, nothing converted except a whole number to a float, no nan and no infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@cache
def learner_tables(classes: tuple[tuple[str, type[Learner]], ...]) -> type[Keys]:
    """The tables of these learners, each by its name. Raises VlawError for a class that is no table."""
    fields: dict[str, Any] = {name: (kind, Field(default_factory=kind)) for name, kind in classes}
    try:
        return create_model("LearnerTables", __base__=Keys, **fields)
    except Exception as error:  # whatever its annotations do
        names = ", ".join(f"{kind.__module__}.{kind.__qualname__}" for _, kind in classes)
        raise VlawError(
            f"the fields of a learner are no keys of a recipe: {error}",
            where=names,
            remedy="Give a frozen dataclass fields of plain types, imported when the module is.",
        ) from error


class Tables(Keys):
    """The tables that a recipe has for the stages."""

    rollouts: stages.RolloutConfig = stages.RolloutConfig()
    world_model: stages.WorldModelConfig = stages.WorldModelConfig()
    reward_model: stages.RewardModelConfig = stages.RewardModelConfig()
    imagine: stages.ImagineConfig = stages.ImagineConfig()
    score: stages.ScoreConfig = stages.ScoreConfig()
    policy: stages.PolicyConfig = stages.PolicyConfig()
    evaluation: stages.EvaluationConfig = stages.EvaluationConfig()
    world_model_metrics: stages.WorldModelMetricsConfig = stages.WorldModelMetricsConfig()
    promotion: stages.PromotionConfig = stages.PromotionConfig()

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        policy, world_model = self.policy, self.world_model
        if policy.stops and not policy.validation_per_task:
            raise wrong(
                "gives stopping points, and policy.validation_per_task = 0 leaves nothing to choose between them by",
                "Set policy.validation_per_task to 1 or more, or policy.stops = [].",
                "policy.stops",
            )
        if not world_model.use_rollouts and not world_model.expert_per_task:
            raise wrong(
                "is 0 where use_rollouts is false: there is nothing to learn from",
                "Give the number of demonstrations per task, 1 or more.",
                "world_model.expert_per_task",
            )
        if world_model.near_success and not world_model.co_training_weight:
            raise wrong(
                "is true and world_model.co_training_weight = 0: nothing is learned from the half that they join",
                "Set world_model.co_training_weight above 0, or near_success = false.",
                "world_model.near_success",
            )
        return self


class Recipe(Tables):
    """One experiment: where it starts, how long it goes on, and the configuration of every stage."""

    name: str
    robot: Robot = DEFAULT_ROBOT
    preset: Preset = "tiny"
    seed: Seed = 0
    iterations: Iterations = 2
    tasks: tuple[str, ...] = Field(default_factory=lambda found: find_robot(found["robot"]).tasks)
    """Of the robot; empty, for a robot that is given any instruction: all that it has episodes of."""
    description: str = ""
    _learner: Learner = PrivateAttr()
    _file: Path = PrivateAttr()

    @property
    def file(self) -> Path:
        """Where it was read: what errors name."""
        return self._file

    @property
    def learner(self) -> Learner:
        """Of name policy.learner, with the values of the table of that name."""
        return self._learner

    @property
    def privileged(self) -> bool:
        """Whether it uses what no robot in the world has: the true outcome of imagined actions. A ceiling, not a
        method."""
        return "simulator" in (self.imagine.world, self.score.labels)

    @property
    def needs_world_model(self) -> bool:
        """Whether anything is imagined in a world model."""
        imagines = self.imagine.count > 0 and self.imagine.world == "world_model"
        return imagines or self.learner.practises == "world_model"

    @property
    def measures_policies(self) -> bool:
        """Whether policies are measured on validation starts while they are made."""
        return bool(self.policy.validation_per_task and (self.policy.stops or self.promotion.enabled))

    def tables(self, *names: str) -> dict[str, Any]:
        """The named stage tables as plain values: what an artifact's identity covers of this recipe."""
        return {name: dict(self._plain[name]) for name in names}

    def learner_tables(self) -> dict[str, Any]:
        """What the policy's learner reads of this recipe when it learns."""
        shared, own = self.learner.fit_tables(self.policy)
        return {"policy": {"learner": self.policy.learner, **shared}, **({self.policy.learner: own} if own else {})}

    def plain(self) -> dict[str, Any]:
        """All of it as plain values, its learner's under 'learner'."""
        return {**self.model_dump(), "learner": dataclasses.asdict(self.learner)}

    @cached_property
    def _plain(self) -> dict[str, dict[str, Any]]:
        # Their values are plain; dataclasses.asdict would copy each of them, for every recipe of a lake.
        return {name: stages.identifying(getattr(self, name)) for name in Tables.model_fields}

    def model_post_init(self, context: tuple[Learner, Path], /) -> None:
        """Takes the learner, which is validated by its own class, and the file from pydantic's context."""
        self._learner, self._file = context

    @field_validator("tasks")
    @classmethod
    def _are_the_robots(cls, tasks: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "robot" not in info.data:
            return tasks
        robot = find_robot(info.data["robot"])
        listed = f"of {', '.join(robot.tasks)}" if robot.tasks else "as its instruction; none: all"
        unknown = [task for task in tasks if robot.tasks and task not in robot.tasks]
        if unknown:
            named = ", ".join(map(repr, unknown))
            raise wrong(f"names {named}, which robot {robot.name!r} does not have", f"Name tasks {listed}.")
        if (robot.tasks and not tasks) or len(set(tasks)) != len(tasks):
            raise wrong("is empty or names a task twice", f"Name each task once, {listed}.")
        return tasks


class Foundation(Keys):
    """What every experiment starts from: sizes of the scripted corpora, and weights other than the shipped ones."""

    robot: Robot = DEFAULT_ROBOT
    preset: Preset = "tiny"
    seed: Count = 0
    demonstrations_per_task: Positive = 50
    co_training_per_task: Positive = 20
    demonstrations: Corpus = "scripted"
    """'scripted': by the experts of the robot's simulator; 'recorded:NAME': an imported dataset."""
    co_training: Corpus = "scripted"
    near_success_per_task: Count = 0
    """Pairs of success and near-success; World-VLA-Loop: about 50. Of recordings, episodes."""
    near_success: Corpus = "scripted"
    weights: dict[Weights, str] = {}
    _file: Path = PrivateAttr()

    @property
    def file(self) -> Path:
        """Where it was read: what errors name."""
        return self._file

    def model_post_init(self, file: Path, /) -> None:
        self._file = file
