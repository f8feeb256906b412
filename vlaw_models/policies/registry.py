"""The policies that a checkpoint can name: those shipped here, and those of installed packages."""

from __future__ import annotations

from vlaw_models.registry import Registry

POLICIES = Registry(
    "policy",
    "vlaw.policies",
    {
        "FlowPolicy": "vlaw_models.policies.flow_policy:FlowPolicy",
        "NoisePolicy": "vlaw_models.policies.noise_policy:NoisePolicy",
        "Pi0Policy": "vlaw_models.policies.pi0:Pi0Policy",
    },
)
"""Class name, as in a checkpoint's config.json, -> class."""
