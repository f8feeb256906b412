"""A study of two recipes, for the tests of studies."""

from __future__ import annotations

import pytest
from small_study import small_folder


@pytest.fixture
def folder(tmp_path):
    return small_folder(tmp_path)
