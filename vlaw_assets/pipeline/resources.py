"""The resource of the assets: where the lake and the recipes are.

Two paths, and opening what lies there. They are no part of a run's configuration: who may start a run may not choose
where it reads and writes. No environment variable is read here (definitions.py reads them, so that a test passes
folders and nothing else). The lake is imported when it is first opened: loading the definitions must stay as quick as
Dagster itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from vlaw_assets.recipes import find_recipe, load_foundation
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_assets.recipes.schema import Foundation, Recipe


@dataclass(frozen=True)
class Workplace:
    """Where a run reads and writes."""

    lake: str
    """Folder of the lake; created on first use."""
    recipes: str = ""
    """Folder of the user's own recipes; empty for the packaged ones only."""
    inbox: str = ""
    """Folder that recordings are dropped into; empty for `inbox/` in the lake's folder."""
    engine: str = ""
    """Where heavy parts run (engines/settings.py); empty for this process."""

    def open_lake(self) -> Lake:
        """The lake. Raises VlawError where the folder is not writable or not a lake of ours."""
        from vlaw_assets.lake import Lake

        return Lake.open(self.lake, create=True)

    def recipe(self, experiment: str) -> Recipe:
        return find_recipe(experiment, self.recipes_folder)

    def foundation(self) -> Foundation:
        return load_foundation(self.recipes_folder)

    @cached_property
    def recipes_folder(self) -> Path | None:
        return Path(self.recipes) if self.recipes else None


def workplace_resource(
    place: Workplace, refuse: Callable[[Workplace, str, Collection[str]], None]
) -> dg.ResourceDefinition:
    """The resource of all assets. Dagster makes it in the process of a run before the first step: there the run's lock
    is taken, the iteration before waited for, and refused what cannot be made.

    A run that is refused, or is ended while it waits, ends as canceled.

    Args:
        refuse: raises VlawError for a partition of which these assets (none: all) cannot be made.
    """

    def make(context: dg.InitResourceContext) -> Workplace:
        from vlaw_assets.pipeline import liveness, run_order

        if context.run and context.instance and context.log:  # a sensor has no run
            try:
                liveness.begin(context.instance, context.run.run_id, place.lake)
                if partition := run_order.begins(context.run):
                    run_order.wait_for_the_one_before(context.instance, partition, context.log)
                if partition := context.run.tags.get(run_order.PARTITION, ""):
                    refuse(place, partition, [key.to_user_string() for key in context.run.asset_selection or ()])
            except dg.DagsterExecutionInterruptedError:
                liveness.cancel(context.instance, context.run.run_id)
                raise
            except VlawError as error:
                context.log.error(str(error))  # a line of the run's log; the failure is folded away in it
                liveness.cancel(context.instance, context.run.run_id, "It is refused before its first step.")
                raise dg.Failure(description=str(error), allow_retries=False) from error
        return place

    return dg.ResourceDefinition(make, config_schema={}, description="Where the lake and the recipes are.")


def no_values() -> dg.IOManagerDefinition:
    """In place of Dagster's I/O manager, whose folder a run's configuration could name: assets hand on nothing but by
    the lake."""
    return dg.IOManagerDefinition(lambda context: dg.InMemoryIOManager(), config_schema={}, description="Not used.")
