"""The process that runs worker.py: starting it, early where a command knows that it will ask, and ending it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from vlaw_models.errors import VlawError

ROOT = Path(__file__).parent.parent.parent
"""Where the packages are; a worker finds them there whatever its parent did to its own path."""


class Worker:
    """The process, and the descriptors of its pipes."""

    def __init__(self, process: subprocess.Popen[bytes]):
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self._pipes = process, (process.stdin, process.stdout)
        self.requests, self.answers = (pipe.fileno() for pipe in self._pipes)
        self.pid = process.pid

    def end(self) -> None:
        self.process.kill()
        for pipe in self._pipes:
            pipe.close()
        self.process.wait()


_early: list[Worker] = []


def start_early() -> None:
    """Start a worker that the first connection of this process will take: for a command that is still importing the
    rest."""
    _early.append(_spawn())


def take_worker() -> Worker:
    """The worker that was started early, or a new one. Raises VlawError where none can be started."""
    return _early.pop() if _early else _spawn()


def _spawn() -> Worker:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        # Allocators that reserve address space in advance would make the limit of address space meaningless.
        "MALLOC_ARENA_MAX": "2",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    # The kernel ends a worker with the thread that started it, and only the main thread lives as long as the process.
    main = threading.current_thread() is threading.main_thread()
    watched = [str(os.getpid())] if main else []
    try:
        return Worker(
            subprocess.Popen(
                [sys.executable, "-P", "-m", "vlaw_assets.query.worker", *watched],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )
    except OSError as error:
        raise VlawError(
            f"no process for SQL can be started: {error.strerror}",
            where=sys.executable,
            remedy="free memory, or raise the limit of processes",
        ) from error


def how_it_ended(status: int) -> str:
    """A status of subprocess in words: SIGKILL, exit code 1."""
    try:
        return signal.Signals(-status).name if status < 0 else f"exit code {status}"
    except ValueError:
        return f"signal {-status}"
