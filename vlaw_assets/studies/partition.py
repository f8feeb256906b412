"""One partition of a study, in a process of its own: `python -m vlaw_assets.studies.partition TASK`, a `Task` as JSON.

It answers with lines of JSON, many {"progress": [asset, partition, done, total, text]} and at the end one {"ended":
{...}}. Its standard input is a pipe that its parent holds: when that is gone, however it ended, this process ends at
once; the lake and the next run bear that.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vlaw_assets.partitions import partition_of
from vlaw_assets.recipes.study import THREADS, definition, find_member, find_study
from vlaw_assets.studies.order import DONE, ELSEWHERE, FAILED
from vlaw_assets.studies.record import Outcome, hold_to_definition, record_outcome
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.pipeline.progress import Listener

ORPHANED = 3
PACE_S = 0.2
"""Least time between two lines about the progress of an asset; its beginning and its end are always said."""


@dataclass(frozen=True)
class Task:
    """What to run, and where."""

    lake: str
    recipes: str | None
    experiment: str
    """Empty: what the foundation lacks."""
    iteration: int
    assets: Sequence[str]
    """Wanted assets of the partition; of the foundation those that are made on demand."""
    jobs: int
    """Partitions that run at a time; noted with the record."""
    engine: str = ""
    """Where heavy parts run (engines/settings.py)."""


@dataclass
class Ended:
    """How one partition ended in this call."""

    status: str
    why: str = ""
    found: bool = False
    """The ledger had it already: nothing was run."""
    made: Sequence[str] = ()
    reused: Sequence[str] = ()
    wall_s: float = 0.0
    cpu_s: float = 0.0
    outcome: Outcome | None = None

    @property
    def reached(self) -> bool:
        return self.outcome is not None and bool(self.outcome.reached)


def run_partition(task: Task) -> Ended:
    """The Dagster run, then the record of how it went.

    The files are read again for each partition: a study whose definition changed while it ran fails here, with the
    difference.
    """
    from vlaw_assets.definitions import build_defs
    from vlaw_assets.lake import Lake
    from vlaw_assets.pipeline import driver

    lake = Lake.open(task.lake, create=False)
    folder = Path(task.recipes) if task.recipes else None
    defs = build_defs(lake=task.lake, recipes=folder, engine=task.engine)
    wall, cpu = time.monotonic(), time.process_time()

    def measured(ended: Ended) -> Ended:
        ended.wall_s, ended.cpu_s = round(time.monotonic() - wall, 2), round(time.process_time() - cpu, 2)
        return ended

    try:
        if not task.experiment:
            with driver.alone(lake, "foundation", holder="vlaw study"), driver.open_instance() as instance:
                driver.make_foundation(
                    build_defs(lake=task.lake, recipes=folder, engine=task.engine), instance, lake, also=task.assets
                )
            return measured(Ended(DONE))
        member = find_member(task.experiment, folder)
        if member is None:
            raise VlawError(f"there is no experiment {task.experiment}", where="vlaw study", remedy="Start it again.")
        hold_to_definition(lake, definition(find_study(member.study.name, folder), folder))
        key = partition_of(task.experiment, task.iteration)
        with driver.alone(lake, task.experiment, holder="vlaw study"), driver.open_instance() as instance:
            done = driver.run_job(defs, instance, "iteration", partition=key, only=task.assets)
            ended = measured(Ended(DONE, made=done.made, reused=done.reused))
            run = {
                "wall_s": ended.wall_s,
                "cpu_s": ended.cpu_s,
                "threads": THREADS,
                "jobs": task.jobs,
                "made": len(ended.made),
                "reused": len(ended.reused),
            }
            ended.outcome = record_outcome(lake, member, task.iteration, run, done.run_id)
    except driver.AlreadyRunError as error:
        return measured(Ended(ELSEWHERE, str(error)))
    except (VlawError, driver.StageError) as error:
        return measured(Ended(FAILED, str(error)))
    return ended


def _main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Whatever else prints, prints to stderr: stdout is for the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    from vlaw_assets.pipeline.progress import listening

    with listening(_paced(answers)):
        ended = run_partition(Task(**json.loads(sys.argv[1])))
    _say(answers, "ended", dataclasses.asdict(ended))


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(ORPHANED)


def _paced(answers: TextIO) -> Listener:
    from vlaw_assets.pipeline.progress import ENDINGS

    last = 0.0

    def tell(asset: str, partition: str, done: int, total: int, text: str) -> None:
        nonlocal last
        if total == 0 or text in ENDINGS or time.monotonic() - last >= PACE_S:
            last = time.monotonic()
            _say(answers, "progress", [asset, partition, done, total, text])

    return tell


def _say(answers: TextIO, what: str, value: object) -> None:
    answers.write(json.dumps({what: value}, default=str) + "\n")
    answers.flush()


if __name__ == "__main__":
    _main()
