"""Reading a recording in a process of its own (worker_process.py), begun anew where an episode has ended it."""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vlaw_assets.importers.base import Recordings
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.worker_process import Job
from vlaw_models.errors import VlawError

MEMORY_GB, SECONDS = 4.0, 600.0
"""Of address space of the process that reads, and for one episode, where the environment says nothing else."""
MEMORY_VARIABLE, SECONDS_VARIABLE = "VLAW_IMPORT_MEMORY_GB", "VLAW_IMPORT_SECONDS"
MODULE = "vlaw_assets.importers.worker_process"
SKIP = (
    "Mend the recording, leave the episode out (--episodes), or leave out whatever is faulty (--skip-bad). "
    "--dry-run names every fault."
)


@dataclass(frozen=True)
class Limits:
    """What reading one episode may take."""

    memory: int
    """Bytes of address space."""
    seconds: float

    @classmethod
    def here(cls) -> Limits:
        """By the environment. VlawError for what is no number."""
        memory, seconds = _number(MEMORY_VARIABLE, MEMORY_GB), _number(SECONDS_VARIABLE, SECONDS)
        return cls(int(memory * 2**30), seconds)


@dataclass(frozen=True)
class Seen:
    """What became of one episode."""

    number: int
    kept: bool
    success: bool | None
    frames: int
    findings: tuple[Finding, ...]


def read_apart(
    recordings: Recordings,
    options: Options,
    numbers: Sequence[int],
    *,
    begin: int = 0,
    folder: Path | None = None,
    limits: Limits,
    policy: str | None = None,
) -> Iterator[Seen]:
    """What becomes of each episode from position `begin` on, in order, while its batch goes into `folder`.

    When the last one has come, all batches are whole. VlawError for what is wrong with the dataset.
    """
    died: dict[int, str] = {}
    told, place = begin, begin
    while place < len(numbers):
        job = Job(
            recordings.read,
            recordings.robot,
            numbers,
            place,
            died,
            options.require_success,
            folder,
            limits.memory,
            policy,
        )
        with _Process(job, recordings.root) as process:
            whole = place
            for message in process.messages(limits.seconds):
                if "error" in message:
                    raise VlawError(**message["error"])
                if "end" in message:
                    return
                if "read" in message:
                    place += 1
                    whole = place if message["closed"] or folder is None else whole
                    if place > told:
                        told = place
                        yield _seen(message)
            number = numbers[place] if place < len(numbers) else numbers[-1]
            why = process.why()
            if not process.begun or number in died:
                raise VlawError(
                    f"the process that reads episodes ended: {why}",
                    where=f"{recordings.root}, about episode {number}",
                    remedy=f"See that there is memory ({MEMORY_VARIABLE} says how much it may take) and place on the "
                    "disk, then run it again: it goes on where it was.",
                )
            died[number] = why
            place = whole


def _seen(message: dict[str, Any]) -> Seen:
    findings = tuple(Finding(**finding) for finding in message["findings"])
    return Seen(message["read"], message["kept"], message["success"], message["frames"], findings)


class _Process:
    """One process that reads, for a block."""

    def __init__(self, job: Job, root: Path):
        self.job, self.root = job, root
        self.begun = False
        """Whether it came to read an episode."""
        self._late = ""

    def __enter__(self) -> _Process:
        self._pipe, end = os.pipe()
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(end)],
                stdin=subprocess.PIPE,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=(end,),
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        finally:
            os.close(end)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already: `messages` finds that out
            self._process.stdin.write(json.dumps(sys.path).encode() + b"\n")
            pickle.dump(self.job, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        os.close(self._pipe)
        self._errors.close()

    def messages(self, seconds: float) -> Iterator[dict[str, Any]]:
        """What it says, until it ends; none for `seconds` ends it."""
        waiting, ready = b"", select.poll()
        ready.register(self._pipe, select.POLLIN)
        while True:
            if not ready.poll(1000 * seconds):
                self._late = f"it took more than {seconds:g} s ({SECONDS_VARIABLE})"
                self._process.kill()
                return
            part = os.read(self._pipe, 1 << 16)
            if not part:
                return
            *lines, waiting = (waiting + part).split(b"\n")
            for line in lines:
                message = json.loads(line)
                self.begun = self.begun or "begin" in message
                yield message

    def why(self) -> str:
        """Why it has ended, in words."""
        code = self._process.wait()
        if self._late:
            return self._late
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 2000))
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        last = said[-1][:200] if said else ""
        if "MemoryError" in last or "bad_alloc" in last or "malloc" in last:
            return f"it needed more than {self.job.memory / 2**30:g} GB of memory ({MEMORY_VARIABLE})"
        signalled = signal.Signals(-code).name if code < 0 else f"status {code}"
        return ": ".join(filter(None, (signalled, last)))


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not value > 0:
        raise VlawError(
            f"{variable} is {text[:40]!r}", where="environment", remedy="Give a number above 0, or unset it."
        )
    return value
