"""The partitions of the loop in Dagster: iterations of experiments, "vlaw|01".

They are dynamic, kept in the instance: those of every recipe are there from the start of the UI, each with as many
iterations as it has; a study's appear when it is run. All loop assets have the same ones, so that one run is one
iteration of one experiment. (A product of two dimensions would offer iterations that a recipe does not have.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import dagster as dg

from vlaw_assets.once import asking
from vlaw_assets.partitions import partition_of, split_partition
from vlaw_assets.recipes import find_recipe
from vlaw_assets.recipes.loading import well_named
from vlaw_models.errors import VlawError

LOOP = dg.DynamicPartitionsDefinition(name="iteration")
FIRST = ("vlaw", "smoke")
"""Experiments whose partitions come first in the UI, which shows them in the order in which they were added."""
PLOTTED = 120
"""Partitions that the UI plots an asset's numbers of: those that were added last."""


def register(instance: dg.DagsterInstance, keys: Iterable[str]) -> None:
    """Adds the partitions that the instance does not have."""
    assert LOOP.name is not None
    there = set(instance.get_dynamic_partitions(LOOP.name))
    added = [key for key in dict.fromkeys(keys) if key not in there]
    if added:
        instance.add_dynamic_partitions(LOOP.name, added)


def of_recipes(folder: Path | None) -> list[str]:
    """The partitions of every recipe; a faulty one has none (`vlaw doctor` says why)."""
    names = well_named(folder)
    ordered = [*(name for name in FIRST if name in names), *sorted(set(names) - set(FIRST))]
    return [key for name in ordered for key in _of(name, folder)]


def made(instance: dg.DagsterInstance) -> list[str]:
    """The partitions that Dagster has seen something of: every iteration begins with its state."""
    return sorted(instance.get_materialized_partitions(dg.AssetKey("loop_state")))


def prepare(instance: dg.DagsterInstance, folder: Path | None) -> None:
    """What is there when the UI starts: every recipe's, and what was made under a recipe that is gone."""
    done = made(instance)
    with asking():
        register(instance, [*of_recipes(folder), *done])
    _plot(instance, done)


def _plot(instance: dg.DagsterInstance, done: Collection[str]) -> None:
    """Where there are more than the UI plots, those of which something was made become the last ones, FIRST among them:
    a plot of what was not made is empty."""
    assert LOOP.name is not None
    there = instance.get_dynamic_partitions(LOOP.name)
    last = sorted({*there} & {*done}, key=lambda key: (split_partition(key)[0] in FIRST, there.index(key)))
    plotted = [*(key for key in there if key not in done), *last][-PLOTTED:]
    if {*plotted} & {*done} <= {*there[-PLOTTED:]}:
        return
    for key in last:
        instance.delete_dynamic_partition(LOOP.name, key)
    instance.add_dynamic_partitions(LOOP.name, last)


def without_recipe(keys: Iterable[str], folder: Path | None) -> list[str]:
    """Those that no recipe has, or no longer; also what a person typed that names no iteration."""
    return [key for key in keys if key not in _of(split_partition(key)[0], folder)]


def _of(experiment: str, folder: Path | None) -> list[str]:
    """The partitions of an experiment; none if there is no recipe of that name."""
    try:
        last = find_recipe(experiment, folder).iterations
    except VlawError:
        return []
    return [partition_of(experiment, number) for number in range(1, last + 1)]
