"""A lab that is made once: each test has a copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from inbox_lab import Lab

from vlaw_assets.importers import commit
from vlaw_assets.importers.reading import Seen, _seen
from vlaw_assets.importers.worker_process import Job, work


def read_here(recordings, options, numbers, *, begin=0, folder=None, limits, policy=None) -> Iterator[Seen]:
    """What `read_apart` gives, without a process that takes a second to start; tests/importers has those."""
    said: list[dict[str, Any]] = []
    labelled = options.require_success
    work(
        Job(recordings.read, recordings.robot, numbers, begin, {}, labelled, folder, limits.memory, policy), said.append
    )
    yield from (_seen(message) for message in said if "read" in message)


@pytest.fixture(scope="session")
def made_lab(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def lab(made_lab, tmp_path, monkeypatch) -> Lab:
    monkeypatch.setattr(commit, "read_apart", read_here)
    return Lab(tmp_path, made_lab)
