"""What is asked of recipes before anything runs: that they fit the foundation, that what both name is there, and what
of it may not be meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.recipes.checking import problem
from vlaw_assets.recipes.fit import MODELS, check_foundation, check_learner, check_weights
from vlaw_models import presets
from vlaw_models.checkpoint import describing, load_config
from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.spaces import ActionSpace, check_acts, check_conditioned

if TYPE_CHECKING:
    from vlaw_assets.recipes.schema import Foundation, Recipe


def check_fits(recipe: Recipe, foundation: Foundation) -> None:
    """Raises VlawError, naming file and key, for a recipe that does not fit the foundation, and for weights or networks
    that are not there. Imports the policy's class."""
    check_foundation(recipe, foundation)
    given = {name: _weights(name, foundation) for name in MODELS}
    check_learner(recipe, given["base_policy"] or presets.POLICY[foundation.preset]["class"])
    _check_spaces(recipe, foundation)
    _check_networks(recipe)


def check_all(recipes: Iterable[Recipe], check: Callable[[Recipe], None]) -> None:
    """Asks `check` of every recipe; one VlawError names all that it refuses, with what is wrong with each."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for recipe in recipes:
        try:
            check(recipe)
        except VlawError as error:
            found.setdefault((error.what, error.where, error.remedy), []).append(recipe.name)
    if found:
        raise VlawError(
            "; ".join(f"{', '.join(names)}: {what}" for (what, _, _), names in found.items()),
            where="; ".join(dict.fromkeys(where for _, where, _ in found)),
            remedy=" ".join(dict.fromkeys(remedy for _, _, remedy in found)),
        )


def doubts(recipes: Iterable[Recipe], foundation: Foundation) -> list[str]:
    """What fits and runs and may not be meant, a sentence each: steps that are imagined for nothing, and a world model
    that does not say at which rate it goes. Of none, where no recipe imagines in a world model."""
    if not any(recipe.needs_world_model for recipe in recipes):
        return []
    found = []
    policy, model = _config("base_policy", foundation), _config("world_model", foundation)
    executed, chunk = policy.get("execute_steps"), model.get("chunk")
    if isinstance(executed, int) and isinstance(chunk, int) and executed > 0 < chunk and executed % chunk:
        imagined = -(-executed // chunk) * chunk
        found.append(
            f"the policy executes {executed} control steps before it looks again, the world model imagines {chunk} in "
            f"a pass: of every {imagined} imagined frames {imagined - executed} are thrown away, imagined as if the "
            "last pose were held. Use a world model whose `chunk` divides the policy's `execute_steps` (both in their "
            "config.json)."
        )
    given, robot = foundation.weights.get("world_model"), find_robot(foundation.robot)
    if given and robot.conditioning is not None and "conditioned_in" not in model:
        found.append(
            f"{given} does not say in which poses, and at which rate, it is conditioned ('conditioned_in' of its "
            f"config.json): it is taken for {robot.conditioning}, which robot {robot.name!r} gives."
        )
    return found


def _folder(name: str, foundation: Foundation) -> Path | None:
    """The model that the foundation starts from; None for a new one."""
    given = foundation.weights.get(name)
    if not given and foundation.preset in presets.UNTRAINED:
        return None
    return Path(given or presets.foundation(foundation.preset, name, robot=foundation.robot)).expanduser()


def _weights(name: str, foundation: Foundation) -> str:
    """The class of the model that the foundation starts from; "" for a new one. Raises VlawError where there is
    none."""
    folder = _folder(name, foundation)
    return "" if folder is None else check_weights(name, folder)


def _config(name: str, foundation: Foundation) -> dict[str, Any]:
    """What the policy or the world model that the foundation starts from says of itself."""
    folder = _folder(name, foundation)
    if folder is not None:
        return load_config(folder)
    preset = {"base_policy": presets.POLICY, "world_model": presets.WORLD_MODEL}[name][foundation.preset]
    return {**preset["sizes"], **preset}


def _check_spaces(recipe: Recipe, foundation: Foundation) -> None:
    """Raises VlawError where given weights act in, or are conditioned in, another space than the robot's."""
    robot = find_robot(recipe.robot)
    for name, entry, check in (
        ("base_policy", "space", check_acts),
        ("world_model", "conditioned_in", check_conditioned),
    ):
        given = foundation.weights.get(name)
        stored = load_config(Path(given).expanduser()).get(entry) if given else None
        if stored is not None:
            where = f"{foundation.file}, key 'weights.{name}': {given}"
            with describing(f"{name} with the entry {entry!r}", where=where):
                space = ActionSpace.from_json(stored)
            check(space, robot, where=where)


def _check_networks(recipe: Recipe) -> None:
    """Raises VlawError where a folder with a network that a measurement is to use is not there."""
    from vlaw_models.metrics.networks import folder_digest

    for key in ("feature_net", "perceptual_net"):
        folder = getattr(recipe.world_model_metrics, key)
        if folder:
            try:
                folder_digest(folder)
            except VlawError as error:
                held = f"is {folder!r}: {error.what}"
                raise problem(recipe.file, f"world_model_metrics.{key}", held, error.remedy) from error
