"""The two partition dimensions of the loop in Dagster, experiment and iteration.

Every loop asset has the same partitions, so that one run is one iteration of one experiment.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from vlaw_assets.partitions import MAX_ITERATIONS

ITERATIONS = tuple(f"{number:02d}" for number in range(1, MAX_ITERATIONS + 1))


def loop_partitions(experiments: Iterable[str]) -> dg.MultiPartitionsDefinition:
    """Experiment x iteration for the given experiments."""
    return dg.MultiPartitionsDefinition(
        {
            "experiment": dg.StaticPartitionsDefinition(sorted(experiments)),
            "iteration": dg.StaticPartitionsDefinition(list(ITERATIONS)),
        }
    )
