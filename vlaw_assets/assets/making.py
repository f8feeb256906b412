"""How each asset is planned and made, by its name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.pipeline import memory

if TYPE_CHECKING:
    from vlaw_assets.assets.stage import Stage

P = TypeVar("P", bound=Plan)


def nothing(_stage: Stage, _plan: Plan, _work: Work) -> None:
    """What most stages do besides planning and making."""


@dataclass(frozen=True)
class Making(Generic[P]):
    """How an asset is planned and made."""

    code: str
    """Digest of the code that makes it."""
    plan: Callable[[Stage], P]
    """Reads the ledger and the recipe only. Raises VlawError where something it needs is missing."""
    make: Callable[[Stage, P, Work], None]
    """Reads, calls one function of vlaw_models, checks and writes. Not called where the ledger has it already."""
    check: Callable[[Stage, P, Work], None] = nothing
    """What must hold also of an artifact that is reused; before `make`. Raises VlawError."""
    after: Callable[[Stage, P, Work], None] = nothing
    """What is derived from a new artifact, once it is committed: a run that dies here has lost nothing."""
    deps: tuple[str, ...] = ()
    """The assets that it may read of the same partition, and of the foundation."""

    def run(self, stage: Stage) -> Work:
        """Plans, makes and commits."""
        plan = self.plan(stage)
        with stage.commit(plan) as work:
            self.check(stage, plan, work)
            if work.reused is None:
                memory.give_back()
                self.make(stage, plan, work)
        if work.reused is None:
            self.after(stage, plan, work)
        return work


STAGES: dict[str, Making[Any]] = {}
"""Asset -> how it is made, of every stage that was defined."""


def first_of(assets: Collection[str]) -> list[str]:
    """Those of the assets that need no other one of them."""
    return [asset for asset in assets if not set(assets) & _before(asset)]


def _before(asset: str) -> set[str]:
    """All that an asset is made of, directly or not."""
    deps = STAGES[asset].deps if asset in STAGES else ()
    return {*deps, *(name for dep in deps for name in _before(dep))}
