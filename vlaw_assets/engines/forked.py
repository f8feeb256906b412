"""Workers as forks of one process that has imported what they need: they begin at once, where a new process takes
seconds in every stage. Python's own fork server is that process: a run has one, and it ends with the run.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlaw_assets.engines import pipes, worker
from vlaw_assets.engines.settings import Settings
from vlaw_assets.engines.subprocess import Subprocess
from vlaw_models.errors import VlawError


class Forked(Subprocess):
    """`vlaw_assets.engines.worker` in a fork."""

    def __init__(self, settings: Settings):
        if settings.python:
            raise VlawError(
                "engine 'forked' has no Python of its own",
                where=settings.where,
                remedy="Leave out python, or use engine 'subprocess'.",
            )
        super().__init__(settings)

    def start(self, environment: Mapping[str, str], log: Path) -> Any:
        forks = multiprocessing.get_context("forkserver")
        forks.set_forkserver_preload(imported())
        process = forks.Process(target=_begin, args=(dict(environment), str(log)))
        process.start()
        return _Started(process)


class _Started:
    """A fork, asked as a Popen is."""

    def __init__(self, process: Any):
        self._process, self.pid = process, process.pid

    def poll(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)

    def kill(self) -> None:
        self._process.kill()


def imported() -> list[str]:
    """The modules of all models that a worker may load, and of what it is itself."""
    from vlaw_models.autoencoders.registry import AUTOENCODERS
    from vlaw_models.policies.registry import POLICIES
    from vlaw_models.reward_models.registry import REWARD_MODELS
    from vlaw_models.world_models.registry import WORLD_MODELS

    registries = (POLICIES, WORLD_MODELS, AUTOENCODERS, REWARD_MODELS)
    shipped = {target.partition(":")[0] for registry in registries for target in registry.shipped.values()}
    return [pipes.MODULE, *sorted(shipped)]


def _begin(environment: dict[str, str], log: str) -> None:
    os.setsid()
    printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(printed, stream)
    os.environ.clear()
    os.environ.update(environment)
    worker.main()
