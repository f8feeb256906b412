"""The numbers that an asset page begins with: of every asset the same few, in the same order, for every partition.

They are taken from the ledger's rows alone, so that a page made again (reused, reconciled) says the same. What was not
measured has no number. Dagster plots them over partitions and over time, so their names stay as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

NOTHING = 1e-9
"""What is smaller is what rounding leaves of zero."""
SEVERAL = 20
"""Losses that are averaged."""
Found = Mapping[str, float | None]


def numbers_of(lake: Lake, ref: ArtifactRef) -> dict[str, float]:
    """Name -> number, the most important first; those that are not known are left out."""
    reader = READERS.get(ref.asset)
    found = {**(reader(lake, ref) if reader else {}), "seconds": ref.metrics.get("seconds")}
    return {name: shown(value) for name, value in found.items() if _is_number(value)}


def shown(value: float) -> float:
    """Four digits that count; zero where rounding has left next to nothing of it."""
    return 0.0 if abs(value) < NOTHING else float(f"{value:.4g}")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _evaluation(_lake: Lake, ref: ArtifactRef) -> Found:
    return {"success": _success(ref), "trials": ref.metrics.get("trials")}


def _evaluation_after(lake: Lake, ref: ArtifactRef) -> Found:
    """The difference where both have the same trials; the report compares pair by pair."""
    start = lake.ledger.current(ref.asset.replace("policy", "start"), ref.partition)
    success, before = _success(ref), _success(start) if start else None
    same = start is not None and start.metrics.get("trials") == ref.metrics.get("trials")
    difference = success - before if same and success is not None and before is not None else None
    return {
        "success": success,
        "success_before": before,
        "difference": difference,
        "trials": ref.metrics.get("trials"),
    }


def _success(ref: ArtifactRef) -> float | None:
    return ref.metrics.get("success", {}).get("all")


def _report(_lake: Lake, ref: ArtifactRef) -> Found:
    names = ("success", "success_before", "difference", "difference_low", "difference_high", "real", "imagined")
    found = ref.metrics.get("numbers", {})
    return {name: found.get(name) for name in names}


def _episodes(_lake: Lake, ref: ArtifactRef) -> Found:
    won, judged = ref.metrics.get("successes"), ref.metrics.get("judged", ref.num_rows)
    return {
        "success": won / judged if won is not None and judged else None,
        "episodes": ref.num_rows,
    }


def _imagined(_lake: Lake, ref: ArtifactRef) -> Found:
    per_episode = ref.metrics.get("seconds", math.nan) / ref.num_rows if ref.num_rows else None
    return {"episodes": ref.num_rows, "seconds_per_episode": per_episode}


def _scores(_lake: Lake, ref: ArtifactRef) -> Found:
    accepted = ref.metrics.get("above_alpha")
    return {
        "accepted": accepted,
        "accepted_share": accepted / ref.num_rows if accepted is not None and ref.num_rows else None,
        "p_yes_mean": ref.metrics.get("p_yes_mean"),
        "episodes": ref.num_rows,
    }


def _outcomes(_lake: Lake, ref: ArtifactRef) -> Found:
    names = ("label_precision", "label_recall", "imagined_success", "failed_starts_covered")
    return {name: ref.metrics.get("figures", {}).get(name) for name in names}


def _members(_lake: Lake, ref: ArtifactRef) -> Found:
    judged, imagined = ref.metrics.get("judged"), ref.metrics.get("imagined")
    return {
        "members": ref.num_rows,
        "real": ref.metrics.get("real"),
        "imagined": imagined,
        "rehearsed": ref.metrics.get("rehearsed"),
        "accepted_share": imagined / judged if judged and imagined is not None else None,
    }


def _policy(_lake: Lake, ref: ArtifactRef) -> Found:
    validation, stop = ref.metrics.get("validation", {}), ref.metrics.get("stop")
    return {
        "validation_success": validation.get(str(stop)),
        "validation_success_before": validation.get("0"),
        "loss_last": _last_loss(ref),
        "stop": stop,
        "real": ref.metrics.get("real"),
        "imagined": ref.metrics.get("imagined"),
        "rehearsed": ref.metrics.get("rehearsed"),
    }


def _learned(_lake: Lake, ref: ArtifactRef) -> Found:
    first = _mean_loss(ref, slice(0, 1), slice(0, SEVERAL))
    return {"loss_last": _last_loss(ref), "loss_first": first, "episodes": ref.metrics.get("episodes")}


def _last_loss(ref: ArtifactRef) -> float | None:
    return _mean_loss(ref, slice(-1, None), slice(-SEVERAL, None))


def _mean_loss(ref: ArtifactRef, one: slice, several: slice) -> float | None:
    """Mean of some losses, where there are enough of them: a single one is noise."""
    losses = ref.metrics.get("losses") or []
    chosen = losses[several] if len(losses) > 2 * SEVERAL else losses[one]
    return sum(chosen) / len(chosen) if chosen else None


def _world_model_metrics(_lake: Lake, ref: ArtifactRef) -> Found:
    figures = ref.metrics.get("figures", {})
    look = [figures[name] for name in sorted(figures) if name.startswith(("perceptual", "lpips"))]
    return {
        **{f"psnr_{camera}": value for camera, value in sorted(ref.metrics.get("psnr", {}).items())},
        "psnr": figures.get("psnr"),
        "ssim": figures.get("ssim"),
        "perceptual": look[0] if look else None,
        "false_positive_rate": figures.get(f"replay_false_positive_rate_at_{_alpha(ref)}"),
    }


def _judge(_lake: Lake, ref: ArtifactRef) -> Found:
    figures, alpha = ref.metrics.get("figures", {}), _alpha(ref)
    return {
        "judge_auc": figures.get("real_auroc"),
        "precision": figures.get(f"real_precision_at_{alpha}"),
        "recall": figures.get(f"real_recall_at_{alpha}"),
        "false_positive_rate": figures.get(f"real_false_positive_rate_at_{alpha}"),
        "calibration_error": figures.get("real_ece"),
    }


def _alpha(ref: ArtifactRef) -> str:
    """The threshold of the recipe, as it stands in the names of what was measured at it."""
    return f"{json.loads(ref.recipe_json or '{}').get('score', {}).get('alpha', math.nan):g}"


def _state(lake: Lake, ref: ArtifactRef) -> Found:
    verdicts = ref.metrics.get("promotion", {})
    roles = dict(lake.ledger.edges(ref.owner))
    real = [parent.num_rows for role, parent in roles.items() if role.startswith("real_rollouts")]
    return {
        "real_episodes": sum(real),
        **{f"{model}_promoted": float(said["promoted"]) for model, said in sorted(verdicts.items())},
    }


def _embedded(_lake: Lake, ref: ArtifactRef) -> Found:
    counts = ref.metrics.get("embedded", {})
    return {"embedded": sum(counts.values()) if counts else None}


def _latents(_lake: Lake, ref: ArtifactRef) -> Found:
    return {"encoded": ref.metrics.get("encoded")}


def _weights(lake: Lake, ref: ArtifactRef) -> Found:
    folder = lake.paths.root / ref.location
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if ref.location else 0
    return {"megabytes": size / 1e6 if size else None}


READERS: dict[str, Callable[[Lake, ArtifactRef], Found]] = {
    "start_evaluation": _evaluation,
    "start_evaluation_low_noise": _evaluation,
    "policy_evaluation": _evaluation_after,
    "policy_evaluation_low_noise": _evaluation_after,
    "iteration_report": _report,
    "real_rollouts": _episodes,
    "validation_rollouts": _episodes,
    "expert_demonstrations": _episodes,
    "recorded_episodes": _episodes,
    "co_training_data": _episodes,
    "near_success": _episodes,
    "imagined_rollouts": _imagined,
    "reward_scores": _scores,
    "imagined_outcomes": _outcomes,
    "training_set": _members,
    "policy": _policy,
    "world_model": _learned,
    "reward_model": _learned,
    "world_model_metrics": _world_model_metrics,
    "start_world_model_metrics": _world_model_metrics,
    "reward_model_metrics": _judge,
    "loop_state": _state,
    "episode_embeddings": _embedded,
    "latents": _latents,
    "corpus_latents": _latents,
    "base_policy": _weights,
    "pretrained_world_model": _weights,
    "pretrained_reward_model": _weights,
    "autoencoder": _weights,
}
"""Asset -> its numbers besides the seconds it took. `success` and the like are shares, `accepted` counts episodes."""
