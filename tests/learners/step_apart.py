"""The world model of smoke|01 once more, in a process that Dagster's multiprocess executor starts for the step:
`python step_apart.py`."""

from __future__ import annotations

import os

import dagster as dg

from vlaw_assets.definitions import build_defs


def iteration() -> dg.JobDefinition:
    defs = build_defs(lake=os.environ["VLAW_LAKE"], recipes=os.environ["VLAW_RECIPES"])
    apart = dg.Definitions(
        assets=defs.assets, jobs=defs.jobs, resources=defs.resources, executor=dg.multiprocess_executor
    )
    return apart.resolve_job_def("iteration")


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        dg.execute_job(
            dg.reconstructable(iteration),
            instance,
            run_config={"ops": {"world_model": {"config": {"force": True}}}},
            asset_selection=[dg.AssetKey("world_model")],
            tags={"dagster/partition": "smoke|01"},
            raise_on_error=True,
        )
