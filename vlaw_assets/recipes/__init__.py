"""Recipes: an experiment is one small TOML file, checked in full before anything runs.

A recipe has one table per dataclass of `vlaw_models/config.py`, and one for the learner that [policy] names, if it has
settings of its own (`vlaw_models/learners`); what it leaves out keeps the dataclass's default, or,
where it says `extends = "vlaw"`, what that recipe has (all but its name and description). A study is a file of its own
kind (study.py).
"""

from vlaw_assets.recipes.finding import find_recipe
from vlaw_assets.recipes.loading import PACKAGED, document_of, load_foundation, load_recipe, recipe_files

__all__ = ["PACKAGED", "document_of", "find_recipe", "load_foundation", "load_recipe", "recipe_files"]
