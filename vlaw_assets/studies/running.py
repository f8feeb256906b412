"""Running a study's partitions, one or several at a time, until all are done or cannot be.

Here: the loop that asks the order what comes next, what the ledger has of it, and who computes it. One job: this
process. Several: as many worker processes (worker.py), each of which holds one partition at a time; what two of them
would both make is made once (lake/claim.py). Every partition is computed on one CPU thread, so its numbers do not
depend on the number of jobs. A partition that fails does not stop the others. Not here: what is printed (cli/study.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from vlaw_assets.pipeline import driver
from vlaw_assets.pipeline.partitions import partition_key
from vlaw_assets.pipeline.progress import Listener, listening
from vlaw_assets.studies.definition import THREADS, Member, definition, find_study
from vlaw_assets.studies.ledger import hold_to_definition, record_progress, state_of
from vlaw_assets.studies.order import DONE, FAILED, Order, Slot
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import dagster as dg

    from vlaw_assets.lake import Lake

NOT_NEEDED = ("episode_embeddings",)
"""Asset of an iteration that no figure of a study is made of, and that takes most of the disk."""
ENVIRONMENT = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass(frozen=True)
class Place:
    """What running a partition needs, opened once."""

    lake: Lake
    recipes: str | None
    defs: dg.Definitions
    assets: tuple[str, ...]
    """Wanted assets of each partition."""


@dataclass
class Ended:
    """How one partition ended in this call."""

    status: str
    why: str = ""
    found: bool = False
    """The ledger had it already: nothing was run."""
    made: tuple[str, ...] = ()
    reused: tuple[str, ...] = ()
    wall_s: float = 0.0
    cpu_s: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        return bool(self.progress.get("reached"))


class Watcher(Protocol):
    """Who is told how far the study is; called from several threads."""

    def begins(self, key: str) -> None: ...
    def __call__(self, asset: str, partition: str, done: int, total: int, text: str) -> None: ...
    def ends(self, key: str, ended: Ended) -> None: ...


def wanted_assets(defs: dg.Definitions, *, embeddings: bool = False) -> tuple[str, ...]:
    """The assets of an iteration that a study materializes."""
    keys = defs.resolve_job_def("iteration").asset_layer.executable_asset_keys
    names = {key.to_user_string() for key in keys}
    return tuple(sorted(names if embeddings else names - set(NOT_NEEDED)))


def run_study(place: Place, order: Order, *, jobs: int, watcher: Watcher) -> dict[str, Ended]:
    """Runs what `order` hands out. Returns how each partition that was looked at ended, by key.

    Raises VlawError where a partition needs an experiment that is neither selected nor complete.
    """
    from vlaw_assets.lake import quarantine

    _check_targets(place, order)
    results: dict[str, Ended] = {}
    occurring = quarantine.occurrences(place.lake)
    with _crew(place, jobs, watcher) as submit:
        running: dict[Future[Ended], Slot] = {}
        while True:
            while len(running) < jobs and (slot := order.next()) is not None:
                state = state_of(
                    place.lake, slot.member, slot.iteration, place.assets, recipes=place.recipes, occurring=occurring
                )
                if state.done:
                    _note(order, slot, Ended(DONE, found=True, progress=state.progress or {}), results, watcher)
                else:
                    watcher.begins(slot.key)
                    running[submit(slot)] = slot
            if not running:
                return results
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                _note(order, running.pop(future), future.result(), results, watcher)


def run_slot(
    place: Place, instance: dg.DagsterInstance, member: Member, iteration: int, note: Mapping[str, Any]
) -> Ended:
    """One partition in this process: the Dagster run, then the record of how it went. `note` is kept with the record.

    The files are read again for each one: a study whose definition changed while it ran fails here, with the
    difference.
    """
    key = partition_key(member.experiment, iteration)
    wall, cpu = time.monotonic(), time.process_time()
    try:
        folder = Path(place.recipes) if place.recipes else None
        hold_to_definition(place.lake, definition(find_study(member.study.name, folder), folder))
        with driver.alone(place.lake, member.experiment, holder="vlaw study"):
            done = driver.run_job(place.defs, instance, "iteration", partition=key, only=place.assets)
            ended = Ended(
                DONE,
                made=done.made,
                reused=done.reused,
                wall_s=round(time.monotonic() - wall, 2),
                cpu_s=round(time.process_time() - cpu, 2),
            )
            run = {
                "wall_s": ended.wall_s,
                "cpu_s": ended.cpu_s,
                "threads": THREADS,
                "made": len(ended.made),
                "reused": len(ended.reused),
                **note,
            }
            ended.progress = record_progress(place.lake, member, iteration, run, done.run_id)
    except (VlawError, driver.StageError) as error:
        if driver.INTERRUPTED in str(error):
            raise KeyboardInterrupt from error
        return Ended(
            FAILED, str(error), wall_s=round(time.monotonic() - wall, 2), cpu_s=round(time.process_time() - cpu, 2)
        )
    return ended


def _note(order: Order, slot: Slot, ended: Ended, results: dict[str, Ended], watcher: Watcher) -> None:
    results[slot.key] = ended
    order.end(slot, ended.status, ended.why, reached=ended.reached)
    watcher.ends(slot.key, ended)


def _check_targets(place: Place, order: Order) -> None:
    members = {slot.member.experiment: slot.member for slot in order.slots}
    for member in members.values():
        target = member.target
        if target is None or target.experiment in members:
            continue
        key = partition_key(target.experiment, target.arm.iterations)
        if place.lake.ledger.current("policy_evaluation", key) is None:
            raise VlawError(
                f"{member.experiment} runs until it matches {target.experiment}, which is not complete",
                where=f"study {member.study.name}",
                remedy=f"Run arm {target.arm.recipe} too: leave it in --only.",
            )


# ---- who computes


Submit = Callable[[Slot], "Future[Ended]"]


@contextmanager
def _crew(place: Place, jobs: int, watcher: Watcher) -> Iterator[Submit]:
    if jobs == 1:
        from vlaw_models.threads import on_threads

        with driver.open_instance() as instance, listening(watcher), on_threads(THREADS):
            yield lambda slot: _done(run_slot(place, instance, slot.member, slot.iteration, {"jobs": 1}))
        return
    crew = [_Worker(place, jobs, watcher) for _ in range(jobs)]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in crew:
        idle.put(worker)

    def task(slot: Slot) -> Ended:
        worker = idle.get()
        try:
            return worker.run(slot)
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(jobs, thread_name_prefix="study")
    try:
        yield lambda slot: pool.submit(task, slot)
    finally:  # also after Ctrl-C: a worker that is not waited for is stopped, the lake bears it
        for worker in crew:
            worker.stop()
        pool.shutdown()


def _done(ended: Ended) -> Future[Ended]:
    future: Future[Ended] = Future()
    future.set_result(ended)
    return future


class _Worker:
    """A worker process and the talk with it: a line of JSON per order, lines of JSON back (see worker.py)."""

    def __init__(self, place: Place, jobs: int, listener: Listener):
        self._place, self._jobs, self._listener = place, jobs, listener
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self, slot: Slot) -> Ended:
        """Runs one partition there. A process that dies under it is a failure of the partition; the next one gets a new
        one."""
        if self._process is None:
            self._process = self._start()
        process = self._process
        told = {"experiment": slot.member.experiment, "iteration": slot.iteration}
        try:
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                said = json.loads(line)
                if "ended" in said:
                    return Ended(
                        **{
                            **said["ended"],
                            "made": tuple(said["ended"]["made"]),
                            "reused": tuple(said["ended"]["reused"]),
                        }
                    )
                self._listener(*said["progress"])
        except BrokenPipeError:
            pass  # as if it had said nothing more
        code = process.wait()
        self._process = None
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Ended(FAILED, "stopped" if self._stopped else f"its process ended ({how}) before it was done")

    def stop(self) -> None:
        """Ends the process: at once if it is at work, since nobody waits for the result."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def _start(self) -> subprocess.Popen[str]:
        root = str(Path(driver.__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)}
        options = {
            "lake": str(self._place.lake.paths.root),
            "recipes": self._place.recipes,
            "assets": self._place.assets,
            "jobs": self._jobs,
        }
        # A session of its own: Ctrl-C is for the parent, which then ends it.
        return subprocess.Popen(
            [sys.executable, "-m", "vlaw_assets.studies.worker", json.dumps(options)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def members_of(members: Sequence[Member], only: Sequence[str]) -> list[Member]:
    """Those of the named arms (all without names). Raises VlawError for an arm that the study does not have."""
    known = list(dict.fromkeys(member.arm.recipe for member in members))
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise VlawError(
            f"there is no arm {', '.join(unknown)} in the study",
            where="--only",
            remedy=f"Choose from {', '.join(known)}.",
        )
    return [member for member in members if not only or member.arm.recipe in only]
