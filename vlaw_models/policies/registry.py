"""The policies that a checkpoint can name: those shipped here, and those of installed packages."""

from __future__ import annotations

from vlaw_models.registry import Registry

POLICIES = Registry(
    "policy",
    "vlaw.policies",
    {
        "FlowPolicy": "vlaw_models.policies.flow_policy:FlowPolicy",
        "NoisePolicy": "vlaw_models.policies.noise_policy:NoisePolicy",
        "OpenVlaOftL1Policy": "vlaw_models.policies.openvla_oft:OpenVlaOftL1Policy",
        "OpenVlaOftPolicy": "vlaw_models.policies.openvla_oft:OpenVlaOftPolicy",
        "Pi05Policy": "vlaw_models.policies.pi05:Pi05Policy",
        "Pi0Policy": "vlaw_models.policies.pi0:Pi0Policy",
    },
)
"""Class name, as in a checkpoint's config.json, -> class."""
