"""Recipes: an experiment is one small TOML file, checked in full before anything runs.

Here: reading, checking and listing recipes, and the foundation's own settings. Not here: which values are allowed
(ranges.py), what they mean (the dataclasses in `vlaw_models/config.py`) and which of them enter an artifact's
identity (the assets).

A recipe has one table per dataclass of `vlaw_models/config.py`, and one for the learner that [policy] names, if it has
settings of its own (`vlaw_models/learners`); what it leaves out keeps the dataclass's default, or,
where it says `extends = "vlaw"`, what that recipe has (all but its name and description). A problem of a file is
reported as a `VlawError` that names file, key and remedy. Not here either: studies (studies/), whose experiments are
recipes with a seed.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_type_hints

from vlaw_assets.once import asking, once
from vlaw_assets.partitions import MAX_ITERATIONS
from vlaw_assets.recipes.ranges import contradiction, is_recording, remedy_for
from vlaw_models import config as stages
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import LEARNERS, Learner
from vlaw_models.robots.registry import DEFAULT as DEFAULT_ROBOT
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.spec import RobotSpec

PACKAGED = Path(__file__).parent
FOUNDATION_FILE = "foundation.toml"
PRESETS = ("tiny", "small", "paper", "toy")
EXTENDS = "extends"
NOT_INHERITED = ("name", "description", EXTENDS)
HELD_OUT_SEEDS = 500_000
"""Recipe seeds stay below; from here on they are kept for validation rollouts, which nothing is trained on."""
KEY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")
"""What may name an experiment: it becomes part of partition keys and of folder names."""
FOUNDATION_WEIGHTS = ("base_policy", "world_model", "reward_model", "autoencoder")

STAGES: dict[str, type] = {
    "rollouts": stages.RolloutConfig,
    "world_model": stages.WorldModelConfig,
    "reward_model": stages.RewardModelConfig,
    "imagine": stages.ImagineConfig,
    "score": stages.ScoreConfig,
    "policy": stages.PolicyConfig,
    "evaluation": stages.EvaluationConfig,
    "world_model_metrics": stages.WorldModelMetricsConfig,
    "promotion": stages.PromotionConfig,
}


@dataclass(frozen=True)
class Recipe:
    """One experiment: where it starts, how long it goes on, and the configuration of every stage."""

    name: str
    robot: str
    preset: str
    seed: int
    iterations: int
    tasks: tuple[str, ...]
    """Of the robot; empty, for a robot that is given any instruction: all that it has episodes of."""
    description: str
    rollouts: stages.RolloutConfig
    world_model: stages.WorldModelConfig
    reward_model: stages.RewardModelConfig
    imagine: stages.ImagineConfig
    score: stages.ScoreConfig
    policy: stages.PolicyConfig
    evaluation: stages.EvaluationConfig
    world_model_metrics: stages.WorldModelMetricsConfig
    promotion: stages.PromotionConfig
    learner: Learner
    """Of name policy.learner, with the values of the table of that name."""

    @property
    def privileged(self) -> bool:
        """Whether it uses what no robot in the world has: the true outcome of imagined actions. A ceiling, not a
        method."""
        return "simulator" in (self.imagine.world, self.score.labels)

    def tables(self, *names: str) -> dict[str, Any]:
        """The named stage tables as plain values: what an artifact's identity covers of this recipe."""
        return {name: dict(self._plain[name]) for name in names}

    def learner_tables(self) -> dict[str, Any]:
        """What the policy's learner reads of this recipe when it learns."""
        shared, own = self.learner.fit_tables(self.policy)
        return {"policy": {"learner": self.policy.learner, **shared}, **({self.policy.learner: own} if own else {})}

    @cached_property
    def _plain(self) -> dict[str, dict[str, Any]]:
        # Their values are plain; dataclasses.asdict would copy each of them, for every recipe of a lake.
        return {
            name: {key.name: getattr(table, key.name) for key in dataclasses.fields(table)}
            for name in STAGES
            for table in [getattr(self, name)]
        }


@dataclass(frozen=True)
class Foundation:
    """What every experiment starts from: sizes of the scripted corpora, and weights other than the shipped ones."""

    robot: str = DEFAULT_ROBOT
    preset: str = "tiny"
    seed: int = 0
    demonstrations_per_task: int = 50
    co_training_per_task: int = 20
    demonstrations: str = "scripted"
    """'scripted': by the experts of the robot's simulator; 'recorded:NAME': an imported dataset."""
    co_training: str = "scripted"
    weights: dict[str, str] = field(default_factory=dict)


@once
def recipe_files(folder: Path | None = None) -> dict[str, Path]:
    """Experiment name -> file: the packaged recipes and those in `folder`, by file name; a user's file wins."""
    if folder is not None and not folder.is_dir():
        raise VlawError(
            "the folder of recipes does not exist",
            where=str(folder),
            remedy="Create it, or unset VLAW_RECIPES to use the packaged recipes only.",
        )
    files = [*sorted(PACKAGED.glob("*.toml")), *(sorted(folder.glob("*.toml")) if folder else [])]
    found = {path.stem: path for path in files if path.name != FOUNDATION_FILE}
    for name, path in found.items():
        if not KEY.fullmatch(name):
            raise VlawError(
                f"{name!r} cannot name an experiment",
                where=str(path),
                remedy="Use letters, digits, '_' and '-' only, starting with a letter or digit.",
            )
    return found


@once
def find_recipe(name: str, folder: Path | None = None) -> Recipe:
    """The recipe of an experiment: a recipe's name, or an experiment of a study such as "claims-vlaw-s1".

    Raises VlawError for an unknown experiment or a faulty file.
    """
    files = recipe_files(folder)
    if name in files:
        return load_recipe(files[name])
    from vlaw_assets.studies.definition import find_member, resolved  # studies are made of recipes

    member = find_member(name, folder)
    if member is not None:
        return resolved(member, folder)
    raise VlawError(
        f"there is no experiment {name!r}",
        where=str(folder or PACKAGED),
        remedy=f"Use one of {', '.join(sorted(files))}, an experiment of a study (vlaw study NAME --plan), or add "
        f"{name}.toml to a folder of your own and set VLAW_RECIPES to it.",
    )


@once
def load_recipe(path: Path) -> Recipe:
    """Reads and checks one recipe file; `name` must equal the file's name."""
    return checked(path, document_of(path))


@once
def document_of(path: Path) -> dict[str, Any]:
    """The plain values of a recipe file with those it inherits, not checked yet, except what they are inherited from.

    A name in `extends` is looked for beside the file, then among the packaged recipes. Raises VlawError.
    """
    document = dict(read_toml(path))
    if "name" not in document:
        raise problem(path, "name", "is missing", f'Add name = "{path.stem}".')
    if document["name"] != path.stem:
        raise problem(
            path, "name", f"is {document['name']!r} but the file is {path.name}", "Name the file after the experiment."
        )
    parent = _parent(path)
    if parent is None:
        return document
    document.pop(EXTENDS)
    _check_circle(path)
    with asking():
        load_recipe(parent)  # so that a fault is reported where it is
        inherited = document_of(parent)
    return merged({key: value for key, value in inherited.items() if key not in NOT_INHERITED}, document)


def _parent(path: Path) -> Path | None:
    """The file that a recipe extends."""
    document = read_toml(path)
    if EXTENDS not in document:
        return None
    name = typed(path, EXTENDS, document[EXTENDS], str)
    files = recipe_files(path.parent if path.parent != PACKAGED else None)
    if name not in files:
        raise problem(path, EXTENDS, f"names {name!r}, which is no recipe", f"Use one of {', '.join(sorted(files))}.")
    return files[name]


def _check_circle(path: Path) -> None:
    chain = [path]
    while (parent := _parent(chain[-1])) is not None:
        if parent in chain:
            names = " -> ".join(item.stem for item in (*chain, parent))
            raise problem(chain[-1], EXTENDS, f"goes round in a circle: {names}", "Let one of them stand on its own.")
        chain.append(parent)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, table by table; both stay as they are."""
    both = {**base, **over}
    tables = {
        key: {**base[key], **over[key]}
        for key in base.keys() & over.keys()
        if isinstance(base[key], dict) and isinstance(over[key], dict)
    }
    return both | tables


def checked(path: Path, document: dict[str, Any]) -> Recipe:
    """The recipe of plain values; `path` is the file that errors name. Raises VlawError."""
    document = dict(document)
    stage_tables: dict[str, Any] = {
        name: _stage(path, name, cls, document.pop(name, {})) for name, cls in STAGES.items()
    }
    learner = _learner(path, stage_tables["policy"].learner, document)
    wrong = contradiction(stage_tables)
    if wrong:
        raise problem(path, *wrong)
    robot = _robot(path, document.get("robot", DEFAULT_ROBOT))
    top = {"name": str, "robot": str, "preset": str, "seed": int, "iterations": int, "tasks": list, "description": str}
    defaults = {
        "robot": robot.name,
        "preset": "tiny",
        "seed": 0,
        "iterations": 2,
        "tasks": list(robot.tasks),
        "description": "",
    }
    known_keys(path, "", document, [*top, EXTENDS, *STAGES])
    values = {key: typed(path, key, document.get(key, defaults.get(key)), kind) for key, kind in top.items()}
    if values["preset"] not in PRESETS:
        raise problem(path, "preset", f"is {values['preset']!r}", f"Use one of {', '.join(PRESETS)}.")
    if not 1 <= values["iterations"] <= MAX_ITERATIONS:
        raise problem(path, "iterations", f"is {values['iterations']}", f"Use 1 to {MAX_ITERATIONS}.")
    if not 0 <= values["seed"] < HELD_OUT_SEEDS:
        raise problem(path, "seed", f"is {values['seed']}", f"Use 0 to {HELD_OUT_SEEDS - 1}.")
    return Recipe(**{**values, "tasks": _tasks(path, values["tasks"], robot)}, **stage_tables, learner=learner)


@once
def load_foundation(folder: Path | None = None) -> Foundation:
    """The foundation's settings: foundation.toml in `folder` where there is one, else the packaged file."""
    own = folder / FOUNDATION_FILE if folder else None
    path = own if own and own.is_file() else PACKAGED / FOUNDATION_FILE
    document = read_toml(path)
    known_keys(path, "", document, [f.name for f in dataclasses.fields(Foundation)])
    weights = typed(path, "weights", document.get("weights", {}), dict)
    known_keys(path, "weights", weights, FOUNDATION_WEIGHTS)
    for kind, value in weights.items():
        typed(path, f"weights.{kind}", value, str)
    foundation = Foundation(**document)
    _robot(path, foundation.robot)
    for key in ("demonstrations", "co_training"):
        value = typed(path, key, getattr(foundation, key), str)
        if value != "scripted" and not is_recording(value):
            raise problem(path, key, f"is {value!r}", "Use 'scripted', or 'recorded:NAME' of an imported dataset.")
    for key, kind in (("preset", str), ("seed", int), ("demonstrations_per_task", int), ("co_training_per_task", int)):
        value = typed(path, key, getattr(foundation, key), kind)
        if kind is int and value < (0 if key == "seed" else 1):
            raise problem(path, key, f"is {value}", "Use a positive number.")
    return foundation


@once
def read_toml(path: Path) -> dict[str, Any]:
    """The plain values of a file, not to be changed. Raises VlawError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise VlawError(
            f"the recipe cannot be read: {error}",
            where=str(path),
            remedy="Mend the file; vlaw_assets/recipes/vlaw.toml shows the form.",
        ) from error


def _stage(path: Path, table: str, cls: type, given: Any) -> Any:
    """The dataclass of one table, every value checked for its type and its range."""
    given = typed(path, table, given, dict)
    hints = _hints(cls)
    known_keys(path, table, given, list(hints))
    values = {key: typed(path, f"{table}.{key}", value, hints[key]) for key, value in given.items()}
    for key, value in values.items():
        remedy = remedy_for(f"{table}.{key}", value)
        if remedy:
            raise problem(path, f"{table}.{key}", f"is {value!r}", remedy)
    return cls(**values)


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    types = get_type_hints(cls)
    return {item.name: types[item.name] for item in dataclasses.fields(cls)}


def _learner(path: Path, name: str, document: dict[str, Any]) -> Learner:
    """The learner that a recipe names; tables of learners leave the document, and each is checked."""
    known = learner_names()
    if name not in known:
        raise problem(
            path,
            "policy.learner",
            f"is {name!r}",
            f"Use one of {', '.join(known)}; a package adds more by the entry point group {LEARNERS.group!r}.",
        )
    # A recipe may have inherited the table of a learner that it does not use.
    tables = {table: document.pop(table) for table in known if table in document}
    found = {table: _stage(path, table, learner_class(table), tables.get(table, {})) for table in {*tables, name}}
    return found[name]


@once
def learner_names() -> list[str]:
    """What policy.learner may say."""
    return LEARNERS.names()


@once
def learner_class(name: str) -> type[Learner]:
    return LEARNERS.load(name, where=f"recipe key 'policy.learner', learner {name!r}")


def _robot(path: Path, name: Any) -> RobotSpec:
    """The robot of a file. Raises VlawError for an unknown one, the choices listed."""
    return find_robot(typed(path, "robot", name, str), where=f"{path}, key 'robot'")


def _tasks(path: Path, tasks: list[Any], robot: RobotSpec) -> tuple[str, ...]:
    unknown = [task for task in tasks if not isinstance(task, str) or (robot.tasks and task not in robot.tasks)]
    listed = f"of {', '.join(robot.tasks)}" if robot.tasks else "as its instruction; none: all"
    if unknown:
        what = f"names {', '.join(map(repr, unknown))}, which robot {robot.name!r} does not have"
        raise problem(path, "tasks", what, f"Name tasks {listed}.")
    if (robot.tasks and not tasks) or len(set(tasks)) != len(tasks):
        raise problem(path, "tasks", "is empty or names a task twice", f"Name each task once, {listed}.")
    return tuple(tasks)


def known_keys(path: Path, table: str, given: dict[str, Any], allowed: Any) -> None:
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise problem(
            path,
            f"{table}.{unknown[0]}".lstrip("."),
            "is not a key of a recipe",
            f"Remove it, or use one of {', '.join(sorted(allowed))}.",
        )


def typed(path: Path, key: str, value: Any, kind: type) -> Any:
    """`value` as `kind`; a whole number may stand for a float, nothing else is converted (true is not 1)."""
    if kind is float and type(value) is int:
        value = float(value)
    if kind == tuple[int, ...]:
        if type(value) is not list or any(type(item) is not int for item in value):
            raise problem(path, key, f"is {value!r}", "Give a list of whole numbers.")
        return tuple(value)
    finite = not isinstance(value, float) or abs(value) < float("inf")  # false for nan too
    if type(value) is not kind or not finite:
        raise problem(path, key, f"is {value!r}", f"Give a {'finite ' if kind is float else ''}{kind.__name__}.")
    return value


def problem(path: Path, key: str, what: str, remedy: str) -> VlawError:
    """The error of one key of a file."""
    return VlawError(f"recipe key '{key}' {what}", where=f"{path}, key '{key}'", remedy=remedy)
