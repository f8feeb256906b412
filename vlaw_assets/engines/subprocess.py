"""Workers as processes of this machine.

PipesSubprocessClient waits without an end and does not say which process it started. This is the same session, with a
worker that can be ended: on a limit, and when another one has failed. Where there are GPUs each has one, in turn.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import STDOUT, Popen, TimeoutExpired
from typing import Any

import dagster as dg

from vlaw_assets.engines import pipes
from vlaw_assets.engines.elsewhere import AGAIN, LOOK_S, Call
from vlaw_assets.engines.settings import Settings
from vlaw_models.errors import VlawError

ENDED_BY = {number.value: number.name for number in signal.Signals}
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The GPUs that a process sees, by number or name, with commas between; without it all of the machine."""


class Subprocess:
    """`vlaw_assets.engines.worker` in a process of its own."""

    queues = False

    def __init__(self, settings: Settings):
        if settings.options:
            raise VlawError(
                f"engine 'subprocess' has no key {next(iter(settings.options))!r}",
                where=settings.where,
                remedy="Leave out the table [subprocess].",
            )
        self._python = settings.python or sys.executable
        # The run's own Python finds there what the run finds: packages of the folder that it was started in, too.
        self._path = {} if settings.python else {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def check(self) -> None:
        from shutil import which

        if which(self._python) is None:
            raise VlawError(
                f"the workers' Python {self._python!r} is not there",
                where="engine 'subprocess'",
                remedy="Set python in the file that VLAW_ENGINE names, or leave it out for the run's own.",
            )

    def run(self, context: Any, call: Call) -> None:
        with dg.open_pipes_session(
            context,
            context_injector=pipes.injector(call),
            message_reader=pipes.reader(call),
            extras=pipes.extras(call, parent=os.getpid()),
        ) as session:
            own = {**session.get_bootstrap_env_vars(), **gpu_of(call.worker)}
            process = self.start({**os.environ, **own}, call.log)
            try:
                while process.poll() is None and not call.stop.is_set():
                    with suppress(TimeoutExpired):
                        process.wait(LOOK_S)
            finally:
                stopped = process.poll() is None
                if stopped:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.kill()
                    process.wait()
                status = process.poll()
        if status and not stopped:
            by = ENDED_BY.get(-status, f"exit status {status}")
            raise VlawError(f"a worker died: {by}", where=f"process {process.pid}", remedy=AGAIN)

    def start(self, environment: Mapping[str, str], log: Path) -> Popen[bytes]:
        """A worker that is a group of its own, with all that it starts; it prints into `log`."""
        with log.open("wb") as file:
            return Popen(
                [self._python, "-m", pipes.MODULE],
                env={**environment, **self._path},
                stdout=file,
                stderr=STDOUT,
                start_new_session=True,
            )


def gpu_of(worker: int | None) -> dict[str, str]:
    """The variable by which a worker sees one of the GPUs that this process sees. None where it may have them all,
    where there is no GPU, or where VLAW_DEVICE names a device."""
    from vlaw_models.device import AUTO, VARIABLE

    if worker is None or os.environ.get(VARIABLE, "") not in ("", AUTO, "cuda"):
        return {}
    import torch

    count = torch.cuda.device_count()  # asks the driver, and leaves the GPUs alone
    if not count:
        return {}
    listed = os.environ.get(VISIBLE) or ",".join(map(str, range(count)))
    return {VISIBLE: listed.split(",")[worker % count].strip()}
