"""What a stage would make, and one artifact in the making."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from vlaw_assets.assets.by_row import goes_by_row
from vlaw_assets.pipeline import checks
from vlaw_assets.pipeline.checks import Finding
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Draft, Handle
    from vlaw_assets.reports.success import Rate
    from vlaw_models.episodes import Episode

D = TypeVar("D")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a stage would make of what the ledger and the recipe say now. A stage that needs more values adds fields."""

    kind: str
    recipe: Mapping[str, Any]
    """All of the recipe that what is made depends on, seeds included: plain values."""
    parents: Mapping[str, ArtifactRef] = field(default_factory=dict)
    """Role -> artifact."""
    chosen_by: ArtifactRef | None = None
    """The loop state that models among the parents were taken from; None where none was."""


@dataclass
class Work:
    """One artifact in the making: the lake's draft, its named parents and what the checks found."""

    draft: Draft
    parents: Mapping[str, ArtifactRef]
    findings: list[Finding] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    """Title -> PNG. They go into the lake with the commit; Dagster's log gets previews."""
    pages: dict[str, str] = field(default_factory=dict)
    """Title -> HTML. They go into the lake with the commit; Dagster's log gets their addresses."""
    made_with: Mapping[str, Any] | None = None
    """What the workers of an engine noted (code_identity.py); None where it was made in this process."""

    @property
    def reused(self) -> ArtifactRef | None:
        """The artifact of this identity that the ledger has already; None where it is to be made."""
        return self.draft.reused

    @property
    def ref(self) -> ArtifactRef:
        """The ledger row, once it is committed."""
        return self.draft.committed

    def read(self, role: str, *, by_row: bool | None = None) -> Handle:
        """A handle on the parent of that role; recorded as an edge, of the scope that by_row.py gives it by default."""
        by_row = goes_by_row(self.draft.asset, role) if by_row is None else by_row
        return self.draft.read(self.parents[role], role=role, by_row=by_row)

    def check(self, *findings: Finding) -> None:
        """Notes findings; a blocking one that failed raises VlawError, so that nothing is committed."""
        self.findings += findings
        self.demand(*findings)

    def demand(self, *findings: Finding) -> None:
        """As `check`, but notes only what failed: for a batch, where the findings of all batches are noted later."""
        for finding in findings:
            if finding.blocking and not finding.passed:
                if finding not in self.findings:
                    self.findings.append(finding)
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

    def learned(
        self, log: Mapping[str, Any], validation: Mapping[int, Rate] | None = None, shown: Sequence[Episode] = ()
    ) -> None:
        """Keeps what a finetuning stage returned: a blocking check on its losses, and a picture of them.

        Args:
            validation: success at each stopping point, 0 before training.
            shown: some of the episodes that were learned from.
        """
        from vlaw_assets.reports import stage_pictures

        losses = [float(loss) for loss in log.get("losses", [])]
        self.check(checks.numbers_finite(losses, what="losses"))
        self.metrics |= log
        self.draw("training", lambda: stage_pictures.training(losses, validation or {}, log.get("stop"), shown))

    def draw(self, title: str, picture: Callable[[], bytes | None]) -> None:
        """Keeps a picture for the asset's page, if there is anything to draw. Call it before the commit: the ledger row
        names it. A picture that fails is noted: the work must not be lost by it."""
        if (png := self._drawn(title, picture)) is not None:
            self.pictures[title] = png

    def write_page(self, title: str, page: Callable[[], str]) -> None:
        """As `draw`, of a page of HTML that the asset's page leads to."""
        if (found := self._drawn(title, page)) is not None:
            self.pages[title] = found

    def _drawn(self, title: str, make: Callable[[], D]) -> D | None:
        try:
            return make()
        except Exception as error:  # whatever a drawing library meets in somebody's data
            logging.getLogger("vlaw.stage").warning("%r could not be drawn: %s", title, error)
            self.metrics.setdefault("not_drawn", {})[title] = f"{type(error).__name__}: {error}"[:200]
            return None
