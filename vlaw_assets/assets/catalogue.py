"""What the UI shows of an asset besides its data: whose it is, and where its code is.

An asset belongs to the model or the data that it is about; the UI finds it by "tag:about=policy".
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

PAGE = Path(__file__).parents[2] / "docs" / "assets.md"
"""Describes all assets; there in a checkout, not in a wheel."""

ABOUT = {
    "data": (
        "expert_demonstrations",
        "co_training_data",
        "near_success",
        "real_rollouts",
        "validation_rollouts",
        "training_set",
        "episode_embeddings",
        "recorded_episodes",
        "recorded_statistics",
        "quarantine",
        "labels",
        "refused_recordings",
    ),
    "world_model": (
        "autoencoder",
        "corpus_latents",
        "latents",
        "pretrained_world_model",
        "world_model",
        "imagined_rollouts",
        "imagined_outcomes",
        "world_model_metrics",
        "start_world_model_metrics",
    ),
    "reward_model": ("pretrained_reward_model", "reward_model", "reward_scores", "reward_model_metrics"),
    "policy": (
        "base_policy",
        "policy",
        "start_evaluation",
        "start_evaluation_low_noise",
        "policy_evaluation",
        "policy_evaluation_low_noise",
    ),
    "loop": ("loop_state", "iteration_report"),
}
_OF = {asset: about for about, assets in ABOUT.items() for asset in assets}


def described(asset: str) -> dict[str, Any]:
    """Owners and tags of an asset, as Dagster's definitions take them; none of an asset that is not of the loop."""
    about = _OF.get(asset)
    return {"owners": [f"team:{about}"], "tags": {"about": about}} if about else {}


def references(make: Callable[..., None]) -> dict[str, Any]:
    """Links to the function that makes an asset, and to the page that describes it."""
    code = (make.func if isinstance(make, partial) else make).__code__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # the release is pinned
        files: list[dg.LocalFileCodeReference | dg.UrlCodeReference] = [
            dg.LocalFileCodeReference(
                file_path=code.co_filename, line_number=code.co_firstlineno, label="how it is made"
            )
        ]
        if PAGE.is_file():
            files.append(dg.LocalFileCodeReference(file_path=str(PAGE), line_number=1, label="all assets"))
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=files)}
