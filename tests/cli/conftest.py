"""A lake with one smoke iteration, and a folder in which commands find it."""

from __future__ import annotations

import pytest
from asking import at
from smoke_place import smoke_place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


@pytest.fixture
def here(place, monkeypatch, tmp_path):
    at(monkeypatch, tmp_path, place.environment())
