"""Telling Dagster of what a command has committed: the event is there as soon as the artifact is, as for what runs
make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlaw_assets.cli.output import errors
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake


def tell_dagster(lake: Lake, ref: ArtifactRef) -> None:
    """Report an artifact of an outside asset. The ledger is the truth: where Dagster cannot be told, a line says so and
    all is done."""
    import dagster as dg
    from sqlalchemy.exc import SQLAlchemyError

    from vlaw_assets.assets.outside import OUTSIDE
    from vlaw_assets.pipeline.driver import open_instance
    from vlaw_assets.pipeline.reconcile import report_outside

    try:
        with open_instance() as instance:
            reported = report_outside(lake, instance, dg.Definitions(assets=OUTSIDE), ref)
            why = "" if reported else "its newest event names an artifact that this lake does not have"
    except (VlawError, OSError, SQLAlchemyError) as error:
        why = str(error).splitlines()[0]
    if why:
        errors.print(f"Dagster was not told of {ref.name} ({why}): see vlaw reconcile", markup=False, soft_wrap=True)
