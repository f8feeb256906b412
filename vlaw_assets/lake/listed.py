"""Lists that only commands and the inbox change, never the loop: each is an asset of its own, and every version of it
holds the whole list.

So a list can be read as of any moment, and an edge to a version says which list something was made with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.artifact import ArtifactRef, Identity
from vlaw_assets.lake.durable import canonical_json, digest_of
from vlaw_assets.lake.lookup import Lookup
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake


@dataclass(frozen=True)
class Change:
    """What one call did to a list."""

    ref: ArtifactRef | None
    """The list now; None while nothing was ever on it."""
    changed: tuple[str, ...]
    """Episodes."""
    unchanged: tuple[str, ...]
    """Those of which the list says so already."""


def latest(lake: Lake, asset: str) -> ArtifactRef | None:
    """The list as this lake sees it, also as of a moment."""
    return lake.ledger.current(asset, "")


def rows(lake: Lake, ref: ArtifactRef | None, columns: Sequence[str]) -> list[dict[str, Any]]:
    """These columns of a list, in the order the rows were added; none of none."""
    found = lake.read(ref).table(ref.asset).to_pylist() if ref else []
    return [{name: row[name] for name in columns} for row in found]


def unknown(lake: Lake, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that no artifact holds as an episode, sorted."""
    with Lookup(lake) as lookup:
        return sorted(set(ids) - lookup.known(set(ids)))


def commit(
    lake: Lake,
    asset: str,
    before: ArtifactRef | None,
    listed: Sequence[dict[str, Any]],
    *,
    metrics: dict[str, Any],
    run_id: str,
) -> ArtifactRef:
    """Make these rows, whose `at` is a time, the list; `before` is the version that they were made from.

    Raises VlawError, and commits nothing, where somebody else has changed the list since.
    """
    plain = digest_of([row | {"at": row["at"].isoformat()} for row in listed])
    identity = Identity(asset, "1", canonical_json({"rows": plain}), ())
    with lake.commit(asset=asset, identity=identity, run_id=run_id) as draft:
        now = latest(lake, asset)
        if (now and now.artifact_id) != (before and before.artifact_id):
            raise VlawError(
                "the list was changed by somebody else at the same time",
                where=str(lake.paths.root),
                remedy="run it again",
            )
        if draft.reused is None:
            draft.write_list(asset, listed)
            draft.set_metrics(metrics)
    return draft.committed
