"""A study of two recipes, for the tests of studies."""

from __future__ import annotations

import pytest
from factories import write_recipe
from small_study import SMALL, write_study


@pytest.fixture
def folder(tmp_path):
    """Recipes 'one' and 'two', study 'small' of both."""
    recipes = tmp_path / "recipes"
    write_recipe(recipes, "one", None, tasks=["stack", "book"], policy={"steps": 7})
    write_recipe(recipes, "two", None, extends="one", imagine={"episodes_per_task": 0})
    write_study(recipes, **SMALL)
    return recipes
