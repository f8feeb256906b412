"""Jobs: one iteration of one experiment, and the foundation it stands on. (first_look.py: both, of the smallest.)"""

from __future__ import annotations

import dagster as dg

ITERATION_DESCRIPTION = """One iteration of one experiment, from loop_state to iteration_report: choose its partition.

It needs the job `foundation` once, and the iteration before. From a shell, for partition 'vlaw|01' and with the
foundation: `vlaw run --experiment vlaw --iterations 1`.
"""


def iteration_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        "iteration", selection=dg.AssetSelection.groups("iteration", "evaluation"), description=ITERATION_DESCRIPTION
    )


def foundation_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        "foundation",
        selection=dg.AssetSelection.groups("foundation"),
        description="Scripted corpora and pretrained weights: what every experiment starts from. About a minute, and "
        "some more for near_success, which only recipes with world_model.near_success = true need.",
    )
