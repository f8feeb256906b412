"""The recipe of an experiment, whichever file it comes from: its own, or a study's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.once import once
from vlaw_assets.recipes.loading import PACKAGED, load_recipe, well_named
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.recipes.schema import Recipe


@once
def find_recipe(name: str, folder: Path | None = None) -> Recipe:
    """The recipe of an experiment: a recipe's name, or an experiment of a study such as "claims-vlaw-s1".

    Raises VlawError for an unknown experiment or a faulty file.
    """
    files = well_named(folder)
    if name in files:
        return load_recipe(files[name])
    from vlaw_assets.recipes.study import find_member, resolved

    member = find_member(name, folder)
    if member is not None:
        return resolved(member, folder)
    raise VlawError(
        f"there is no experiment {name!r}",
        where=str(folder or PACKAGED),
        remedy=f"Use one of {', '.join(sorted(files))}, an experiment of a study (vlaw study NAME --plan), or add "
        f"{name}.toml to a folder of your own and set VLAW_RECIPES to it.",
    )
