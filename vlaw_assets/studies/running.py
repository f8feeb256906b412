"""Running a study's partitions, one or several at a time, until all are done or cannot be.

Each partition is a Dagster run in a process of its own (partition.py), on one CPU thread, so that its numbers do not
depend on how many run at a time; what two of them would both make is made once (lake/claim.py). A partition that fails,
or whose process dies, does not stop the others.

Several runs of one study may be at work on one lake, on as many hosts. Whoever makes a partition holds the lock of its
experiment; the others take the next one, and look again later whether it is made. Nobody tells anybody anything else.

Why the processes are started here and not by Dagster: what Dagster starts outlives who asked for it. A killed study
must leave nothing at work, since the next one goes on where it stopped; but the queue's runs belong to the code server,
and a step of the multiprocess executor goes on when its parent is killed
(test_running.py::test_dagsters_own_processes_outlive_a_killed_parent). Nor can a run wait for another run, as an arm
that runs until it matches another does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vlaw_assets.partitions import partition_of
from vlaw_assets.pipeline import driver
from vlaw_assets.recipes import find_recipe
from vlaw_assets.recipes.study import THREADS, Member
from vlaw_assets.studies.order import DONE, ELSEWHERE, FAILED, WAITING, Order, Slot
from vlaw_assets.studies.partition import Ended, Task
from vlaw_assets.studies.record import Outcome, state_of
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import dagster as dg

    from vlaw_assets.lake import Lake

NOT_NEEDED = ("episode_embeddings",)
"""Asset of an iteration that no figure of a study is made of, and that takes most of the disk."""
ENVIRONMENT = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
LOOK_S = 15.0
"""How often it is asked whether what another run makes is made."""
LONGEST_LINE = 2**24
"""Bytes of one answer of a partition's process; a failure's has a traceback in it."""


@dataclass(frozen=True)
class Place:
    """Where a study runs, and what is wanted of each partition."""

    lake: Lake
    recipes: str | None
    defs: dg.Definitions
    assets: tuple[str, ...]
    jobs: int
    """Partitions at a time."""
    engine: str = ""
    """Where heavy parts run (engines/settings.py)."""


class Watcher(Protocol):
    """Who follows how far the study is."""

    def __call__(self, asset: str, partition: str, done: int, total: int, text: str) -> None: ...
    def ends(self, slot: Slot, ended: Ended) -> None: ...
    def left(self, what: str) -> None:
        """Another run is making a partition, or the foundation."""


def wanted_assets(defs: dg.Definitions, *, embeddings: bool = False) -> tuple[str, ...]:
    """The assets of an iteration that a study materializes."""
    keys = defs.resolve_job_def("iteration").asset_layer.executable_asset_keys
    names = {key.to_user_string() for key in keys}
    return tuple(sorted(names if embeddings else names - set(NOT_NEEDED)))


def run_study(place: Place, order: Order, watcher: Watcher) -> dict[str, Ended]:
    """Makes what the foundation lacks, then runs what `order` hands out, or waits for who else does. Returns how each
    partition that was looked at ended, by key. An interrupt ends the processes too.

    Raises VlawError where the foundation cannot be made, or a partition needs an experiment that is neither selected
    nor complete.
    """
    _check_targets(place, order)
    return asyncio.run(_run_study(place, order, watcher))


async def _run_study(place: Place, order: Order, watcher: Watcher) -> dict[str, Ended]:
    from vlaw_assets.lake import quarantine

    folder = Path(place.recipes) if place.recipes else None
    also = driver.on_demand(find_recipe(slot.member.experiment, folder) for slot in order.slots)
    while driver.foundation_lacks(place.defs, place.lake, also=also):
        foundation = await _in_a_process(dataclasses.replace(place, assets=tuple(also)), "", 0, watcher)
        if foundation.status == DONE:
            break
        if foundation.status == ELSEWHERE:
            watcher.left("the foundation")
            await asyncio.sleep(LOOK_S)
        else:
            raise VlawError(
                f"the foundation cannot be made:\n{foundation.why}",
                where=str(place.lake.paths.root),
                remedy="Mend what it says; the same command goes on from here.",
            )
    results: dict[str, Ended] = {}
    occurring = quarantine.occurrences(place.lake)
    running: dict[asyncio.Task[Ended], Slot] = {}
    elsewhere: dict[str, float] = {}
    """Key of what another run is making -> when to look again."""

    def note(slot: Slot, ended: Ended) -> None:
        if ended.status == ELSEWHERE:
            if slot.key not in elsewhere:
                watcher.left(slot.key)
            elsewhere[slot.key] = time.monotonic() + LOOK_S
            order.put_back(slot)
            return
        elsewhere.pop(slot.key, None)
        results[slot.key] = ended
        order.end(slot, ended.status, ended.why, reached=ended.reached)
        watcher.ends(slot, ended)

    while True:
        elsewhere = {key: when for key, when in elsewhere.items() if order.status[key] == WAITING}
        later = {key for key, when in elsewhere.items() if when > time.monotonic()}
        while len(running) < place.jobs and (slot := order.next(passing=later)) is not None:
            state = state_of(
                place.lake, slot.member, slot.iteration, place.assets, recipes=place.recipes, occurring=occurring
            )
            if state.done:
                note(slot, Ended(DONE, found=True, outcome=state.outcome))
            elif driver.lock_of(place.lake, slot.member.experiment).held_since() is not None:
                note(slot, Ended(ELSEWHERE))
                later.add(slot.key)
            else:
                process = _in_a_process(place, slot.member.experiment, slot.iteration, watcher)
                running[asyncio.create_task(process)] = slot
        if not running and not elsewhere:
            return results
        look_again = max(min(elsewhere.values(), default=0.0) - time.monotonic(), 0.0)
        if not running:
            await asyncio.sleep(look_again)
            continue
        full = len(running) == place.jobs or not elsewhere
        finished, _ = await asyncio.wait(
            running, timeout=None if full else look_again, return_when=asyncio.FIRST_COMPLETED
        )
        for task in finished:
            note(running.pop(task), task.result())


async def _in_a_process(place: Place, experiment: str, iteration: int, watcher: Watcher) -> Ended:
    """A process that dies is a failure of its partition. When this is cancelled, it is killed."""
    where = str(place.lake.paths.root.absolute()), place.recipes
    task = Task(*where, experiment, iteration, place.assets, place.jobs, place.engine)
    root = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlaw_assets.studies.partition", json.dumps(dataclasses.asdict(task))),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
        start_new_session=True,  # Ctrl-C is for the parent, which then ends it
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            said = json.loads(line)
            if "progress" in said:
                watcher(*said["progress"])
            else:
                await process.wait()
                outcome = said["ended"].pop("outcome")
                return Ended(**said["ended"], outcome=outcome and Outcome(**outcome))
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
    return Ended(
        FAILED, f"its process ended ({f'signal {-code}' if code < 0 else f'exit code {code}'}) before it was done"
    )


def _check_targets(place: Place, order: Order) -> None:
    members = {slot.member.experiment: slot.member for slot in order.slots}
    for member in members.values():
        target = member.target
        if target is None or target.experiment in members:
            continue
        key = partition_of(target.experiment, target.arm.iterations)
        if place.lake.ledger.current("policy_evaluation", key) is None:
            raise VlawError(
                f"{member.experiment} runs until it matches {target.experiment}, which is not complete",
                where=f"study {member.study.name}",
                remedy=f"Run arm {target.arm.recipe} too: leave it in --only.",
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
