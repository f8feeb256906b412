"""Where a recording comes from, as far as it is not in the recording itself: the policy that acted in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Draft

ROLE = "policy"
"""Of the edge to the policy."""


@dataclass(frozen=True)
class Origin:
    """A recording that was made with a policy of this lake."""

    session: Mapping[str, Any]
    """Part of the recording's identity, as plain values."""
    policy: ArtifactRef
    """That acted: the recording has an edge to it, and its episodes its digest."""
    facts: Mapping[str, Any]
    """Kept for people."""
    check: Callable[[Draft], None]
    """Called when all is written and nothing is committed; what it raises ends the commit."""
