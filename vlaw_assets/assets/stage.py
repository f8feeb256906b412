"""What every asset body shares: opening its inputs, committing once, reporting to Dagster.

Here: `@stage_asset`, which makes a Dagster asset of a function of a `Stage`; `Stage`, the asset partition being made;
`Work`, its draft in the lake. Not here: what any stage does. An asset body is

    with stage.commit("kind", recipe={...}, parents={"role": ref}) as work:
        if work.wanted:                     # nothing with this identity is in the ledger
            inputs = work.read("role")      # reading is what makes an edge
            ... one call of vlaw_models; work.check(finding) raises before anything is visible ...
    return stage.result(work)

This file does without `from __future__ import annotations`: Dagster resolves the types of an asset's parameters.
"""

import contextlib
import functools
import inspect
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from vlaw_assets.assets.by_row import goes_by_row
from vlaw_assets.pipeline import checks, mirror, progress
from vlaw_assets.pipeline.checks import Finding
from vlaw_assets.pipeline.code_identity import code_digest, code_revision, made_with
from vlaw_assets.pipeline.partitions import split_key
from vlaw_assets.pipeline.resources import Workplace
from vlaw_assets.recipes import Foundation, Recipe, canonical
from vlaw_models.errors import VlawError

POOL = "accelerator"
"""Pool of the stages that run a model or the simulator: one at a time, since each wants the whole machine."""

BODIES: dict[str, tuple[Callable[["Stage"], dg.MaterializeResult], str]] = {}
"""Asset -> (function, code digest) of every stage asset that was defined: what `identity_today` asks."""


class IdentityKnown(Exception):  # noqa: N818 (an answer, not an error)
    """Ends a stage that was only asked what it would make: its identity, and its parents by role."""

    def __init__(self, identity: Any, parents: Mapping[str, Any]):
        super().__init__(identity.digest)
        self.identity, self.parents = identity, parents


class StageConfig(dg.Config):
    """What a person may set for one asset in the launchpad."""

    force: bool = False
    """Compute again, although an artifact with the same inputs, code and recipe is in the ledger."""


@dataclass
class Work:
    """One artifact in the making: the lake's draft, its named parents and what the checks found."""

    draft: Any
    parents: Mapping[str, Any]
    findings: list[Finding] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    """Title -> PNG. They go into the lake with the commit; Dagster's log gets previews."""
    texts: dict[str, str] = field(default_factory=dict)
    """Title -> Markdown for the asset's page, a few KB at most."""

    @property
    def wanted(self) -> bool:
        """False where the ledger has this very artifact: then there is nothing to do."""
        return self.draft.reused is None

    def read(self, role: str, *, by_row: bool | None = None) -> Any:
        """A handle on the parent of that role; recorded as an edge, of the scope that by_row.py gives it by default."""
        by_row = goes_by_row(self.draft.asset, role) if by_row is None else by_row
        return self.draft.read(self.parents[role], role=role, by_row=by_row)

    def check(self, *findings: Finding) -> None:
        """Notes findings; a blocking one that failed raises VlawError, so that nothing is committed."""
        self.findings += findings
        for finding in findings:
            if finding.blocking and not finding.passed:
                raise VlawError(
                    f"check '{finding.name}' failed: {finding.text}",
                    where="before the commit: nothing was written",
                    remedy=finding.remedy,
                )

    def pass_on(self, role: str) -> None:
        """Makes the parent's checkpoint this artifact's own: same files, same digest, one more line in the ledger."""
        source, target = self.read(role).checkpoint(), self.draft.checkpoint_dir()
        shutil.copytree(source, target, dirs_exist_ok=True)
        self.metrics["passed_on"] = True

    def learned(self, log: Mapping[str, Any]) -> None:
        """Keeps what a finetuning stage returned: a blocking check on its losses, and their curve."""
        from vlaw_assets.reports.plots import loss_curve

        losses = [float(loss) for loss in log.get("losses", [])]
        self.check(checks.numbers_finite(losses, what="losses"))
        self.metrics |= log
        if losses:
            self.show_png("loss", loss_curve(losses))

    def show(self, title: str, episodes: Sequence[Any], columns: int = 6) -> None:
        """Keeps a contact sheet of some episodes for the asset's page."""
        if episodes:
            from vlaw_models.pictures import contact_sheet, png_bytes

            self.show_png(title, png_bytes(contact_sheet(list(episodes), columns=columns, scale=1)))

    def show_png(self, title: str, png: bytes) -> None:
        """Keeps a picture for the asset's page. Call it before the commit: the ledger row names it."""
        self.pictures[title] = png


@dataclass
class Stage:
    """The asset partition that is being made."""

    context: Any
    workplace: Workplace
    lake: Any
    asset: str
    code: str
    partition: str
    force: bool
    findings: list[Finding] = field(default_factory=list)
    asked: bool = False
    """Only asked what it would make: `commit` raises IdentityKnown instead of making it."""
    occurring: Mapping[str, set[str]] | None = None
    """Where quarantined episodes occur, if the asker knows it already (`quarantine.occurrences`)."""
    required: list[Any] = field(default_factory=list)
    """The artifacts that were asked for by `require`, in order."""

    @property
    def ledger(self) -> Any:
        return self.lake.ledger

    @property
    def experiment(self) -> str:
        return split_key(self.partition)[0]

    @property
    def iteration(self) -> int:
        return split_key(self.partition)[1]

    @functools.cached_property
    def recipe(self) -> Recipe:
        return self.workplace.recipe(self.experiment)

    @functools.cached_property
    def foundation(self) -> Foundation:
        return self.workplace.foundation()

    @property
    def seed(self) -> int:
        """Seed of this iteration's training and sampling: the recipe's, moved on with the iteration."""
        return self.recipe.seed * 1000 + self.iteration

    @property
    def progress(self) -> Callable[[int, int, str], None]:
        return progress.reporter(self.asset, self.partition, self.context.log.info)

    def require(self, asset: str) -> Any:
        """The current artifact of an asset of this partition. Raises VlawError naming what to materialize."""
        self.required.append(self.ledger.require(asset, self.partition))
        return self.required[-1]

    def require_foundation(self, asset: str) -> Any:
        self.required.append(self.ledger.require(asset, ""))
        return self.required[-1]

    @contextlib.contextmanager
    def commit(
        self, kind: str, *, recipe: Mapping[str, Any], parents: Mapping[str, Any], chosen_by: Any = None
    ) -> Iterator[Work]:
        """The draft of this asset partition; leaving the block commits it, an exception leaves nothing behind.

        Its identity is `kind`, the code digest, `recipe` and the content digests of `parents`: the experiment's name is
        not in it, so experiments that agree share the artifact. Episodes in quarantine are left out of every parent.

        Args:
            chosen_by: the LoopState that models among the parents were taken from; None where none was.
        """
        from vlaw_assets.lake import Identity
        from vlaw_assets.lake.claim import claimed
        from vlaw_assets.lake.quarantine import without_quarantined

        identity = Identity(
            kind=kind,
            code=self.code,
            recipe=canonical(dict(recipe)),
            parents=tuple(sorted((role, ref.content_digest) for role, ref in parents.items())),
        )
        identity, listed = without_quarantined(
            self.lake, identity, parents.values(), force=self.force, occurring=self.occurring
        )
        if self.asked:
            raise IdentityKnown(identity, parents)
        run_id = self.context.run.run_id
        claim = claimed(
            self.lake, identity, holder=run_id, waiting=lambda text: self.progress(0, 1, text), force=self.force
        )
        with (
            claim,
            self.lake.commit(
                asset=self.asset,
                partition=self.partition,
                identity=identity,
                run_id=run_id,
                force=self.force,
                code_revision=code_revision(),
            ) as draft,
        ):
            if listed is not None:
                draft.leave_out(listed)
            draft.stands_on(parents, state=chosen_by.ref if chosen_by else None)
            work = Work(draft, parents)
            work.findings = self.findings
            yield work
            if work.wanted:
                noted = {f.name: {"passed": f.passed, "text": f.text, "blocking": f.blocking} for f in work.findings}
                left_out = {"excluded": len(identity.excluded)} if identity.excluded else {}
                for title, png in work.pictures.items():
                    draft.keep_picture(title, png)
                draft.set_metrics({**work.metrics, **left_out, "checks": noted, "made_with": made_with()})

    def result(self, work: Work, **metadata: Any) -> dg.MaterializeResult:
        """What Dagster records of the commit: versions, digests, counts and pictures; the ledger is the truth."""
        ref = work.draft.ref
        reused = work.draft.reused is not None
        if reused:
            noted = ref.metrics.get("checks", {})
            self.findings += [
                Finding(name, f["passed"], f"{f['text']} (when it was first committed)", f["blocking"])
                for name, f in noted.items()
            ]
        shown = {
            **mirror.pictures_of(self.lake, ref),
            **{title: dg.MetadataValue.md(text) for title, text in work.texts.items()},
        }
        return dg.MaterializeResult(
            data_version=dg.DataVersion(mirror.data_version_of(ref)),
            metadata={**mirror.metadata_of(self.lake, ref), "vlaw/reused": reused, **shown, **metadata},
        )


def stage_asset(
    *,
    group: str,
    deps: Sequence[str] = (),
    checks: Sequence[str] = (),
    kinds: Sequence[str] = (),
    pool: str | None = None,
    name: str | None = None,
) -> Callable[[Callable[[Stage], dg.MaterializeResult]], dg.AssetsDefinition]:
    """Makes a Dagster asset of a function of a `Stage`.

    Its code version is what the function's module can reach by imports (code_identity.py). `checks` name the findings
    the function notes: blocking asset checks, evaluated before the commit. A VlawError becomes a failure of the step
    with that message and no retries.
    """

    def decorate(function: Callable[[Stage], dg.MaterializeResult]) -> dg.AssetsDefinition:
        asset = name or function.__name__
        code = code_digest(function.__module__)
        BODIES[asset] = function, code

        @dg.asset(
            name=asset,
            group_name=group,
            deps=list(deps),
            code_version=code[:16],
            pool=pool,
            kinds=set(kinds),
            description=inspect.getdoc(function),
            check_specs=[dg.AssetCheckSpec(check, asset=asset, blocking=True) for check in checks],
        )
        def body(context: dg.AssetExecutionContext, config: StageConfig, workplace: dg.ResourceParam[Workplace]):
            partition = context.partition_key if context.has_partition_key else ""
            findings: list[Finding] = []
            progress.tell(asset, str(partition), 0, 0, "begins")
            ending = progress.FAILED
            try:
                stage = Stage(
                    context, workplace, workplace.open_lake(), asset, code, str(partition), config.force, findings
                )
                result = function(stage)
                ending = progress.REUSED if result.metadata["vlaw/reused"] else progress.MADE
            except Exception as error:
                # A full or read-only disk is no defect, whichever library met it.
                from vlaw_assets.lake import disk

                told = error if isinstance(error, VlawError) else disk.named(error, where=asset)
                if told is None:
                    raise
                yield from _check_results(findings, [f.name for f in findings if f.name in checks])
                raise dg.Failure(
                    description=f"{asset} [{partition or 'foundation'}]: {told}", allow_retries=False
                ) from error
            finally:
                progress.tell(asset, str(partition), 1, 1, ending)
            yield from _check_results(findings, checks)
            yield result

        return body

    return decorate


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
