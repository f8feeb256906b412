"""GRPO as SimpleVLA-RL runs it (arXiv 2509.09674): the advantages of groups of rollouts, the clipped objective without
a KL term, and the update of any policy with likelihoods. Where rollouts and rewards come from is the caller's.

A group is some rollouts of the policy from the same start. Each has one reward in [0, 1], which counts for all its
chunks; a chunk's tokens are what the policy's likelihoods are of (policies/likelihood.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from vlaw_models.errors import VlawError
from vlaw_models.learners.base import Misfit
from vlaw_models.policies.likelihood import LikelihoodPolicy
from vlaw_models.ranges import AboveZero, Positive, Share

if TYPE_CHECKING:
    from vlaw_models.config import PolicyConfig
    from vlaw_models.progress import Progress

SPREAD = 1e-6
"""Added to a group's standard deviation."""


@dataclass(frozen=True, kw_only=True)
class GrpoSettings:
    """Defaults are SimpleVLA-RL's, but for `microbatch`."""

    clip_low: Share = 0.2
    clip_high: AboveZero = 0.28
    """Ratios of likelihoods are cut off at 1 - clip_low and 1 + clip_high."""
    least_success: Share = 0.1
    most_success: Share = 0.9
    """Groups whose mean reward is outside have no signal and are left out."""
    normalized: bool = True
    """Whether advantages are divided by their group's standard deviation."""
    negative: Share = 1.0
    """Weight of the advantages below 0. A likelihood that can fall without end (a flow-matching error) takes less."""
    learning_rate: AboveZero = 5e-6
    """Constant."""
    minibatch: Positive = 128
    """Chunks per step of the optimiser."""
    microbatch: Positive = 128
    """Of those, chunks at once in memory; it changes no result."""
    epochs: Positive = 1
    """How often each chunk is learned from."""
    max_norm: AboveZero = 1.0
    """Gradients are scaled down to this norm."""


@dataclass(frozen=True)
class Chunks:
    """M sampled chunks: what the policy saw before each, how it was drawn, and what came of it.

    What was seen is given as images and tokens, or as the features that a frozen encoder makes of them (`encoded`).
    """

    rollout: torch.Tensor
    """(M,) int64: which rollout it is of, counted through all groups."""
    state: torch.Tensor
    """(M, D) float32, as it is."""
    trace: torch.Tensor
    """(M, ...), see `Traced`."""
    log_prob: torch.Tensor
    """(M, H, N) float32, of the policy that drew it."""
    executed: torch.Tensor
    """(M, H) bool: steps of the chunk that were executed before the rollout's end; others are not learned from."""
    images: torch.Tensor | None = None
    """(M, V, h, w, 3) uint8."""
    tokens: torch.Tensor | None = None
    """(M, L) int64."""
    features: torch.Tensor | None = None
    """(M, F) float32."""
    advantage: torch.Tensor | None = None
    """(M,) float32; see `judged`."""

    def __len__(self) -> int:
        return len(self.rollout)

    def each(self, change: Any) -> Chunks:
        """With `change` made to every tensor."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return Chunks(**{name: None if value is None else change(value) for name, value in given.items()})

    def at(self, rows: np.ndarray) -> Chunks:
        index = torch.from_numpy(rows)
        return self.each(lambda value: value[index])

    @torch.no_grad()
    def encoded(self, policy: LikelihoodPolicy, *, batch: int = 256) -> Chunks:
        """With features in place of the pictures: each is looked at once. `policy.can_freeze` must be true."""
        assert self.images is not None
        assert self.tokens is not None
        parts = zip(self.images.split(batch), self.tokens.split(batch), strict=True)
        device = policy.device
        features = [policy.picture_features(one.to(device), words.to(device)).float().cpu() for one, words in parts]
        return replace(self, images=None, tokens=None, features=torch.cat(features))

    def judged(self, rewards: np.ndarray, settings: GrpoSettings) -> Chunks:
        """The chunks of the groups with signal, with their rollouts' advantages; `rewards` (G, S) of S rollouts of G
        starts, in the order that `rollout` counts. None may be left. Raises VlawError as `group_advantages`."""
        kept = has_signal(rewards, settings)
        advantages = group_advantages(rewards, normalized=settings.normalized)
        advantages = np.where(advantages < 0, settings.negative * advantages, advantages)
        rows = np.flatnonzero(kept.repeat(rewards.shape[1])[self.rollout.numpy()])
        chosen = self.at(rows)
        advantage = torch.from_numpy(advantages.reshape(-1)).float()[chosen.rollout]
        return replace(chosen, advantage=advantage)


class Update(NamedTuple):
    """What an update did; one number per step of the optimiser."""

    losses: list[float]
    clipped: list[float]
    """Share of the tokens whose ratio was beyond a bound and did not count."""
    kl: list[float]
    """Mean of ratio - 1 - log(ratio): how far the policy is from the one that drew the chunks."""
    note: str
    """Why nothing was done, else empty."""


def misfit(policy_class: type, settings: PolicyConfig, temperature: float) -> Misfit | None:
    """Why policies of a class cannot be updated by GRPO from rollouts at `temperature`; None where they can."""
    if not issubclass(policy_class, LikelihoodPolicy):
        return Misfit(
            "policy.learner",
            f"does not fit {policy_class.__name__}, which cannot say how likely its actions are",
            'Choose policy.learner = "filtered", or start from a policy that can (FlowPolicy, Pi0Policy, '
            "OpenVlaOftPolicy): base_policy of foundation.toml [weights].",
        )
    if not (temperature or policy_class.coldest == 0):
        return Misfit(
            "policy.learner",
            f"has temperature 0, at which {policy_class.__name__} leaves nothing to chance",
            "Set temperature above 0 in the table of the learner; the paper has 1.6 for action tokens.",
        )
    if settings.frozen_encoder and not policy_class.can_freeze:
        return Misfit(
            "policy.frozen_encoder",
            f"= true does not fit {policy_class.__name__}, whose encoder is not apart from the rest",
            "Set policy.frozen_encoder = false.",
        )
    if settings.lora_rank:
        return Misfit("policy.lora_rank", "does not fit GRPO, which trains the weights", "Set policy.lora_rank = 0.")
    return None


def group_advantages(rewards: np.ndarray, *, normalized: bool = True) -> np.ndarray:
    """(r - mean) / (std + 1e-6) within each group of `rewards` (G, S), float64; r - mean where not `normalized`, as in
    Dr. GRPO (arXiv 2503.20783).

    The standard deviation is the sample's (S - 1), as torch's is. Raises VlawError for groups of one rollout, and for
    rewards outside [0, 1].
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise VlawError(
            f"rewards of shape {rewards.shape}: a group needs rollouts to be compared with",
            where="GRPO",
            remedy="Roll out 2 or more times from every start, 8 in the paper.",
        )
    rewards = rewards.astype(np.float64)
    if not ((rewards >= 0) & (rewards <= 1)).all():
        raise VlawError(
            f"a reward is not between 0 and 1: they go from {rewards.min()} to {rewards.max()}",
            where="GRPO",
            remedy="Rewards are outcomes (0, 1) or probabilities of success; see what scored the rollouts.",
        )
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    return centred / (rewards.std(axis=1, ddof=1, keepdims=True) + SPREAD) if normalized else centred


def has_signal(rewards: np.ndarray, settings: GrpoSettings) -> np.ndarray:
    """(G,) bool: whether a group of `rewards` (G, S) has a mean from `least_success` to `most_success`."""
    mean = rewards.mean(axis=1)
    return (mean >= settings.least_success) & (mean <= settings.most_success)


def clipped_loss(
    log_prob: torch.Tensor,
    old: torch.Tensor,
    advantage: torch.Tensor,
    executed: torch.Tensor,
    settings: GrpoSettings,
    *,
    tokens: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """-min(ratio A, clip(ratio) A), its mean over the tokens that were executed: a scalar; and which of those tokens
    were beyond a bound (n,) bool.

    log_prob and old (M, H, N), advantage (M,), executed (M, H). `tokens`: what the sum is divided by, where this is a
    part of a minibatch.
    """
    counts = executed[..., None].expand_as(log_prob)
    ratio = (log_prob - old)[counts].exp()
    weight = advantage[:, None, None].expand_as(log_prob)[counts]
    free, bound = ratio * weight, ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high) * weight
    return -torch.minimum(free, bound).sum() / (tokens or max(1, ratio.numel())), (bound < free).detach()


def optimizer(policy: LikelihoodPolicy, settings: GrpoSettings, *, frozen_encoder: bool) -> torch.optim.AdamW:
    """To be kept from one update to the next."""
    trained: Iterable[nn.Parameter] = policy.head_parameters() if frozen_encoder else policy.parameters()
    return torch.optim.AdamW(trained, lr=settings.learning_rate, betas=(0.9, 0.999), weight_decay=0.01)


def update(
    policy: LikelihoodPolicy,
    optimizer: torch.optim.Optimizer,
    chunks: Chunks,
    settings: GrpoSettings,
    *,
    temperature: float,
    rng: np.random.Generator,
    progress: Progress | None = None,
) -> Update:
    """Improves the policy in place on judged chunks, drawn at `temperature`, in minibatches in the order of `rng`.

    Without any chunk the policy stays as it is, and `Update.note` says so. Raises VlawError where a loss or a gradient
    is not finite, before the step that it would have led to.
    """
    done = Update([], [], [], "")
    if not len(chunks):
        share = f"{settings.least_success} to {settings.most_success}"
        return done._replace(note=f"no group has a mean reward of {share}: the policy stays as it is")
    assert chunks.advantage is not None, "`judged` gives it"
    policy.eval()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    per_epoch = math.ceil(len(chunks) / settings.minibatch)
    for epoch in range(settings.epochs):
        for step, rows in enumerate(np.array_split(rng.permutation(len(chunks)), per_epoch)):
            tokens = int(chunks.executed[torch.from_numpy(rows)].sum()) * chunks.log_prob.shape[-1]
            optimizer.zero_grad(set_to_none=True)
            loss = clipped = far = 0.0
            for part in np.array_split(rows, math.ceil(len(rows) / settings.microbatch)):
                here = chunks.at(part).each(lambda value: value.to(policy.device))
                seen = {"images": here.images, "tokens": here.tokens, "features": here.features}
                log_prob = policy.log_prob(policy.observed(here.state, **seen), here.trace, temperature)
                assert here.advantage is not None
                share, beyond = clipped_loss(
                    log_prob, here.log_prob, here.advantage, here.executed, settings, tokens=tokens
                )
                share.backward()
                off = (log_prob.detach() - here.log_prob)[here.executed]
                loss += share.item()
                clipped += beyond.sum().item() / max(1, tokens)
                far += (off.exp() - 1 - off).sum().item() / max(1, tokens)
            norm = nn.utils.clip_grad_norm_(trained, settings.max_norm)
            if not (math.isfinite(loss) and norm.isfinite()):
                raise VlawError(
                    f"the loss is {loss} and its gradient {norm.item()} at step {len(done.losses)}",
                    where="GRPO",
                    remedy="Lower the learning rate, the number of epochs, or raise the temperature.",
                )
            optimizer.step()
            for kept, value in zip(done[:3], (loss, clipped, far), strict=True):
                kept.append(value)
            if progress is not None:
                progress(epoch * per_epoch + step + 1, settings.epochs * per_epoch, f"GRPO: loss {loss:.4f}")
    return done
