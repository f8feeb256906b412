"""Sensors: one that keeps the partitions as the recipes are, one that goes on from iteration to iteration."""

from __future__ import annotations

import dagster as dg

from vlaw_assets.once import asking
from vlaw_assets.partitions import partition_of, split_partition
from vlaw_assets.pipeline import partitions
from vlaw_assets.pipeline.resources import Workplace
from vlaw_models.errors import VlawError

REPORT = dg.AssetKey("iteration_report")
AT_ONCE = 100
"""Reports that one tick looks at; the next one goes on from there."""


def recipes_sensor() -> dg.SensorDefinition:
    """On by default: it starts no run."""

    @dg.sensor(
        name="recipes",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps the partitions as the recipes are: a new recipe's iterations appear, those of a recipe that "
        "is gone go away unless something was made of them. Starts nothing.",
    )
    def recipes(context: dg.SensorEvaluationContext, workplace: dg.ResourceParam[Workplace]) -> dg.SensorResult:
        there = context.instance.get_dynamic_partitions(str(partitions.LOOP.name))
        with asking():
            new = [key for key in partitions.of_recipes(workplace.recipes_folder) if key not in set(there)]
            gone = partitions.without_recipe(there, workplace.recipes_folder)
        if gone:
            gone = sorted({*gone} - {*partitions.made(context.instance)})
        return dg.SensorResult(
            dynamic_partitions_requests=[
                partitions.LOOP.build_add_request(new),
                partitions.LOOP.build_delete_request(gone),
            ]
            if new or gone
            else [],
            skip_reason=None if new or gone else dg.SkipReason("the partitions are as the recipes are"),
        )

    return recipes


def advance_sensor(job: dg.UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """Off by default. The report is an iteration's last asset: what the promotion gate asks for is measured by then.

    Why a sensor and not an automation condition: the edge from one iteration to the next is not declared
    (loop_state.py), so no partition mapping can express it.
    """

    @dg.sensor(
        job=job,
        name="advance",
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="When an iteration has its report, asks for the next one of its experiment, once, until the "
        "recipe's last. Turned on, it also takes up what was reported before.",
    )
    def advance(context: dg.SensorEvaluationContext, workplace: dg.ResourceParam[Workplace]) -> dg.SensorResult:
        """Every report since the last tick, oldest first: the cursor is the number of the last one looked at."""
        found = context.instance.fetch_materializations(
            dg.AssetRecordsFilter(REPORT, after_storage_id=int(context.cursor or 0)), limit=AT_ONCE, ascending=True
        ).records
        if not found:
            return dg.SensorResult(skip_reason=dg.SkipReason("no new report"))
        requests, done = dict[str, dg.RunRequest](), list[str]()
        with asking():
            for key in dict.fromkeys(record.partition_key for record in found if record.partition_key):
                following = _following(key, workplace)
                if isinstance(following, str):
                    # By the run key Dagster asks once for an iteration, also if it is reported on again.
                    requests[following] = dg.RunRequest(run_key=following, partition_key=following)
                else:
                    done.append(str(following.skip_message))
        return dg.SensorResult(
            run_requests=list(requests.values()),
            dynamic_partitions_requests=[partitions.LOOP.build_add_request(list(requests))] if requests else [],
            skip_reason=None if requests else dg.SkipReason("; ".join(done)),
            cursor=str(found[-1].storage_id),
        )

    return advance


def _following(key: str, workplace: Workplace) -> str | dg.SkipReason:
    """The partition to ask for after this one, or why there is none."""
    experiment, iteration = split_partition(key)
    try:
        recipe = workplace.recipe(experiment)
    except VlawError as error:
        return dg.SkipReason(str(error))
    last = recipe.iterations
    if recipe.rollouts.source == "inbox":
        return dg.SkipReason(f"{experiment} waits for its recordings: that is the business of the sensor inbox")
    if iteration >= last:
        return dg.SkipReason(f"{experiment} is done: it has {last} iterations")
    following = partition_of(experiment, iteration + 1)
    if workplace.open_lake().ledger.current(str(REPORT.path[-1]), following) is not None:
        return dg.SkipReason(f"{following} is done")
    return following
