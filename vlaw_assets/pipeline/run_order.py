"""In which order queued runs begin: the iterations of an experiment one after the other.

Dagster does not know that iteration 02 reads what 01 leaves (loop_state.py): a backfill over both asks for both at
once. So each run gets two tags when it enters the queue: its experiment, of which dagster.yaml lets one run at a time
begin, and a priority, by which earlier iterations come first. A backfill enters its runs one by one, in any order: one
whose iteration before is yet to come is held until that is there. A run that `vlaw run` executes is in no queue: for
that one the next iteration waits before its first step. Where 02 begins before 01 was asked for, it is refused.
"""

from __future__ import annotations

import time

import dagster as dg

from vlaw_assets.partitions import partition_of, split_partition
from vlaw_assets.pipeline.progress import SAY_S

EXPERIMENT = "experiment"
"""Run tag; dagster.yaml limits how many runs of one value there are at a time."""
PARTITION, PRIORITY, BACKFILL = "dagster/partition", "dagster/priority", "dagster/backfill"
HELD = ".dagster/vlaw_held"
"""Run tag; dagster.yaml lets none begin where it is YES."""
YES, NO = "yes", "no"
ASKED = tuple(status for status in dg.DagsterRunStatus if status != dg.DagsterRunStatus.NOT_STARTED)
BEGUN = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
LOOK_S = 2.0


class InOrder(dg.QueuedRunCoordinator):
    """Dagster's queue, which also knows what comes after what. Named in dagster.yaml."""

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        ordered = order_tags(run)
        tags = {key: value for key, value in ordered.items() if key not in run.tags}
        if ordered and (held := before_is_to_come(self._instance, run)) != (run.tags.get(HELD) == YES):
            tags[HELD] = YES if held else NO  # one that is run again has the tags of the one before
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        submitted = super().submit_run(context)
        if ordered:
            free_what_waited(self._instance, run)
        return submitted


def limit(instance: dg.DagsterInstance, pool: str) -> None:
    """Gives a pool the limit of dagster.yaml, unless it has one. Dagster does so when it first finds a run of it in the
    queue, and counts from its next look on: all that are in the queue at the first would begin at once."""
    if pool not in instance.event_log_storage.get_concurrency_keys():
        instance.event_log_storage.initialize_concurrency_limit_to_default(pool)


def order_tags(run: dg.DagsterRun) -> dict[str, str]:
    """The tags by which the queue orders a run; none for one that is no iteration."""
    experiment, iteration = split_partition(run.tags.get(PARTITION, ""))
    return {EXPERIMENT: experiment, PRIORITY: str(-iteration)} if iteration else {}


def before_is_to_come(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the backfill that a run is of has yet to ask for the iteration before, or one that this one waits for."""
    experiment, iteration = split_partition(run.tags.get(PARTITION, ""))
    backfill = instance.get_backfill(run.tags[BACKFILL]) if iteration > 1 and BACKFILL in run.tags else None
    if backfill is None or backfill.status.value != "REQUESTED":
        return False
    of_assets = backfill.asset_backfill_data  # of a job a backfill has names, of assets a subset for each
    subsets = of_assets.target_subset.partitions_subsets_by_asset_key.values() if of_assets else ()
    wanted = {*(backfill.partition_names or ()), *(key for subset in subsets for key in subset.get_partition_keys())}
    before = partition_of(experiment, iteration - 1)
    asked = dg.RunsFilter(tags={PARTITION: before, BACKFILL: backfill.backfill_id}, statuses=list(ASKED))
    free = (other for other in instance.get_runs(asked) if other.tags.get(HELD) != YES)
    return before in wanted and next(free, None) is None


def free_what_waited(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Lets the runs in the queue begin that were held for this one, which is in it now."""
    experiment = split_partition(run.tags.get(PARTITION, ""))[0]
    held = dg.RunsFilter(tags={EXPERIMENT: experiment, HELD: YES}, statuses=[dg.DagsterRunStatus.QUEUED])
    for other in sorted(instance.get_runs(held), key=lambda held: split_partition(held.tags[PARTITION])[1]):
        if not before_is_to_come(instance, other):
            instance.add_run_tags(other.run_id, {HELD: NO})


def begins(run: dg.DagsterRun) -> str:
    """The partition that a run begins with its state; '' for one that goes on in the midst of an iteration, or is
    none."""
    if run.asset_selection and dg.AssetKey("loop_state") not in run.asset_selection:
        return ""
    return run.tags.get(PARTITION, "")


def wait_for_the_one_before(instance: dg.DagsterInstance, partition: str, log: dg.DagsterLogManager) -> None:
    """Returns once no run of the iteration before is at work; at once where none is, whether or not there ever was."""
    from vlaw_assets.pipeline.liveness import is_dead

    experiment, iteration = split_partition(partition)
    if iteration < 2:
        return
    before, begun, said = partition_of(experiment, iteration - 1), time.monotonic(), float("-inf")
    wanted = dg.RunsFilter(tags={PARTITION: before}, statuses=list(BEGUN))
    while runs := [other for other in instance.get_runs(wanted) if not is_dead(instance, other)]:
        if time.monotonic() - said >= SAY_S:
            said = time.monotonic()
            log.info(f"waiting for {before}, run {runs[0].run_id[:8]}, since {said - begun:.0f} s")
        time.sleep(LOOK_S)
