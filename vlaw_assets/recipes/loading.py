"""Finding and reading recipes, with what they inherit, and the foundation's file.

What they may say is schema.py's, which is imported when the first file is read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.once import asking, once
from vlaw_assets.partitions import is_name
from vlaw_assets.recipes.checking import checked, problem
from vlaw_models.config import SAMPLING, PolicyConfig
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import LEARNERS, Learner

if TYPE_CHECKING:
    from vlaw_assets.recipes.schema import Foundation, Recipe

PACKAGED = Path(__file__).parent
FOUNDATION_FILE = "foundation.toml"
EXTENDS = "extends"
NOT_INHERITED = ("name", "description", EXTENDS)


@once
def recipe_files(folder: Path | None = None) -> dict[str, Path]:
    """Experiment name -> file: the packaged recipes and those in `folder`, by file name; a user's file wins. VlawError
    for a file that cannot name an experiment."""
    found = _files(folder)
    for name, path in found.items():
        check_name(name, path, "an experiment")
    return found


@once
def well_named(folder: Path | None = None) -> dict[str, Path]:
    """The same without the files that cannot name an experiment: one such file must not stop all others."""
    return {name: path for name, path in _files(folder).items() if is_name(name)}


def check_name(name: str, path: Path, what: str) -> None:
    """Raises VlawError for a name that cannot be part of a partition and a folder."""
    if not is_name(name):
        raise VlawError(
            f"{name!r} cannot name {what}",
            where=str(path),
            remedy="Use letters, digits, '_' and '-' only, starting with a letter or digit.",
        )


def _files(folder: Path | None) -> dict[str, Path]:
    if folder is not None and not folder.is_dir():
        raise VlawError(
            "the folder of recipes does not exist",
            where=str(folder),
            remedy="Create it, or unset VLAW_RECIPES to use the packaged recipes only.",
        )
    return toml_files(PACKAGED, FOUNDATION_FILE) | (toml_files(folder, FOUNDATION_FILE) if folder else {})


def toml_files(folder: Path, *others: str) -> dict[str, Path]:
    """Name -> file of a folder, without hidden ones (an editor's, while it has a file open) and `others`."""
    found = (
        path for path in sorted(folder.glob("*.toml")) if not path.name.startswith(".") and path.name not in others
    )
    return {path.stem: path for path in found}


@once
def load_recipe(path: Path) -> Recipe:
    """Reads and checks one recipe file; `name` must equal the file's name."""
    return recipe_of(document_of(path), path)


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
    name = document[EXTENDS]
    files = well_named(path.parent if path.parent != PACKAGED else None)
    if not isinstance(name, str) or name not in files:
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


def recipe_of(document: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe of plain values; `path` is the file that errors name. Raises VlawError."""
    from vlaw_assets.recipes.schema import Recipe

    keys = dict(document)
    learner = _learner(keys, path)
    return _sampled(
        checked(Recipe, keys, path=path, also=(EXTENDS, *_learner_names()), context=(learner, path)), document
    )


def _sampled(recipe: Recipe, document: Mapping[str, Any]) -> Recipe:
    """What [world_model_metrics] does not say of sampling is as in [imagine]: what is measured is the world model as it
    is used."""
    said = document.get("world_model_metrics", {})
    as_used = {key: getattr(recipe.imagine, key) for key in SAMPLING if key not in said}
    return recipe.model_copy(update={"world_model_metrics": replace(recipe.world_model_metrics, **as_used)})


def _learner(document: dict[str, Any], path: Path) -> Learner:
    """The learner that [policy] names; the tables of learners leave the document, and each is checked."""
    from vlaw_assets.recipes.schema import Recipe, learner_tables

    policy = document.get("policy")
    known = [name for name in _learner_names() if name not in Recipe.model_fields]
    name = policy.get("learner", PolicyConfig.learner) if isinstance(policy, dict) else PolicyConfig.learner
    if name not in known:
        choices = f"{', '.join(known)}; a package adds more by the entry point group {LEARNERS.group!r}"
        raise problem(path, "policy.learner", f"is {name!r}", f"Use one of {choices}.")
    # A recipe may have inherited the table of a learner that it does not use.
    given = {table: document.pop(table) for table in known if table in document}
    tables = sorted({*given, name})
    model = learner_tables(tuple((table, _known_learner(table, path, chosen=table == name)) for table in tables))
    return getattr(checked(model, given, path=path), name)


@once
def _learner_names() -> list[str]:
    """What policy.learner may say."""
    return LEARNERS.names()


def _known_learner(name: str, path: Path, *, chosen: bool) -> type[Learner]:
    try:
        return _learner_class(name)
    except VlawError as error:
        key, held = ("policy.learner", f"is {name!r}") if chosen else (name, "is the table of a learner")
        raise problem(path, key, f"{held}: {error.what}", error.remedy) from error


@once
def _learner_class(name: str) -> type[Learner]:
    found = LEARNERS.load(name, where="policy.learner")
    if not (isinstance(found, type) and issubclass(found, Learner)):
        raise VlawError(
            f"{LEARNERS.entry(name, where='policy.learner').target} is no class of learners",
            where="policy.learner",
            remedy="Let the entry point name a frozen dataclass that is a vlaw_models.learners.base.Learner.",
        )
    return found


@once
def load_foundation(folder: Path | None = None) -> Foundation:
    """The foundation's settings: foundation.toml in `folder` where there is one, else the packaged file."""
    from vlaw_assets.recipes.schema import Foundation

    own = folder / FOUNDATION_FILE if folder else None
    path = own if own and own.is_file() else PACKAGED / FOUNDATION_FILE
    return checked(Foundation, read_toml(path), path=path, context=path)


@once
def read_toml(path: Path) -> dict[str, Any]:
    """The plain values of a file, not to be changed. Raises VlawError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise VlawError(
            f"the recipe cannot be read: {error}",
            where=str(path),
            remedy="Mend the file; vlaw_assets/recipes/vlaw.toml shows the form.",
        ) from error
