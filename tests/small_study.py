"""A study of two recipes, as data, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factories import write_recipe, write_toml

ONE = {"recipe": "one", "seeds": [0, 1], "iterations": 1}
TWO = {"recipe": "two", "seeds": [0], "iterations": 3, "until": "one"}
SMALL = {"arms": [ONE, TWO]}


def write_study(folder: Path, name: str = "small", **values: Any) -> Path:
    return write_toml(folder / "studies" / f"{name}.toml", {"name": name, **values})


def small_folder(root: Path) -> Path:
    """Recipes 'one' and 'two', study 'small' of both."""
    recipes = root / "recipes"
    write_recipe(recipes, "one", None, tasks=["stack", "book"], policy={"steps": 7})
    write_recipe(recipes, "two", None, extends="one", imagine={"episodes_per_task": 0})
    write_study(recipes, **SMALL)
    return recipes
