"""The inbox in Dagster: a job that takes recordings in, and a sensor that asks for it and for complete iterations.

The sensor only looks: reading videos takes longer than a tick may. This file does without `from __future__ import
annotations`: Dagster reads the types of an op's parameters.
"""

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from vlaw_assets.assets.outside import OUTSIDE
from vlaw_assets.once import asking
from vlaw_assets.partitions import split_partition
from vlaw_assets.pipeline.partitions import LOOP
from vlaw_assets.pipeline.resources import Workplace
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.inbox.folder import Look
    from vlaw_assets.inbox.waiting import Waiting
    from vlaw_assets.lake import ArtifactRef

JOB = "inbox"
WAIT_S = 600.0
"""How long the job waits for a `vlaw inbox` that is at work."""
AGAIN_S = 600.0
"""After how long the same recordings are tried again: what keeps them in the inbox is a full disk, for example."""
ROLLOUTS = dg.AssetKey("real_rollouts")


def inbox_job() -> dg.JobDefinition:
    @dg.op(name="take_recordings", description="Takes what is finished in the inbox into the lake: `vlaw inbox`.")
    def take_recordings(context: dg.OpExecutionContext, workplace: dg.ResourceParam[Workplace]) -> None:
        from vlaw_assets.inbox.folder import Inbox
        from vlaw_assets.inbox.take import take_in
        from vlaw_assets.pipeline.reconcile import report_outside

        lake, defs = workplace.open_lake(), dg.Definitions(assets=OUTSIDE)

        def tell(ref: "ArtifactRef") -> None:
            report_outside(lake, context.instance, defs, ref)

        try:
            report = take_in(
                lake,
                workplace,
                Inbox.open(workplace.inbox, lake.paths.root, create=True),
                run_id=context.run_id,
                told=tell,
                wait_s=WAIT_S,
            )
        except VlawError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        for name, ref in report.taken:
            context.log.info(f"{name}: taken as {ref.name}, {ref.num_rows} episodes")
        for name, refusal in report.refused:
            context.log.warning(f"{name}: refused: {refusal}")
        for name, why in report.left:
            context.log.info(f"{name}: left: {why}")
        if report.stopped:
            raise dg.Failure(description=report.stopped, allow_retries=False)

    @dg.job(
        name=JOB,
        description="Takes finished recordings out of the inbox into recorded_episodes, and refuses those that are "
        "wrong. The sensor of the same name asks for it; `vlaw inbox` does the same.",
    )
    def inbox() -> None:
        take_recordings()

    return inbox


def inbox_sensor(job: dg.JobDefinition, iteration: "dg.UnresolvedAssetJobDefinition") -> dg.SensorDefinition:
    """On by default: where nobody drops recordings it does nothing."""

    @dg.sensor(
        name="inbox",
        jobs=[job, iteration],
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for the job inbox where a finished recording lies in the inbox. When an iteration whose "
        'recipe has [rollouts] source = "inbox" has its recordings, says so on real_rollouts, and asks for the '
        'iteration if start = "when_complete".',
    )
    def inbox(context: dg.SensorEvaluationContext, workplace: dg.ResourceParam[Workplace]) -> dg.SensorResult:
        from vlaw_assets.inbox.folder import Inbox
        from vlaw_assets.inbox.waiting import waiting
        from vlaw_assets.lake import Lake

        before = json.loads(context.cursor or "{}")
        try:
            with asking():
                lake = Lake.open(workplace.lake, create=False)
                look = Inbox.open(workplace.inbox, lake.paths.root).look()
                found = waiting(lake, workplace)
        except VlawError as error:
            return dg.SensorResult(skip_reason=dg.SkipReason(str(error)))
        asked, said = before.get("asked", {}), before.get("said", {})
        requests = list(_takes(context.instance, look, asked))
        now = {item.partition: item.text for item in found if any(item.recorded.values())}
        events = [_told(item) for item in found if now.get(item.partition) not in (None, said.get(item.partition))]
        requests += [
            # By the run key Dagster asks once for an iteration.
            dg.RunRequest(run_key=f"inbox {item.partition}", job_name=iteration.name, partition_key=item.partition)
            for item in found
            if item.complete and item.recipe.rollouts.start == "when_complete"
        ]
        partitions = [request.partition_key for request in requests if request.partition_key]
        return dg.SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=[LOOP.build_add_request(partitions)] if partitions else [],
            asset_events=events,
            skip_reason=None if requests or events else dg.SkipReason("no finished recording in the inbox"),
            cursor=json.dumps({"asked": asked, "said": now}),
        )

    return inbox


def _takes(instance: dg.DagsterInstance, look: "Look", asked: dict[str, object]) -> Iterator[dg.RunRequest]:
    """A run of the job, unless one is under way or has just been asked for the very same folders; `asked` is what was
    asked for last, and is changed."""
    names = sorted(f"{dropped.name} {dropped.inode}" for dropped in look.finished)
    if not names:
        return
    under_way = [status for status in dg.DagsterRunStatus if status.value in _UNDER_WAY]
    if instance.get_runs_count(dg.RunsFilter(job_name=JOB, statuses=under_way)):
        return
    at = asked.get("at", 0.0)
    if asked.get("names") == names and isinstance(at, float) and time.time() - at < AGAIN_S:
        return
    asked |= {"names": names, "at": time.time()}
    yield dg.RunRequest(job_name=JOB)


_UNDER_WAY = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")


def _told(item: "Waiting") -> dg.AssetObservation:
    """What an iteration has by now, on the page of its real rollouts."""
    state = "complete" if item.complete else "waits for recordings"
    ask = f"vlaw run --experiment {item.recipe.name} --iterations {split_partition(item.partition)[1]}"
    return dg.AssetObservation(
        ROLLOUTS,
        partition=item.partition,
        description=f"{state}: {item.text}",
        metadata={
            "recordings": item.text,
            "state": state,
            **({"policy": f"{item.policy.name} {item.policy.content_digest[:12]}"} if item.policy else {}),
            **({"start": ask} if item.complete else {}),
        },
    )
