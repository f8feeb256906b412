"""What an import reads, read in this process: to start the one that reads takes a second. Some tests of every importer
have it all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vlaw_assets.importers.reading import Seen, _seen
from vlaw_assets.importers.worker_process import Job, work


def read_here(recordings, options, numbers, *, begin=0, folder=None, limits, policy=None) -> Iterator[Seen]:
    """In place of `read_apart` in vlaw_assets.importers.commit."""
    said: list[dict[str, Any]] = []
    labelled = options.require_success
    work(
        Job(recordings.read, recordings.robot, numbers, begin, {}, labelled, folder, limits.memory, policy), said.append
    )
    yield from (_seen(message) for message in said if "read" in message)
