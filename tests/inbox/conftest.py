"""A lab that is made once: each test has a copy."""

from __future__ import annotations

import pytest
from inbox_lab import Lab
from once import kept_folder
from reading_here import read_here

from vlaw_assets.importers import commit


@pytest.fixture(scope="session")
def made_lab(tmp_path_factory) -> Lab:
    return Lab(kept_folder(tmp_path_factory, "lab"))


@pytest.fixture
def lab(made_lab, tmp_path, monkeypatch) -> Lab:
    monkeypatch.setattr(commit, "read_apart", read_here)
    return Lab(tmp_path, made_lab)
