"""Configuration of every stage of the loop: one frozen dataclass per stage, plain values only (no torch).

A recipe (TOML) has one table per class here; a stage's artifact depends on its own table and on nothing else.
Defaults are the tiny preset on the embedded robot. Paper values are named where they differ.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RolloutConfig:
    """Real rollouts (VLAW Algorithm 1, line 3)."""

    episodes_per_task: int = 50
    """K. Paper: 50."""
    num_steps: int = 28
    """Control steps per episode at 5 Hz."""
    noise_scale: float = 1.0
    """Scale of the flow policy's initial noise; 1 is the distribution it was trained with."""


@dataclass(frozen=True)
class WorldModelConfig:
    """World-model finetuning (Eqs. 1 and 2)."""

    steps: int = 300
    """Paper: 50,000."""
    batch_size: int = 16
    learning_rate: float = 3e-4
    co_training_weight: float = 0.5
    """lambda of Eq. 2: weight of the loss on co_training_data."""
    use_rollouts: bool = True
    """False: finetune on expert demonstrations only (the paper's over-optimistic baseline)."""


@dataclass(frozen=True)
class RewardModelConfig:
    """Reward-model finetuning with LoRA on labelled rollouts, first iteration only."""

    steps: int = 100
    """Paper: 200."""
    batch_size: int = 16
    """Paper: 128."""
    learning_rate: float = 1e-3
    lora_rank: int = 8


@dataclass(frozen=True)
class ImagineConfig:
    """Imagined rollouts of the policy inside the world model."""

    episodes_per_task: int = 200
    """N. Paper: 500. 0 turns imagination off (filtered behaviour cloning)."""
    num_steps: int = 28
    sampling_steps: int = 1
    """Denoising steps per chunk of frames. The tiny world model is trained for one or two; paper-size ones need more."""
    batch_size: int = 100
    noise_scale: float = 1.0


@dataclass(frozen=True)
class ScoreConfig:
    """Judging imagined episodes (Eq. 3)."""

    alpha: float = 0.8
    """An episode counts as a success where P(yes) > alpha. Applied when the training set is read."""


@dataclass(frozen=True)
class PolicyConfig:
    """Policy update by weighted flow matching (Eq. 4)."""

    steps: int = 2500
    """Paper: 2,000. A few real successes need 600; hundreds of imagined ones still gain between 600 and 2,500."""
    batch_size: int = 128
    """Paper: 256."""
    learning_rate: float = 5e-4
    imagined_fraction: float = 0.75
    """Share of a batch drawn from imagined successes, when there are any."""
    use_real: bool = True
    """False leaves the real successes out of the update (an ablation of the paper)."""
    start: str = "previous"
    """'previous': continue from the policy this iteration began with; 'base': restart from the base policy."""
    ema: float = 0.995
    frozen_encoder: bool = True
    """Only what comes after the pictures' encoder is trained: five times faster. Paper: False."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Policy evaluation on held-out seeds, the same for every experiment (paired comparisons)."""

    episodes_per_task: int = 50
    num_steps: int = 28
    noise_scale: float = 1.0


@dataclass(frozen=True)
class WorldModelMetricsConfig:
    """Replay of recorded actions inside the world model (paper Table 1)."""

    clips_per_task: int = 8
    num_steps: int = 28
    sampling_steps: int = 1
