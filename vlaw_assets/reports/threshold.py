"""The threshold on P(yes) that an artifact's recipe has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef


def alpha_of(ref: ArtifactRef) -> float | None:
    """Above it a score counts as a success; None where the recipe says nothing of it."""
    try:
        return float(json.loads(ref.recipe_json)["score"]["alpha"])
    except (KeyError, TypeError, ValueError):
        return None
