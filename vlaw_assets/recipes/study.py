"""Studies: a set of recipes, each with several seeds, run at the same settings on the same ledger.

A study's experiment is named `{study}-{recipe}-s{seed}` ("claims-vlaw-s1"): that recipe with that seed, the arm's
number of iterations and the study's own `[set.<table>]` values. Running one is `vlaw_assets/studies`.

Seeds of an arm are to be independent runs: intervals over seeds and numbers of trials count on it. What would let two
of them draw the same is refused here, before anything runs.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from vlaw_assets.once import once
from vlaw_assets.partitions import is_name
from vlaw_assets.recipes.checking import checked, problem
from vlaw_assets.recipes.loading import (
    EXTENDS,
    NOT_INHERITED,
    check_name,
    document_of,
    load_foundation,
    merged,
    read_toml,
    recipe_files,
    recipe_of,
    toml_files,
    well_named,
)
from vlaw_assets.recipes.schema import Iterations, Keys, Recipe, Seed, Tables, wrong
from vlaw_models.errors import VlawError
from vlaw_models.ranges import is_recording

PACKAGED = Path(__file__).parent / "studies"
FOLDER = "studies"
"""Of the user's own studies, inside the folder of their recipes."""
THREADS = 1
"""CPU threads of every partition of a study, whatever runs beside it: numbers depend on how sums are split."""

SOURCED = ("rollouts", "evaluation", "world_model_metrics")
"""Tables that say where episodes come from: a recording holds the same ones for every seed."""


class Arm(Keys):
    """One recipe of a study."""

    recipe: str
    seeds: tuple[Seed, ...]
    iterations: Iterations
    until: str = ""
    """Recipe of another arm: stop as soon as pooled success reaches what that arm has, at the same seed, after its last
    iteration. Empty: run all iterations."""

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds):
            raise wrong("is empty or names a seed twice", "Name each seed once.")
        return seeds


class Study(Keys):
    """A study file's content. Arms run in their order; the first one of a seed goes ahead of the others of that
    seed."""

    name: str
    description: str = ""
    tasks: tuple[str, ...] | None = None
    settings: dict[Literal[tuple(Tables.model_fields)], dict[str, Any]] = Field({}, alias="set")  # type: ignore[valid-type]
    """What holds for every arm, by table of the recipe."""
    arms: tuple[Arm, ...] = ()

    @property
    def members(self) -> list[Member]:
        """Its experiments, seed by seed, each seed's arms in the order of the file."""
        seeds = sorted({seed for arm in self.arms for seed in arm.seeds})
        return [Member(self, arm, seed) for seed in seeds for arm in self.arms if seed in arm.seeds]


@dataclass(frozen=True)
class Member:
    """One experiment of a study: an arm with a seed."""

    study: Study
    arm: Arm
    seed: int

    @property
    def experiment(self) -> str:
        return f"{self.study.name}-{self.arm.recipe}-s{self.seed}"

    @property
    def target(self) -> Member | None:
        """The experiment that it runs until it matches."""
        arm = next((arm for arm in self.study.arms if arm.recipe == self.arm.until), None)
        return Member(self.study, arm, self.seed) if arm else None


@once
def study_files(folder: Path | None = None) -> dict[str, Path]:
    """Study name -> file: the packaged ones and those in `folder`/studies, by file name; a user's file wins."""
    own = folder / FOLDER if folder else None
    found = toml_files(PACKAGED) | (toml_files(own) if own and own.is_dir() else {})
    for name, path in found.items():
        check_name(name, path, "a study")
    return found


def find_study(name: str, folder: Path | None = None) -> Study:
    """The study of that name. Raises VlawError for an unknown one or a faulty file."""
    files = study_files(folder)
    if name not in files:
        raise VlawError(
            f"there is no study {name!r}",
            where=str(folder / FOLDER if folder else PACKAGED),
            remedy=f"Use one of {', '.join(sorted(files))}, or add {FOLDER}/{name}.toml to the folder that "
            "VLAW_RECIPES names.",
        )
    return load_study(files[name], folder)


def experiment_names(folder: Path | None = None) -> list[str]:
    """Every experiment there is: the recipes, and the experiments of the studies."""
    recipes = recipe_files(folder)
    names = dict.fromkeys(recipes)
    for path in study_files(folder).values():
        for member in load_study(path, folder).members:
            if member.experiment in names:
                raise VlawError(
                    f"two experiments have the name {member.experiment!r}",
                    where=str(path),
                    remedy="Rename the recipe or the study.",
                )
            names[member.experiment] = None
    return list(names)


@once
def find_member(name: str, folder: Path | None = None) -> Member | None:
    """The study's experiment of that name; None if no study has it."""
    for study, path in study_files(folder).items():
        if name.startswith(f"{study}-"):
            found = next((member for member in load_study(path, folder).members if member.experiment == name), None)
            if found is not None:
                return found
    return None


@once
def load_study(path: Path, folder: Path | None = None) -> Study:
    """Reads and checks one study file: its own keys, and that its recipes exist. Raises VlawError."""
    study = checked(Study, read_toml(path), path=path)
    if study.name != path.stem:
        raise problem(path, "name", f"is {study.name!r} but the file is {path.name}", "Name the file after the study.")
    _check_arms(study, path, well_named(folder))
    return study


def resolved(member: Member, folder: Path | None = None) -> Recipe:
    """The recipe of a study's experiment, checked in full. Raises VlawError."""
    study, arm = member.study, member.arm
    path, file = study_files(folder)[study.name], well_named(folder)[arm.recipe]
    _check_settings(study, path, file)
    document = merged(document_of(file), {key: dict(values) for key, values in study.settings.items()})
    document |= {"name": member.experiment, "seed": member.seed, "iterations": arm.iterations}
    recipe = recipe_of(document | ({"tasks": list(study.tasks)} if study.tasks is not None else {}), path)
    _check_streams(member, recipe, path, file)
    return recipe


def definition(study: Study, folder: Path | None = None) -> dict[str, Any]:
    """What the study is, as plain values: every recipe resolved, and the foundation. What a later run is held to."""
    experiments = {}
    for member in study.members:
        recipe = resolved(member, folder)
        experiments[member.experiment] = {
            "arm": member.arm.recipe,
            "seed": member.seed,
            "iterations": member.arm.iterations,
            "until": member.arm.until,
            "privileged": recipe.privileged,
            "description": recipe.description,
            "recipe": {key: value for key, value in recipe.plain().items() if key != "description"},
        }
    arms = [
        {
            **arm.model_dump(),
            "privileged": next(found["privileged"] for found in experiments.values() if found["arm"] == arm.recipe),
        }
        for arm in study.arms
    ]
    whole = {
        "name": study.name,
        "description": study.description,
        "threads": THREADS,
        "set": study.settings,
        "arms": arms,
        "experiments": experiments,
        "foundation": load_foundation(folder).model_dump(),
    }
    return json.loads(json.dumps(whole))  # tuples become lists, as they come back from a file


def _check_arms(study: Study, path: Path, recipes: dict[str, Path]) -> None:
    by_recipe = {arm.recipe: arm for arm in study.arms}
    if not study.arms or len(by_recipe) != len(study.arms):
        raise problem(path, "arms", "is empty or names a recipe twice", "Give one [[arms]] table per recipe.")
    for arm in study.arms:
        if arm.recipe not in recipes:
            raise problem(
                path,
                "arms.recipe",
                f"is {arm.recipe!r}, which is no recipe",
                f"Use one of {', '.join(sorted(recipes))}.",
            )
        if arm.until:
            target = by_recipe.get(arm.until)
            if target is None or target.until or not set(arm.seeds) <= set(target.seeds):
                raise problem(
                    path,
                    f"arms.until of {arm.recipe}",
                    f"is {arm.until!r}",
                    "Name another arm that has these seeds too, and no 'until' of its own.",
                )
    for member in study.members:
        if not is_name(member.experiment):
            raise problem(
                path,
                "arms.recipe",
                f"makes the experiment name {member.experiment!r} of {len(member.experiment)} characters",
                "Shorten the name of the study or of the recipe: an experiment's name has at most 63 characters, "
                "letters, digits, '_' and '-' only.",
            )


def _check_streams(member: Member, recipe: Recipe, path: Path, file: Path) -> None:
    """Seeds of an arm must not share what is random: recorded episodes, or a learner's own seed."""
    arm, settings = member.arm, member.study.settings
    if len(arm.seeds) < 2:
        return
    shared = f"all {len(arm.seeds)} seeds of {arm.recipe} would"
    for table in SOURCED:
        source = getattr(recipe, table).source
        if is_recording(source):
            said = "source" in settings.get(table, {})
            raise problem(
                path if said else file,
                f"{'set.' if said else ''}{table}.source",
                f"is {source!r}: {shared} take the same episodes",
                f"Use 'robot', or give {arm.recipe} one seed in {path.name}.",
            )
    for field in dataclasses.fields(recipe.learner):
        if field.name == "seed" or field.name.endswith("_seed"):
            raise problem(
                file,
                f"{recipe.policy.learner}.{field.name}",
                f"is {getattr(recipe.learner, field.name)!r}: {shared} draw the same numbers",
                f"Let the learner use the seed that it is given to fit, or give {arm.recipe} one seed in {path.name}.",
            )


def _check_settings(study: Study, path: Path, file: Path) -> None:
    """A study must not level what an arm is there for: a value that a recipe gives against the one it extends."""
    own = read_toml(file)
    if EXTENDS not in own:
        return
    for table, values in own.items():
        if table in NOT_INHERITED or not isinstance(values, dict):
            continue
        for key in values.keys() & study.settings.get(table, {}).keys():
            if values[key] != study.settings[table][key]:
                raise problem(
                    path,
                    f"set.{table}.{key}",
                    f"is {study.settings[table][key]!r}, but {file.stem} differs "
                    f"from {own[EXTENDS]} in just this: {values[key]!r}",
                    "Leave it out of the study's [set] tables.",
                )
