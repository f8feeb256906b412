"""A new policy of a preset, for a robot: what it reads, sees and acts in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlaw_models.checkpoint import preset_class
from vlaw_models.device import seeded
from vlaw_models.policies.base import TrainedPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.registry import POLICIES
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.tokenize import InstructionTokenizer


def build_policy(
    preset: Mapping[str, Any],
    normalization: Normalization,
    *,
    robot: RobotSpec,
    seed: int,
    instructions: Sequence[str] = (),
    tokenizer: InstructionTokenizer | None = None,
) -> TrainedPolicy:
    """A new policy of a preset (presets.POLICY[...]) for a robot, seeded.

    The tokenizer is made from the words of `instructions` unless one is given (PaliGemma's, for published weights). The
    policy looks at the first camera of each of the preset's `roles`, in their order, or, without them, at all.
    """
    policy_class = preset_class(preset, POLICIES)
    words = {"length": preset["instruction_length"], "template": preset.get("instruction_template", "{}")}
    if tokenizer is None:
        said = [policy_class.said(text) for text in instructions]
        tokenizer = InstructionTokenizer.from_instructions(said, **words)
    elif "instruction_template" in preset:
        tokenizer = InstructionTokenizer(tokenizer.tokenizer, **words)
    sizes = {**preset["sizes"], **({"cameras": len(robot.cameras)} if "cameras" in preset["sizes"] else {})}
    if "roles" in preset:
        sizes["views"] = [robot.camera_names.index(name) for name in robot.cameras_of(preset["roles"])]
    normalization.check_robot(robot)
    with seeded(seed):
        policy = policy_class(tokenizer, normalization, **{name: preset[name] for name in policy_class.plain}, **sizes)
    policy.space = robot.commands
    return policy
