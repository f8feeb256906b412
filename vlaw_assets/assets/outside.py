"""Assets that only commands and the inbox make, no run of the loop: recordings, their statistics, and lists.

They are shown in the graph, not executable. Their specs give Dagster a page for them; reconcile.py reports them, from
the ledger like everything else.
"""

from __future__ import annotations

import dagster as dg

from vlaw_assets.assets.catalogue import described

OUTSIDE_GROUP = "outside"

recorded_episodes = dg.AssetSpec(
    "recorded_episodes",
    group_name=OUTSIDE_GROUP,
    kinds={"deltalake", "lance"},
    # Named by whoever imports them: no recipe knows the names beforehand.
    partitions_def=dg.DynamicPartitionsDefinition(name="recordings"),
    description="Episodes recorded elsewhere, one partition per dataset: `vlaw import`.",
    **described("recorded_episodes"),
)
recorded_statistics = dg.AssetSpec(
    "recorded_statistics",
    group_name=OUTSIDE_GROUP,
    kinds={"deltalake"},
    partitions_def=recorded_episodes.partitions_def,
    description="Ends, mean and quantiles of every number of a recording's states and actions: made by `vlaw import`.",
    **described("recorded_statistics"),
)
quarantine = dg.AssetSpec(
    "quarantine",
    group_name=OUTSIDE_GROUP,
    kinds={"deltalake"},
    description="Episodes that no later dataset may use, the whole list in every version: `vlaw quarantine`.",
    **described("quarantine"),
)

labels = dg.AssetSpec(
    "labels",
    group_name=OUTSIDE_GROUP,
    kinds={"deltalake"},
    description="What people say of episodes, every label that was ever given in every version: `vlaw label`.",
    **described("labels"),
)

refused_recordings = dg.AssetSpec(
    "refused_recordings",
    group_name=OUTSIDE_GROUP,
    kinds={"deltalake"},
    description="Recordings that the inbox did not take, each with the reason, the whole list in every version: "
    "`vlaw inbox`.",
    **described("refused_recordings"),
)

OUTSIDE = (recorded_episodes, recorded_statistics, quarantine, labels, refused_recordings)
