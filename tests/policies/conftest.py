"""What tests of policies share: the reaching problem's episodes, and one thread."""

from __future__ import annotations

import pytest
from policy_scenes import reaching_episodes

from vlaw_models.threads import on_threads


@pytest.fixture(autouse=True)
def _one_thread():
    with on_threads(1):
        yield


@pytest.fixture(scope="module")
def episodes():
    return reaching_episodes(250, seed=1)
