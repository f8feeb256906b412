"""The advance sensor: when iteration_report[e|i] is made and e has iterations left, ask for [e|i+1]. Off by default.

The report is an iteration's last asset: what the promotion gate asks for is measured by then.

Why a sensor and not an automation condition: the edge from one iteration to the next is not declared (loop_state.py),
so no partition mapping can express it.
"""

from __future__ import annotations

import dagster as dg

from vlaw_assets.partitions import partition_of, split_partition
from vlaw_assets.pipeline.resources import Workplace
from vlaw_models.errors import VlawError


def advance_sensor(job: dg.UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    @dg.asset_sensor(
        asset_key=dg.AssetKey("iteration_report"),
        job=job,
        name="advance",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def advance(
        context: dg.SensorEvaluationContext, asset_event: dg.EventLogEntry, workplace: dg.ResourceParam[Workplace]
    ) -> dg.SkipReason | dg.RunRequest:
        """Requests the next iteration of an experiment when one has been reported on."""
        key = asset_event.dagster_event.partition if asset_event.dagster_event else None
        if key is None:
            return dg.SkipReason("the event has no partition")
        experiment, iteration = split_partition(str(key))
        try:
            last = workplace.recipe(experiment).iterations
        except VlawError as error:
            return dg.SkipReason(str(error))
        if iteration >= last:
            return dg.SkipReason(f"{experiment} is done: it has {last} iterations")
        following = partition_of(experiment, iteration + 1)
        # The run key makes it happen once per event, however often the sensor ticks.
        return dg.RunRequest(run_key=f"{following}:{asset_event.run_id}", partition_key=following)

    return advance
