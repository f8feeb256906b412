from __future__ import annotations

import pytest
from engine_lab import Lab


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.fixture
def light(tmp_path):
    """For `make_light` alone."""
    return Lab(tmp_path, models=False)
