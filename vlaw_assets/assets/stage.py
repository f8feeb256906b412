"""What every stage shares: a plan of what it would make, and the draft in which it is made.

A stage is two functions. `plan(stage)` reads the ledger and the recipe, and nothing else: what it returns is the
identity of what would be made, so asking costs no work. `make(stage, plan, work)` opens its inputs with `work.read`,
calls vlaw_models once, checks what came out and writes it. Planning, quarantine, claim, commit and reuse around it are
here; `stage_asset.py` makes a Dagster asset of the two.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vlaw_assets.assets.making import STAGES
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.by_label import goes_by_label
from vlaw_assets.partitions import split_partition
from vlaw_assets.pipeline import plugins
from vlaw_assets.pipeline.checks import Finding
from vlaw_assets.pipeline.code_identity import code_revision, made_with
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress, silent
from vlaw_models.registry import attribute_of
from vlaw_models.robots.registry import ROBOTS, find_robot
from vlaw_models.spread import Spread, here

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Identity, Lake, Ledger
    from vlaw_assets.pipeline.resources import Workplace
    from vlaw_assets.recipes.schema import Foundation, Recipe
    from vlaw_models.learners.resume import Checkpoints
    from vlaw_models.robots.spec import RobotSpec

MODEL_GROUPS = {
    "policy": "vlaw.policies",
    "world_model": "vlaw.world_models",
    "reward_model": "vlaw.reward_models",
    "autoencoder": "vlaw.autoencoders",
}
"""Kind of an artifact -> entry point group of the classes that its checkpoint may be of."""
PRACTICE = "practice"
"""Key of a plan's recipe where a learner makes episodes while it learns."""
LEARNER_GROUP = "vlaw.learners"
MAKE_IT = "Run the job foundation first (Jobs > foundation > Materialize all); vlaw run does so by itself."
"""Remedy where something of the foundation is missing."""
CLASSES = "classes"
"""Metric of an artifact with a checkpoint: the classes that load it."""
ELSEWHERE, TRAINED = "vlaw_assets.engines.elsewhere:spread_of", "vlaw_assets.engines.training:trained"
"""By name: what only carries work to where it is done makes no artifact, so that it is in no identity."""
CODE = "code"
"""Metric of an artifact that was made by things of other packages: digests of its code by part."""


class Lists(NamedTuple):
    """The lists that change how the parents of an artifact are read; None where none of its episodes are on it."""

    quarantine: ArtifactRef | None
    labels: ArtifactRef | None


@dataclass
class Stage:
    """One asset partition: where it is, and the settings and artifacts that a plan of it reads."""

    lake: Lake
    workplace: Workplace
    asset: str
    partition: str
    """ "experiment|iteration", or '' for the foundation."""
    force: bool = False
    """Make it again, although an artifact of the same identity is in the ledger."""
    run_id: str = ""
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("vlaw.stage"))
    progress: Progress = silent
    grown: Callable[[Sequence[float]], None] | None = None
    """Told the loss of every step so far, now and then while a model is trained."""
    findings: list[Finding] = field(default_factory=list)
    occurring: Mapping[str, set[str]] | None = None
    """Where quarantined episodes occur, if the asker knows it already (`quarantine.occurrences`)."""
    corrections: Mapping[str, Mapping[str, bool | None]] | None = None
    """Which episodes have another label than was recorded, if the asker knows it already (`labels.corrections`)."""
    required: list[ArtifactRef] = field(default_factory=list)
    """The artifacts that were asked for by `require`, in order."""
    context: Any = None
    """Dagster's, of the step: engines start workers by it. None outside of Dagster."""

    @property
    def code(self) -> str:
        """Digest of the code of this stage, without what it uses of other packages."""
        return STAGES[self.asset].code

    @property
    def ledger(self) -> Ledger:
        return self.lake.ledger

    @property
    def experiment(self) -> str:
        return split_partition(self.partition)[0]

    @property
    def iteration(self) -> int:
        return split_partition(self.partition)[1]

    @functools.cached_property
    def recipe(self) -> Recipe:
        return self.workplace.recipe(self.experiment)

    @functools.cached_property
    def foundation(self) -> Foundation:
        return self.workplace.foundation()

    @functools.cached_property
    def robot(self) -> RobotSpec:
        """The robot of the experiment, or of the foundation. VlawError where it is unknown."""
        settings = self.recipe if self.partition else self.foundation
        return find_robot(settings.robot, where=f"{self.asset} [{self.partition or 'foundation'}]")

    @property
    def seed(self) -> int:
        """Seed of this iteration's training and sampling: the recipe's, moved on with the iteration."""
        return self.recipe.seed * 1000 + self.iteration

    def checkpoints(self, work: Work) -> Checkpoints:
        """Where a training of this stage keeps its state: by the identity of what is made, outside the draft. Made
        again after an interruption, the stage goes on there; what it makes, and what that is called, does not depend on
        it. It goes with the commit."""
        from vlaw_models.learners.resume import Checkpoints

        return Checkpoints(self.lake.paths.training / work.draft.identity.digest, seen=self.grown)

    def spread(self, work: Work) -> Spread:
        """Where the parts of this stage's heavy work are made: here, or by workers of the engine that is asked for."""
        if not self.workplace.engine:
            return here
        found: Spread = attribute_of(ELSEWHERE)(self, work)
        return found

    def train(self, work: Work, function: Callable[..., dict[str, Any]], *given: Any, **named: Any) -> dict[str, Any]:
        """What a training function returns that saves into the draft's checkpoint folder: called here, or in processes
        that share the training, where the engine that is asked for has a table [training]. A policy that practises
        stays here: what it does meanwhile is written too."""
        here = partial(function, *given, **named)
        if not self.workplace.engine or named.get(PRACTICE) is not None:
            return here()
        found: dict[str, Any] = attribute_of(TRAINED)(self, work, here)
        return found

    def require(self, asset: str) -> ArtifactRef:
        """The current artifact of an asset of this partition. Raises VlawError naming what to materialize."""
        self.required.append(self.ledger.require(asset, self.partition))
        return self.required[-1]

    def require_foundation(self, asset: str) -> ArtifactRef:
        """The current artifact of an asset of the foundation. Raises VlawError saying how to make it."""
        ref = self.ledger.current(asset, "")
        if ref is None:
            raise VlawError(f"the foundation is missing: {asset}", where=str(self.lake.paths.root), remedy=MAKE_IT)
        self.required.append(ref)
        return ref

    def code_parts(self, plan: Plan) -> Mapping[str, str]:
        """Digests of the code that makes what is planned: of this stage, and of what it uses of other packages."""
        names = {
            (MODEL_GROUPS[ref.kind], name)
            for ref in plan.parents.values()
            if ref.kind in MODEL_GROUPS
            for name in ref.metrics.get(CLASSES, ())
        }
        names.add((ROBOTS.group, self.robot.name))
        if self.partition:
            names.add((LEARNER_GROUP, self.recipe.policy.learner))
        parts = plugins.code_parts(
            STAGES[self.asset].make.__module__, frozenset(names), f"{self.asset} [{self.partition}]"
        )
        return {**parts, plugins.STAGE: self.code} if len(parts) == 1 else parts

    def identity(self, plan: Plan) -> tuple[Identity, Lists]:
        """The identity of what a plan makes, and the lists by which its parents are read.

        It is the plan's kind and recipe, the code's digest, the content digests of the parents, and of the episodes
        that these hold those in quarantine and what people say of the others. The experiment's name is not in it:
        experiments that agree share the artifact.
        """
        from vlaw_assets.lake import Identity, canonical_json
        from vlaw_assets.lake.labels import with_labels
        from vlaw_assets.lake.quarantine import without_own, without_quarantined

        labels = None
        identity = Identity(
            kind=plan.kind,
            code=_code(self.code_parts(plan)),
            recipe=canonical_json(dict(plan.recipe)),
            parents=tuple(sorted((role, ref.content_digest) for role, ref in plan.parents.items())),
        )
        if goes_by_label(self.asset, plan.recipe):
            identity, labels = with_labels(self.lake, identity, plan.parents.values(), known=self.corrections)
        identity, quarantine = without_quarantined(
            self.lake, identity, plan.parents.values(), force=self.force, occurring=self.occurring
        )
        if PRACTICE in plan.recipe:
            identity, quarantine = without_own(self.lake, identity, quarantine)
        return identity, Lists(quarantine, labels)

    @contextlib.contextmanager
    def commit(self, plan: Plan) -> Iterator[Work]:
        """The draft of what is planned; leaving the block commits it, an exception leaves nothing behind.

        Two runs that would make the same at the same time make it once: the second waits and reuses it.
        """
        from vlaw_assets.lake.claim import claimed

        identity, lists = self.identity(plan)
        claim = claimed(
            self.lake, identity, holder=self.run_id, waiting=lambda text: self.progress(0, 1, text), force=self.force
        )
        with claim:
            with self.lake.commit(
                asset=self.asset,
                partition=self.partition,
                identity=identity,
                run_id=self.run_id,
                force=self.force,
                code_revision=code_revision(),
            ) as draft:
                if lists.quarantine is not None:
                    draft.leave_out(lists.quarantine)
                if lists.labels is not None:
                    draft.label_by(lists.labels)
                draft.stands_on(plan.parents, state=plan.chosen_by)
                work = Work(draft, plan.parents, self.findings)
                yield work
                if work.reused is None:
                    self._keep_beside(work, plan, identity)
            if work.reused is None:
                shutil.rmtree(self.lake.paths.training / identity.digest, ignore_errors=True)

    def _keep_beside(self, work: Work, plan: Plan, identity: Identity) -> None:
        """What the ledger's row has for people: pictures, pages, metrics."""
        noted = {f.name: {"passed": f.passed, "text": f.text, "blocking": f.blocking} for f in work.findings}
        counts = {"excluded": len(identity.excluded), "relabelled": len(identity.labels)}
        for title, png in work.pictures.items():
            work.draft.keep_picture(title, png)
        for title, page in work.pages.items():
            work.draft.keep_page(title, page)
        parts = self.code_parts(plan)
        code = {CODE: dict(parts), plugins.CODE_VERSION: self.code} if len(parts) > 1 else {}
        classes = {CLASSES: named} if (named := classes_in(work.draft.checkpoint)) else {}
        work.draft.set_metrics(
            {
                **work.metrics,
                **{name: n for name, n in counts.items() if n},
                **code,
                **classes,
                "checks": noted,
                "made_with": work.made_with or made_with(),
            }
        )


def _code(parts: Mapping[str, str]) -> str:
    """The code digest of an identity."""
    from vlaw_assets.lake.durable import digest_of

    return parts[plugins.STAGE] if len(parts) == 1 else digest_of(parts)


def classes_in(checkpoint: Path | None) -> list[str]:
    """Names of the classes that a checkpoint is loaded by: its own first, then those of models inside it."""
    config = checkpoint / "config.json" if checkpoint else None
    return list(dict.fromkeys(_classes(json.loads(config.read_text())))) if config and config.is_file() else []


def _classes(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("class"), str):
            yield value["class"]
        for inner in value.values():
            yield from _classes(inner)
