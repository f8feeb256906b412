"""The two partition dimensions of the loop, experiment and iteration, and their product.

Here: keys and how they are read. Not here: what an experiment is (recipes/). Every loop asset has the same
partitions, so that one run is one iteration of one experiment. Iterations are zero-padded because keys are ordered as
text; Dagster joins the dimensions in alphabetical order: "vlaw|01".
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from vlaw_assets.recipes import MAX_ITERATIONS
from vlaw_models.errors import VlawError

ITERATIONS = tuple(f"{number:02d}" for number in range(1, MAX_ITERATIONS + 1))


def loop_partitions(experiments: Iterable[str]) -> dg.MultiPartitionsDefinition:
    """Experiment x iteration for the given experiments."""
    return dg.MultiPartitionsDefinition(
        {
            "experiment": dg.StaticPartitionsDefinition(sorted(experiments)),
            "iteration": dg.StaticPartitionsDefinition(list(ITERATIONS)),
        }
    )


def partition_key(experiment: str, iteration: int) -> str:
    """The key of one iteration of one experiment, e.g. "vlaw|01". Raises VlawError for an iteration out of range."""
    if not 1 <= iteration <= MAX_ITERATIONS:
        raise VlawError(
            f"there is no iteration {iteration}",
            where=f"experiment {experiment}",
            remedy=f"Iterations go from 1 to {MAX_ITERATIONS}.",
        )
    return f"{experiment}|{iteration:02d}"


def split_key(key: str) -> tuple[str, int]:
    """("vlaw", 1) of "vlaw|01"."""
    experiment, _, iteration = key.partition("|")
    return experiment, int(iteration)
