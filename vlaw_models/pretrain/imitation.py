"""Base policies by supervised finetuning on demonstrations: a new policy of a class and a preset, or one that is there.

What a recipe improves on is a checkpoint that foundation.toml [weights] names; the shipped one is made by the stages
beside this file, and any other class gets one here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_models.config import PolicyConfig
from vlaw_models.device import compute_device
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.learners.flow_matching import misfit, train_policy
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.policies.base import TrainedPolicy
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.data import StepData, check_fits
from vlaw_models.policies.normalization import Normalization
from vlaw_models.presets import OPENVLA_OFT, PI05, POLICY
from vlaw_models.progress import Progress
from vlaw_models.published.part import shapes_of
from vlaw_models.robots.spec import RobotSpec

if TYPE_CHECKING:
    from vlaw_models.published.openvla import OpenVla

_L1 = "OpenVlaOftL1Policy"
OF_OPENVLA = ("openvla-oft", "openvla-oft-l1")
"""Of KINDS, those that may begin with OpenVLA's published weights."""
KINDS: dict[str, tuple[Mapping[str, Any], str]] = {
    "openvla-oft": (OPENVLA_OFT, "OpenVlaOftPolicy"),
    "openvla-oft-l1": ({name: {**entry, "class": _L1} for name, entry in OPENVLA_OFT.items()}, _L1),
    "flow": (POLICY, "FlowPolicy"),
    "pi0": (POLICY, "Pi0Policy"),
    "pi05": (PI05, "Pi05Policy"),
}
"""Name of a new policy -> the table of its presets, and its class."""


@dataclass(frozen=True)
class ImitationConfig:
    """How long, and by how much, a policy learns from demonstrations."""

    steps: int = 2500
    batch_size: int = 64
    learning_rate: float = 5e-4
    ema: float = 0.995
    micro_batch: int = 0
    """Samples of a batch that are in memory at once; 0: all."""
    lora_rank: int = 0
    """Of LoRA, which is merged in the end; 0: all weights are trained."""
    recompute: bool = False
    """Whether activations are computed again when their gradient is due, not kept."""


def preset_of(kind: str, preset: str) -> Mapping[str, Any]:
    """The sizes of a new policy of KINDS. Raises VlawError for a preset that has none of its class."""
    table, name = KINDS[kind]
    fitting = [key for key, entry in table.items() if entry["class"] == name]
    if preset not in fitting:
        raise VlawError(
            f"there is no preset {preset!r} of {kind}", where="--preset", remedy=f"Give one of: {', '.join(fitting)}."
        )
    return table[preset]


def new_policy(
    preset: Mapping[str, Any],
    episodes: Sequence[Episode],
    *,
    robot: RobotSpec,
    seed: int,
    published: OpenVla | None = None,
) -> TrainedPolicy:
    """A new policy with the statistics of these episodes, whose frames are not looked at. Words and weights are those
    of `published`; without it the words are the episodes', and the weights drawn.

    Raises VlawError for published weights of another size.
    """
    preset = published.preset(preset) if published else preset
    normalization = Normalization.of_robot(
        robot,
        [episode.states for episode in episodes],
        [episode.actions for episode in episodes],
        chunk_size=preset["chunk_size"],
    )
    said = sorted({episode.instruction for episode in episodes})
    tokenizer = published.tokenizer(preset) if published else None

    def build() -> TrainedPolicy:
        return build_policy(preset, normalization, robot=robot, seed=seed, instructions=said, tokenizer=tokenizer)

    if published:
        published.check(shapes_of(build))  # to draw seven billion numbers takes minutes
    made = build()
    if published:
        published.fill(made)
    return made.to(compute_device())


def imitate(
    policy: TrainedPolicy,
    episodes: Sequence[Episode],
    config: ImitationConfig,
    *,
    seed: int,
    progress: Progress | None = None,
) -> list[float]:
    """Trains a policy in place on all chunks of the episodes, each of weight 1 (Eq. 4); the loss of each step.

    Raises VlawError for a policy that does not learn from actions, or has no layers for LoRA where that is asked for,
    and for episodes of another robot than its own.
    """
    wrong = misfit(type(policy), PolicyConfig(frozen_encoder=False))
    if wrong is not None:
        raise VlawError(
            f"a {type(policy).__name__} does not learn from actions",
            where="base policy",
            remedy="Give the policy that it was made of, or the name of a new one.",
        )
    data = StepData.from_episodes(episodes)
    check_fits(policy, data)
    if config.lora_rank:
        policy.adapt(config.lora_rank, seed=seed)
    loop = LoopConfig(
        steps=config.steps,
        learning_rate=config.learning_rate,
        ema=config.ema,
        micro_batch=config.micro_batch,
        recompute=config.recompute,
    )
    return train_policy(policy, data, loop, batch_size=config.batch_size, seed=seed, progress=progress)
