"""How a world model was sampled when it was measured, and whether imagination samples it alike: a recipe says the one
in [world_model_metrics] and the other in [imagine]."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vlaw_models.config import SAMPLING, Sampling

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake


def sampled(lake: Lake, ref: ArtifactRef) -> str:
    """A sentence or two of an artifact of world-model metrics; "" where neither was asked for anything but the default:
    one step, which small models are made for."""
    own = _sampling(ref, "world_model_metrics")
    imagined = lake.ledger.current("imagined_rollouts", ref.partition)
    other = _sampling(imagined, "imagine") if imagined is not None else None
    if {own, other} <= {Sampling(), None}:
        return ""
    if other is None:
        return f"Sampled with {_said(own)}."
    if other == own:
        return f"Sampled with {_said(own)}, as in imagination."
    return (
        f"Sampled with {_said(own)}, but in imagination with {_said(other)}: this is not the quality of what policies "
        "learn from. The same in [world_model_metrics] as in [imagine] measures that."
    )


def _sampling(ref: ArtifactRef, table: str) -> Sampling | None:
    """None for an artifact that was not made by a world model."""
    said = json.loads(ref.recipe_json).get(table, {})
    if "sampling_steps" not in said or said.get("world") == "simulator":
        return None
    return Sampling(**{key.removeprefix("sampling_"): said[key] for key in SAMPLING if key in said})


def _said(sampling: Sampling | None) -> str:
    """Such as "5 steps ('trained', no guidance)"."""
    if sampling is None:
        return "an unknown number of steps"
    guidance = f"guidance {sampling.guidance:g}" if sampling.guidance > 1 else "no guidance"
    return f"{sampling.steps} step{'s' * (sampling.steps != 1)} ({sampling.schedule!r}, {guidance})"
