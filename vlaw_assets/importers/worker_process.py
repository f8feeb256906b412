"""Episodes decoded in a process of its own: a file that takes all memory, hangs or kills its decoder costs one episode,
and not the import.

    python -m vlaw_assets.importers.worker_process

The process gets a `Job` on its standard input and tells of every episode, one line of JSON each, on the pipe whose
number is its argument. It ends by itself when whoever started it is gone.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.importers.base import Read
from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.spool import BatchWriter
from vlaw_assets.importers.use import NO_LABEL, with_use
from vlaw_assets.lake.encoded import encode_episode
from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import RobotSpec

if TYPE_CHECKING:
    import pyarrow as pa

PURPOSE, LABEL_SOURCE = "rollout", "recorded"
"""What imported episodes are, and who judged them."""
ENDED = "decoding_ended"
"""Rule of a finding: the process ended, or did not, while it read an episode."""
OUT_OF_MEMORY = "it needed more memory than an import may take (VLAW_IMPORT_MEMORY_GB)"


@dataclass(frozen=True)
class Job:
    """What the process does."""

    read: Callable[[Sequence[int]], Iterator[Read]]
    """`Recordings.read`."""
    robot: RobotSpec
    numbers: Sequence[int]
    """The episodes of the import, in order."""
    begin: int
    """Position in `numbers` to begin at."""
    died: Mapping[int, str]
    """Number -> why the process ended before, while it read that one: it is left out."""
    only_labelled: bool
    """Whether an episode without a success label is a faulty one."""
    folder: Path | None
    """The spool's; None: nothing is kept."""
    memory: int
    """Bytes of address space."""
    policy: str | None = None
    """Content digest of the policy that acted, where it is known."""


def judged(
    read: Read, robot: RobotSpec, *, only_labelled: bool, policy: str | None = None
) -> tuple[Read, pa.Table | None]:
    """What was read, with the findings of the checks that every import's episodes pass; and the episode as the lake
    stores it, None where one of them excludes it."""
    if read.episode is None or read.excluded is not None:
        return replace(read, episode=None), None
    where = f"episode {read.number}"
    try:
        robot.check_episode(read.episode, where=where)
        if only_labelled and read.episode.success is None:
            return _excluded(read, NO_LABEL, f"episode {read.number} has no success label"), None
        found, episode = with_use(read, read.episode)
        encoded = encode_episode(
            episode, purpose=PURPOSE, world=robot.world, policy=policy, label_source=LABEL_SOURCE, where=where
        )
    except VlawError as error:
        return _excluded(read, "not_of_the_robot", error.what), None
    return found, encoded


def _excluded(read: Read, rule: str, what: str) -> Read:
    finding = Finding(rule, what, "excluded", episode=read.number)
    return Read(read.number, None, (*read.findings, finding))


def work(job: Job, say: Callable[[dict[str, Any]], None]) -> None:
    """Reads all of a job's episodes from its beginning on."""
    writer = BatchWriter(job.folder, job.begin) if job.folder is not None else None
    for number, read in _each(job, say):
        found, encoded = judged(read, job.robot, only_labelled=job.only_labelled, policy=job.policy)
        closed = writer is not None and writer.add(encoded, found.findings)
        say(
            {
                "read": number,
                "success": None if encoded is None else encoded["success"][0].as_py(),
                "frames": 0 if encoded is None else encoded["num_frames"][0].as_py(),
                "findings": [asdict(finding) for finding in found.findings],
                "kept": encoded is not None,
                "closed": closed,
            }
        )
    if writer is not None:
        writer.finish()
    say({"end": True})


def _each(job: Job, say: Callable[[dict[str, Any]], None]) -> Iterator[tuple[int, Read]]:
    """Every episode in its order. One whose reading raises what no importer should is a finding, and reading begins
    anew behind it."""
    waiting = list(job.numbers[job.begin :])
    while waiting:
        reading = job.read([number for number in waiting if number not in job.died])
        for place, number in enumerate(waiting):
            if number in job.died:
                why = f"decoding ended: {job.died[number]}"
                yield number, Read(number, None, (Finding(ENDED, why, "excluded", episode=number),))
                continue
            say({"begin": number})
            try:
                read = next(reading)
            except VlawError:
                raise
            except Exception as error:  # of a decoder or a library, of whatever kind: the others are to be read
                what = OUT_OF_MEMORY if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"[:300]
                why = f"decoding ended: {what}"
                read = Read(number, None, (Finding(ENDED, why, "excluded", episode=number),))
                yield number, read
                waiting = waiting[place + 1 :]
                break
            if read.number != number:
                raise RuntimeError(f"the importer gave episode {read.number} instead of {number}")
            yield number, read
        else:
            return


def main() -> None:
    """The process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    pipe = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1)
    source = sys.stdin.buffer
    sys.path[:] = json.loads(source.readline())
    job = pickle.load(source)  # of our own parent
    threading.Thread(target=_end_with_parent, args=(source,), daemon=True).start()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = job.memory if hard == resource.RLIM_INFINITY else min(job.memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

    def say(message: dict[str, Any]) -> None:
        pipe.write(json.dumps(message) + "\n")

    try:
        work(job, say)
    except VlawError as error:
        say({"error": {"what": error.what, "where": error.where, "remedy": error.remedy}})


def _end_with_parent(source: Any) -> None:
    while source.read(1):
        pass
    os._exit(3)


if __name__ == "__main__":
    main()
