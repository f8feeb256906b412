"""What tests of policies share: the reaching problem's episodes, and one thread."""

from __future__ import annotations

import pytest
import torch
from policy_scenes import reaching_episodes


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def episodes():
    return reaching_episodes(250, seed=1)
