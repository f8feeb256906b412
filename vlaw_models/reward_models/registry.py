"""The reward models that a checkpoint can name: those shipped here, and those of installed packages."""

from __future__ import annotations

from vlaw_models.registry import Registry

REWARD_MODELS = Registry(
    "reward model",
    "vlaw.reward_models",
    {
        "ClipJudge": "vlaw_models.reward_models.clip_judge:ClipJudge",
        "QwenJudge": "vlaw_models.reward_models.qwen_judge:QwenJudge",
    },
)
"""Class name, as in a checkpoint's config.json, -> class."""
