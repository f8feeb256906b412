"""Configuration of every stage of the loop: one frozen dataclass per stage, plain values in ranges (no torch).

A recipe (TOML) has one table per class here; a stage's artifact depends on its own table and on nothing else.
Defaults are the tiny preset on the embedded robot. Paper values are named where they differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt, doc

from vlaw_models.ranges import AboveZero, Count, Positive, RolloutSource, Scale, Share, Source

Stop = Annotated[
    int, Ge(1), doc("Give numbers of updates, 1 or more; the policy that training starts from is measured anyway.")
]

LATER = {"later": True}
"""Metadata of a key that came after there were lakes: it is in an artifact's identity only where it is not the
default."""


def identifying(table: Any) -> dict[str, Any]:
    """The values of a stage's table that an artifact's identity covers, plain."""
    own = {one.name: getattr(table, one.name) for one in fields(table)}
    later = [one.name for one in fields(table) if one.metadata == LATER and own[one.name] == one.default]
    return {name: value for name, value in own.items() if name not in later}


SAMPLING = ("sampling_steps", "sampling_schedule", "guidance")
"""Keys of how a world model draws frames from noise (`Sampling`), in the tables that have them."""
Schedule = Literal["karras", "trained"]
Guidance = Annotated[float, Ge(1), doc("Use 1, which turns guidance off, or more; Ctrl-World has 2.")]


@dataclass(frozen=True)
class Sampling:
    """How a world model draws frames from noise; one that is deterministic reads none of it."""

    steps: int = 1
    """Passes of the network for each chunk, twice as many with guidance."""
    schedule: Schedule = "karras"
    """Noise levels: 'karras' as published, made for many steps; 'trained': those at which the model was trained, each
    equally often, made for few."""
    guidance: float = 1.0
    """Scale of classifier-free guidance in the last frame of a chunk; 1: off."""


Threshold = Annotated[float, Gt(0), Lt(1), doc("Use a threshold strictly between 0 and 1; World-VLA-Loop has 0.9.")]


@dataclass(frozen=True)
class RolloutConfig:
    """Real rollouts (VLAW Algorithm 1, line 3)."""

    episodes_per_task: Count = 50
    """K. Paper: 50."""
    num_steps: Positive = 28
    """Control steps per episode."""
    noise_scale: Scale = 1.0
    """Scale of the flow policy's initial noise; 1 is the distribution it was trained with."""
    source: RolloutSource = "robot"
    """'robot': the policy is rolled out on the robot's simulator. 'recorded:NAME': at most `episodes_per_task` episodes
    of an imported dataset; "{iteration}" in the name is 01, 02, ..., otherwise the iterations share it. 'inbox':
    `episodes_per_task` of what a lab has recorded with the served policy and dropped into the inbox."""
    start: Literal["when_asked", "when_complete"] = "when_asked"
    """Of source 'inbox': whether the sensor asks for an iteration by itself once its recordings are complete."""
    done_above: Threshold | None = field(default=None, metadata=LATER)
    """An episode ends once its reward is above this, as the robot's world tells it; without it none ends early."""


@dataclass(frozen=True)
class WorldModelConfig:
    """World-model finetuning (Eqs. 1 and 2)."""

    steps: Count = 300
    """Paper: 50,000."""
    batch_size: Positive = 16
    learning_rate: AboveZero = 3e-4
    co_training_weight: Scale = 0.5
    """lambda of Eq. 2: weight of the loss on co_training_data."""
    unroll: Count = 0
    """Chunks of its own imagination from which the model learns to go on, at most; 0: from recorded frames only
    (paper)."""
    use_rollouts: bool = True
    """False: finetune on expert demonstrations only (the paper's over-optimistic baseline)."""
    expert_per_task: Count = 25
    """Expert demonstrations per task where `use_rollouts` is false; K of them make the control of equal size."""
    change_weight: Scale = field(default=3.0, metadata=LATER)
    """An error counts this much more where the picture changes (edm.loss): most of one is a still background. 0: Eq. 1
    as published, which models of the paper's size are trained by."""
    near_success: bool = field(default=False, metadata=LATER)
    """The foundation's success and near-success pairs join the co-training half (World-VLA-Loop's SANS data)."""
    reward_weight: Scale = field(default=0.0, metadata=LATER)
    """Weight of the reward head's cross-entropy beside the frames' loss (World-VLA-Loop); with this or `state_weight`
    above 0 a world model without heads gets them. 0: heads that are there are not trained."""
    state_weight: Scale = field(default=0.0, metadata=LATER)
    """Weight of the squared error of the predicted poses."""
    frozen_trunk: bool = field(default=False, metadata=LATER)
    """Only the heads are trained: the frames stay what they are, to the bit."""
    micro_batch: Count = field(default=0, metadata=LATER)
    """Samples of a batch that are in memory at once, on each device; 0: all. It changes results by rounding only."""
    recompute: bool = field(default=False, metadata=LATER)
    """Activations are computed again when their gradient is due (activation checkpointing): less memory, a third more
    time."""


@dataclass(frozen=True)
class RewardModelConfig:
    """Reward-model finetuning with LoRA on labelled rollouts, first iteration only."""

    steps: Count = 50
    """Paper: 200. More fits the rollouts at hand, and tells success in imagination from failure less well."""
    batch_size: Positive = 64
    """Paper: 128."""
    learning_rate: AboveZero = 3e-4
    lora_rank: Positive = 8
    replays: bool = True
    """Learn from the world model's replays of the rollouts too, labelled with what really came of them: imagined
    pictures are what the judge is asked about. The replaying model is the one before, which has not seen these
    rollouts."""
    micro_batch: Count = field(default=0, metadata=LATER)
    recompute: bool = field(default=False, metadata=LATER)
    """As in [world_model]."""


@dataclass(frozen=True)
class ImagineConfig:
    """Imagined rollouts of the policy inside the world model."""

    episodes_per_task: Count = 200
    """N. Paper: 500."""
    share: Share = 1.0
    """Share of N that is imagined: 0.5 is the paper's ablation (Figure 9), 0 turns imagination off (filtered behaviour
    cloning)."""
    num_steps: Positive = 28
    sampling_steps: Positive = 1
    """Denoising steps per chunk of frames. The tiny world model is trained for one or two; paper-size ones need
    more."""
    sampling_schedule: Schedule = field(default="karras", metadata=LATER)
    """Noise levels of these steps: 'karras' as published, 'trained' for few steps (`Sampling`)."""
    guidance: Guidance = field(default=1.0, metadata=LATER)
    """Scale of classifier-free guidance, which takes twice the passes; 1: off. Ctrl-World: 2."""
    batch_size: Positive = 25
    """Imagined together. More take memory in proportion; on two cores 100 are at most a fifth quicker."""
    noise_scale: Scale = 1.0
    starts: Literal["rollouts", "real"] = "rollouts"
    """'rollouts': first frames of this iteration's real rollouts; 'real': what these leave of N goes to those of
    demonstrations and co-training data, in each iteration to others, until all were used."""
    tries_per_failure: Positive = 1
    """How often each start is imagined from whose real rollout failed, before any other; those of successes once. 1:
    each rollout's once, whatever came of it."""
    world: Literal["world_model", "simulator"] = "world_model"
    """'simulator': the robot's own physics from the same starts. Privileged: a ceiling, not a method."""
    done_above: Threshold | None = field(default=None, metadata=LATER)
    """An episode ends once the reward that the world model predicts is above this; without it none ends early.
    World-VLA-Loop: 0.9."""

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.sampling_steps, self.sampling_schedule, self.guidance)

    @property
    def count(self) -> int:
        """Episodes per task that are really imagined."""
        return round(self.episodes_per_task * self.share)


@dataclass(frozen=True)
class ScoreConfig:
    """Judging imagined episodes (Eq. 3)."""

    alpha: Annotated[float, Gt(0), Lt(1), doc("Use a threshold strictly between 0 and 1; the paper has 0.8.")] = 0.8
    """An episode counts as a success where P(yes) > alpha. Applied when the training set is read.

    P is normalised over {yes, no}: 0.5 is the judge's plain answer (argmax)."""
    labels: Literal["judge", "head", "simulator"] = "judge"
    """'head': P is the highest reward that the world model's own head told of a frame (World-VLA-Loop, whose threshold
    is 0.9). 'simulator': imagined actions are kept by their outcome on the true robot. Privileged: a ceiling, not a
    method."""


@dataclass(frozen=True)
class PolicyConfig:
    """Policy update: the learner, and what learners have in common."""

    steps: Count = 2500
    """Paper: 2,000. A few real successes need 600; hundreds of imagined ones still gain between 600 and 2,500."""
    batch_size: Positive = 128
    """Paper: 256."""
    learning_rate: AboveZero = 5e-4
    imagined_fraction: Share = 0.75
    """Share of a task's part of a batch drawn from imagined successes, at most: where they are few, none is drawn more
    often than a real one."""
    rehearsal: Annotated[float, Ge(0), Lt(1), doc("Use a share from 0 to below 1: the rest is what is new.")] = 0.0
    """Share of a task's part of a batch drawn from what it could do before: the demonstrations, and the imagined
    successes of the iterations before (their real ones are among the real ones). A task without a new success is
    rehearsed alone. Paper: 0."""
    rehearse: Literal["all", "imagined"] = field(default="all", metadata=LATER)
    """'imagined': no demonstrations, only the imagined successes of the iterations before."""
    use_real: bool = True
    """False leaves the real successes out of the update (an ablation of the paper)."""
    start: Literal["previous", "base"] = "previous"
    """'previous': continue from the policy this iteration began with; 'base': restart from the base policy."""
    ema: Annotated[float, Ge(0), Lt(1), doc("Use a decay from 0 to below 1.")] = 0.995
    stops: tuple[Stop, ...] = ()
    """Candidate stopping points, in updates; the best on validation starts is kept. Empty: `steps`, unmeasured."""
    validation_per_task: Count = 20
    """Validation starts per task on which stopping points, and the promotion gate, are decided."""
    learner: str = "filtered"
    """What becomes of the episodes, by name (learners/base.py): 'filtered' learns from successes (VLAW), 'awr' from all
    by exp(A / beta) (Eqs. 7, 11), 'recap' from all by the advantage's sign. What is a learner's own is in the table of
    its name."""
    frozen_encoder: bool = True
    """Only what comes after the pictures' encoder is trained: five times faster. Paper: False."""
    lora_rank: Count = field(default=0, metadata=LATER)
    """Of Pi0Policy and Pi05Policy: language model and action expert learn by LoRA layers of this rank, merged in the
    checkpoint; the rest, a fifth, as it is. 0: all weights (paper). openpi: 16."""
    micro_batch: Count = field(default=0, metadata=LATER)
    recompute: bool = field(default=False, metadata=LATER)
    """As in [world_model]."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Policy evaluation on held-out seeds, the same for every experiment (paired comparisons)."""

    episodes_per_task: Count = 50
    num_steps: Positive = 28
    noise_scale: Scale = 1.0
    low_noise_scale: Scale = 0.5
    """Success is measured at this noise too: less noise alone lifts a small flow policy, so both are reported. The same
    as `noise_scale` turns the second measurement off."""
    stop_early: bool = False
    """policy_evaluation stops when the sequential test against the policy the iteration started with is settled at 95
    %. Off: a study compares rates of a fixed number of trials."""
    source: Source = "robot"
    """'recorded:NAME': trials that were recorded on the robot and labelled, at most `episodes_per_task`; "{iteration}"
    in the name is the number of updates that the evaluated policy has had (00: the base policy)."""


@dataclass(frozen=True)
class WorldModelMetricsConfig:
    """Replay of recorded actions inside the world model (paper Table 1)."""

    clips_per_task: Count = 8
    num_steps: Annotated[int, Ge(2), doc("Use 2 or more: a video metric needs two frames that were imagined.")] = 28
    sampling_steps: Positive = 1
    sampling_schedule: Schedule = field(default="karras", metadata=LATER)
    guidance: Guidance = field(default=1.0, metadata=LATER)
    """As in [imagine]: what is measured is the world model as it is sampled."""
    feature_net: str = ""
    """Folder of a feature network for the Frechet distances; empty: the judge's features, and named after them."""
    perceptual_net: str = ""
    """Folder of an LPIPS network; empty: the judge's features, and named after them."""
    source: Source = "robot"
    """Where the held-out clips come from: 'robot', or 'recorded:NAME'."""

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.sampling_steps, self.sampling_schedule, self.guidance)


@dataclass(frozen=True)
class PromotionConfig:
    """What an iteration must show for the next one to start from its models (loop_state)."""

    enabled: bool = True
    confidence: Annotated[float, Ge(0.5), Lt(1), doc("Use a confidence from 0.5 to below 1; 0.9 is the default.")] = 0.9
    """One-sided confidence of 'not worse', on validation starts paired with the policy before."""
    margin: Share = 0.1
    """A new policy is promoted where the lower bound of new - old is above -margin."""
    max_false_positive_rate: Share = 0.5
    """A new world model is promoted where it shows success in at most this share of the real failures it replays."""
