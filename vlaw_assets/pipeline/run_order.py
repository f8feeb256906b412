"""In which order queued runs begin: the iterations of an experiment one after the other.

Dagster does not know that iteration 02 reads what 01 leaves (loop_state.py): a backfill over both asks for both at
once. So each run gets two tags when it enters the queue: its experiment, of which dagster.yaml lets one run at a time
begin, and a priority, by which earlier iterations come first. A run that `vlaw run` executes is in no queue: for that
one the next iteration waits before its first step. Where 02 begins before 01 was asked for, it is refused.
"""

from __future__ import annotations

import time

import dagster as dg

from vlaw_assets.partitions import partition_of, split_partition
from vlaw_assets.pipeline.progress import SAY_S

EXPERIMENT = "experiment"
"""Run tag; dagster.yaml limits how many runs of one value there are at a time."""
PARTITION, PRIORITY = "dagster/partition", "dagster/priority"
BEGUN = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
LOOK_S = 2.0


class InOrder(dg.QueuedRunCoordinator):
    """Dagster's queue, which also knows what comes after what. Named in dagster.yaml."""

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        tags = {key: value for key, value in order_tags(run).items() if key not in run.tags}
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)


def order_tags(run: dg.DagsterRun) -> dict[str, str]:
    """The tags by which the queue orders a run; none for one that is no iteration."""
    experiment, iteration = split_partition(run.tags.get(PARTITION, ""))
    return {EXPERIMENT: experiment, PRIORITY: str(-iteration)} if iteration else {}


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
