"""Jobs: one iteration of one experiment, and the foundation it stands on."""

from __future__ import annotations

import dagster as dg

ITERATION_SELECTION = "group:iteration or group:evaluation"
FOUNDATION_SELECTION = "group:foundation"

ITERATION_DESCRIPTION = """One iteration of one experiment, from loop_state to iteration_report.

The same from a shell, for partition 'vlaw|01' (the foundation once, before the first iteration):

    dagster asset materialize -m vlaw_assets.definitions --select 'group:foundation'
    dagster asset materialize -m vlaw_assets.definitions --select 'group:iteration or group:evaluation' \\
        --partition 'vlaw|01'

or `vlaw run --experiment vlaw --iterations 1`, which does both.
"""


def iteration_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        "iteration", selection=dg.AssetSelection.groups("iteration", "evaluation"), description=ITERATION_DESCRIPTION
    )


def foundation_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        "foundation",
        selection=dg.AssetSelection.groups("foundation"),
        description="Scripted corpora and pretrained weights: what every experiment starts from.",
    )
