"""Making a Dagster asset of a stage: its specs, and what Dagster records of a run of it.

This file does without `from __future__ import annotations`: Dagster resolves the types of an asset's parameters.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from vlaw_assets.assets.catalogue import described, references
from vlaw_assets.assets.making import STAGES, Making, P, nothing
from vlaw_assets.assets.outside import recorded_episodes, recorded_statistics
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.work import Work
from vlaw_assets.pipeline import mirror, page, progress
from vlaw_assets.pipeline.checks import Finding
from vlaw_assets.pipeline.code_identity import code_digest
from vlaw_assets.pipeline.partitions import LOOP
from vlaw_assets.pipeline.resources import Workplace
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    pass

POOL = "accelerator"
"""Pool of the stages that run a model or the simulator: one at a time, since each wants the whole machine."""


GROWN_S = 30.0
"""How long the page of an asset shows the same curve of a loss, at least."""


class StageConfig(dg.Config):
    """What a person may set for one asset in the launchpad."""

    force: bool = False
    """Compute again, although an artifact with the same inputs, code and recipe is in the ledger."""


def stage_asset(
    asset: str,
    about: str,
    *,
    plan: Callable[[Stage], P],
    make: Callable[[Stage, P, Work], None],
    check: Callable[[Stage, P, Work], None] = nothing,
    after: Callable[[Stage, P, Work], None] = nothing,
    group: str,
    deps: Sequence[str] = (),
    checks: Sequence[str] = (),
    kinds: Sequence[str] = (),
    pool: str | None = None,
) -> dg.AssetsDefinition:
    """The Dagster asset of a stage (see `Making` for its functions), which is in `STAGES` from then on.

    Its code version is what the module of `make` can reach by imports (code_identity.py). `checks` name the findings
    that it notes: blocking asset checks, evaluated before the commit. A VlawError becomes a failure of the step with
    that message and no retries.

    Args:
        about: what a person reads about the asset, one or two sentences.
    """
    partitions_def = None if group == "foundation" else LOOP
    making = STAGES[asset] = Making(code_digest(make.__module__), plan, make, check, after, tuple(deps))

    @dg.asset(
        name=asset,
        group_name=group,
        partitions_def=partitions_def,
        deps=[_edge(dep, partitions_def) for dep in deps],
        code_version=making.code[:16],
        pool=pool,
        kinds=set(kinds),
        description=about,
        check_specs=_check_specs(asset, checks, partitions_def),
        metadata=references(make),
        **described(asset),
    )
    def body(
        context: dg.AssetExecutionContext, config: StageConfig, workplace: dg.ResourceParam[Workplace]
    ) -> Iterator[Any]:
        partition = context.partition_key if context.has_partition_key else ""
        findings: list[Finding] = []
        progress.tell(asset, str(partition), 0, 0, "begins")
        ending = progress.FAILED
        try:
            with progress.Reporter(asset, str(partition), context.log.info) as reporter:
                stage = Stage(
                    workplace.open_lake(),
                    workplace,
                    asset,
                    str(partition),
                    force=config.force,
                    run_id=context.run.run_id,
                    log=context.log,
                    progress=reporter,
                    grown=growing(context, asset, str(partition)),
                    findings=findings,
                    context=context,
                )
                work = making.run(stage)
            ending = progress.MADE if work.reused is None else progress.REUSED
            result = _result(stage, work)
        except dg.DagsterExecutionInterruptedError:
            from vlaw_assets.pipeline import liveness

            liveness.cancel(context.instance, context.run.run_id)
            raise
        except Exception as error:
            # A full or read-only disk is no defect, whichever library met it.
            from vlaw_assets.lake import disk

            known = error if isinstance(error, VlawError) else disk.named(error, where=asset)
            if known is None:
                raise
            noted = {finding.name for finding in findings}
            yield from _check_results(findings, [name for name in checks if name in noted])
            raise dg.Failure(
                description=f"{asset} [{partition or 'foundation'}]: {known}", allow_retries=False
            ) from error
        finally:
            progress.tell(asset, str(partition), 1, 1, ending)
        yield from _check_results(findings, checks)
        yield result

    return body


def growing(context: dg.AssetExecutionContext, asset: str, partition: str) -> Callable[[Sequence[float]], None]:
    """Puts the loss of a training so far on the asset's page, not more often than a person would look."""
    told = time.monotonic()

    def tell(losses: Sequence[float]) -> None:
        nonlocal told
        if time.monotonic() - told >= GROWN_S:
            context.log_event(page.growing(asset, partition, losses))
            told = time.monotonic()

    return tell


def _edge(asset: str, partitions_def: dg.PartitionsDefinition | None) -> dg.AssetDep:
    """Of the graph. Which recording an iteration reads, its recipe says: to Dagster it is none, or a backfill would
    look for one that has the iteration's name."""
    recordings = {spec.key.to_user_string() for spec in (recorded_episodes, recorded_statistics)}
    if partitions_def is None or asset not in recordings:
        return dg.AssetDep(asset)
    return dg.AssetDep(asset, partition_mapping=dg.SpecificPartitionsPartitionMapping([]))


def _check_specs(
    asset: str, names: Sequence[str], partitions_def: dg.PartitionsDefinition | None
) -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # partitions of checks: the release is pinned
        return [dg.AssetCheckSpec(name, asset=asset, blocking=True, partitions_def=partitions_def) for name in names]


def _result(stage: Stage, work: Work) -> dg.MaterializeResult:
    """What Dagster records of the commit: its page (pipeline/page.py); the ledger is the truth."""
    ref = work.ref
    if work.reused is not None:
        stage.findings += [
            Finding(name, f["passed"], f"{f['text']} (when it was first committed)", f["blocking"])
            for name, f in ref.metrics.get("checks", {}).items()
        ]
        made = stage.ledger.get(ref.owner)
        stage.log.info(
            f"{stage.asset} is reused: nothing was computed, {made.name} of {made.created_at:%Y-%m-%d %H:%M} has the "
            f"same inputs, code and recipe"
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(mirror.data_version_of(ref)),
        metadata=page.page_of(stage.lake, ref, reused=work.reused is not None),
    )


def _check_results(findings: Sequence[Finding], names: Sequence[str]) -> Iterator[dg.AssetCheckResult]:
    """One result per declared check; a check that the function did not need (nothing to look at) passes."""
    found = {finding.name: finding for finding in findings}
    for name in names:
        finding = found.get(name, Finding(name, passed=True, text="nothing to check"))
        yield dg.AssetCheckResult(
            check_name=name,
            passed=finding.passed,
            description=finding.text,
            metadata=finding.metadata,
            severity=dg.AssetCheckSeverity.ERROR if finding.blocking else dg.AssetCheckSeverity.WARN,
        )
