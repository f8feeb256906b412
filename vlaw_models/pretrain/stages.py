"""The stages of `vlaw pretrain`: what the four shipped foundation models are trained on, and for how long.

One function per model, each a pure function of the corpora and `PretrainConfig`. All data are simulated and seeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from vlaw_models.config import ImagineConfig, RolloutConfig, WorldModelMetricsConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.presets import POLICY
from vlaw_models.pretrain.corpus import cached_corpus
from vlaw_models.progress import Progress
from vlaw_models.robots.registry import DEFAULT, find_robot
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.rollouts.near_success import iterate_near_success

ROBOT = find_robot(DEFAULT)
"""The robot that the shipped weights are for."""


@dataclass(frozen=True)
class PolicyPhase:
    """One part of the base policy's pretraining, with a cosine schedule of its own."""

    steps: int
    rate: float
    ema: float
    shares: tuple[float, float, float]
    """Share of a batch from the broad corpus, from more stacking and from more erasing."""
    early_share: float = 0.0
    """Share of the stacking samples from the first steps, where the colours in the instruction decide."""


@dataclass(frozen=True)
class PretrainConfig:
    """Amounts of data and training. Times are for one thread of a 2020s server core."""

    seed: int = 0
    tasks: tuple[str, ...] = ROBOT.tasks
    corpus_per_task: int = 500
    """Episodes of the broad, mixed-quality corpus per task (its mixture: robots/tabletop/demonstrations.py)."""
    hard_stack: int = 1500
    """More of the corpus for stacking: twelve pairs of colours on random layouts are the hardest to ground."""
    hard_erase: int = 500
    replay_per_task: int = 200
    """Further corpus episodes per task, unseen by the world model: their replays inside it, and what the base policy
    does there from their first frames, teach the judge."""
    demonstrations_per_task: int = 50
    co_training_per_task: int = 100
    """At least as many as foundation.toml has: the lake's expert_demonstrations and co_training_data are the first of
    them. The base policy has learned from them, so that an arm which imagines from their first frames has no data
    that the others never had."""
    near_success_per_task: int = 100
    """Pairs of success and near-success per task, from which the world model's reward heads learn what only just
    misses (World-VLA-Loop's first stage: about 35,000 episodes of 23 tasks)."""
    world_model_steps: int = 6000
    world_model_batch: int = 16
    world_model_rate: float = 2e-3
    world_model_unroll: int = 6
    reward_heads_steps: int = 4000
    reward_heads_rate: float = 1e-3
    policy_phases: tuple[PolicyPhase, ...] = (PolicyPhase(8000, 1.5e-3, 0.998, (0.5, 0.35, 0.15)),)
    """The whole policy, its attention shown where the things are."""
    policy_batch: int = 64
    practice: tuple[tuple[str, int, int], ...] = (
        ("stack", 600, 250),
        ("book", 20, 10),
        ("erase", 700, 200),
        ("scoop", 40, 20),
        ("draw", 60, 30),
    )
    """Task, successes and failures (as far as there are so many) of the broad corpora from which, besides the lake's
    own episodes, what follows the encoder is learned anew: an encoder of many pictures, a head of little practice.
    A policy whose failures come from too little practice gains from hundreds of imagined successes what twenty real
    ones do not give; one that merely makes mistakes on purpose (a large corpus of mixed quality) unlearns them from
    twenty, and no world model can add to that."""
    head_steps: int = 2500
    head_rate: float = 1.5e-3
    head_batch: int = 128
    imagined_per_task: int = 400
    """Imagined rollouts of the base policy whose actions the robot then executes: they teach the judge where
    imagination is not to be believed."""
    reward_model_steps: int = 250
    imagined_steps: int = 800
    """On clips of which three quarters are imagined."""
    reward_model_batch: int = 64


class Corpora:
    """The simulated data of pretraining, collected when first asked for and kept in `work`."""

    def __init__(self, work: Path, cfg: PretrainConfig, progress: Progress | None = None):
        self.work, self.cfg, self.progress = work, cfg, progress

    def broad(self) -> list[Episode]:
        """The mixed-quality corpus, successes and failures."""
        return self._collect("broad", "pretraining", self.cfg.corpus_per_task, self.cfg.seed)

    def hard(self) -> list[Episode]:
        """More of the same mixture for the two hardest tasks to see: stack and erase."""
        cfg, seed = self.cfg, self.cfg.seed + 1
        parts = [
            iterate_demonstrations(
                (task,), count, robot=ROBOT, purpose="pretraining", seed=seed, points=True, progress=self.progress
            )
            for task, count in (("stack", cfg.hard_stack), ("erase", cfg.hard_erase))
        ]
        return cached_corpus(self.work / "hard", lambda: chain(*parts), count=cfg.hard_stack + cfg.hard_erase)

    def unseen(self) -> list[Episode]:
        """Episodes of the same mixture that no other model has seen: what is imagined of them teaches the judge."""
        return self._collect("unseen", "pretraining", self.cfg.replay_per_task, self.cfg.seed + 2)

    def demonstrations(self) -> list[Episode]:
        """The lake's expert_demonstrations."""
        return self._collect("demonstrations", "demonstration", self.cfg.demonstrations_per_task, self.cfg.seed)

    def co_training(self) -> list[Episode]:
        """The lake's co_training_data."""
        return self._collect("co_training", "co_training", self.cfg.co_training_per_task, self.cfg.seed)

    def near_success(self) -> list[Episode]:
        """Success and near-success on layouts of their own: no other corpus has them, nor the lake's near_success."""
        cfg = self.cfg
        if not cfg.near_success_per_task:
            return []
        return cached_corpus(
            self.work / "near_success",
            lambda: iterate_near_success(
                cfg.tasks,
                cfg.near_success_per_task,
                robot=ROBOT,
                purpose="pretraining",
                seed=cfg.seed + 3,
                points=True,
                progress=self.progress,
            ),
            count=2 * cfg.near_success_per_task * len(cfg.tasks),
        )

    def _collect(self, name: str, purpose: str, count: int, seed: int) -> list[Episode]:
        return cached_corpus(
            self.work / name,
            lambda: iterate_demonstrations(
                self.cfg.tasks, count, robot=ROBOT, purpose=purpose, seed=seed, points=True, progress=self.progress
            ),
            count=count * len(self.cfg.tasks),
        )


def make_autoencoder(out: Path) -> dict:
    """The space in which the tiny world model predicts: the pixels. Nothing to train."""
    from vlaw_models.autoencoders.base import build_autoencoder
    from vlaw_models.presets import AUTOENCODER

    build_autoencoder(AUTOENCODER["tiny"], seed=0).save(out)
    return {}


def train_world_model(data: Corpora, autoencoder: Path, out: Path, progress: Progress | None = None) -> dict:
    """The pretrained world model: the broad corpus stands in for the paper's DROID."""
    import torch

    from vlaw_models.autoencoders.base import load_autoencoder
    from vlaw_models.device import compute_device
    from vlaw_models.learners.resume import Checkpoints
    from vlaw_models.learners.world_model import train_world_model as train
    from vlaw_models.learners.world_model import world_model_loop
    from vlaw_models.presets import WORLD_MODEL
    from vlaw_models.world_models.base import build_world_model
    from vlaw_models.world_models.latents import encode_episodes

    cfg = data.cfg
    encoded = encode_episodes(load_autoencoder(autoencoder), [*data.broad(), *data.hard()], when_drawn=True)
    model = build_world_model(WORLD_MODEL["tiny"], robot=ROBOT, seed=cfg.seed).to(compute_device())
    losses = train(
        model,
        encoded,
        loop=world_model_loop(cfg.world_model_steps, cfg.world_model_rate),
        batch_size=cfg.world_model_batch,
        unroll=cfg.world_model_unroll,
        seed=cfg.seed,
        checkpoints=Checkpoints(data.work / "training" / "world_model"),
        progress=progress,
    )
    model.save(out, dtype=torch.float16)
    return {"loss": losses[-1], "episodes": len(encoded)}


def train_reward_heads(
    data: Corpora, autoencoder: Path, world_model: Path, base_policy: Path, progress: Progress | None = None
) -> dict:
    """Heads for the pretrained world model, which stays as it is; they lie in its checkpoint, for who asks for heads.

    They see what the world model itself imagined before (`unroll`), as they will, and with the base policy's eyes: its
    features say where pixels come from, not what they show. Half of what they see is what the base policy does in
    imagination (`tried`). In a trial, on 250 imagined rollouts of which 33 % were true: of what they accepted at .7,
    after a finetuning, 64 % were true without those that were tried, 73 % with them.
    """
    import torch

    from vlaw_models.autoencoders.base import load_autoencoder
    from vlaw_models.learners.resume import Checkpoints
    from vlaw_models.learners.world_model import train_world_model as train
    from vlaw_models.learners.world_model import world_model_loop
    from vlaw_models.policies.base import load_policy
    from vlaw_models.world_models.base import load_world_model
    from vlaw_models.world_models.heads import PRETRAINED, save_heads
    from vlaw_models.world_models.latents import encode_episodes

    cfg = data.cfg
    episodes = [*data.broad(), *data.hard(), *data.near_success()]
    imagined = tried(data, autoencoder, world_model, base_policy, progress)
    encoded, others = (
        encode_episodes(load_autoencoder(autoencoder), part, when_drawn=True) for part in (episodes, imagined)
    )
    model = load_world_model(world_model)
    model.add_seeing_heads(load_policy(base_policy), seed=cfg.seed)
    losses = train(
        model,
        encoded,
        others,
        loop=world_model_loop(cfg.reward_heads_steps, cfg.reward_heads_rate),
        batch_size=cfg.world_model_batch,
        co_training_weight=1.0,
        unroll=cfg.world_model_unroll,
        reward_weight=1.0,
        state_weight=1.0,
        frozen_trunk=True,
        seed=cfg.seed,
        checkpoints=Checkpoints(data.work / "training" / "reward_heads"),
        progress=progress,
    )
    save_heads(model.need_heads(needed_by="pretraining"), world_model / PRETRAINED, dtype=torch.float16)
    return {"loss": losses[-1], "episodes": len(episodes), "imagined": len(imagined)}


def train_base_policy(data: Corpora, out: Path, progress: Progress | None = None) -> dict:
    """The base policy: its encoder from the whole corpus, its head from the lake's own episodes and some practice."""
    import torch

    from vlaw_models.device import compute_device
    from vlaw_models.learners.flow_matching import train_head, train_policy
    from vlaw_models.learners.loop import LoopConfig
    from vlaw_models.learners.resume import Checkpoints
    from vlaw_models.policies.build import build_policy
    from vlaw_models.policies.data import MixedData, StepData
    from vlaw_models.policies.normalization import Normalization

    cfg, preset = data.cfg, POLICY["tiny"]
    broad, hard = data.broad(), data.hard()
    normalization = Normalization.fit(
        [e.states for e in broad],
        [e.actions for e in broad],
        chunk_size=preset["chunk_size"],
        absolute=ROBOT.action.as_is,
        wraps=ROBOT.action.wraps,
    )
    policy = build_policy(
        preset, normalization, robot=ROBOT, seed=cfg.seed, instructions=[e.instruction for e in broad]
    ).to(compute_device())
    more = {task: [e for e in hard if e.task == task] for task in ("stack", "erase")}
    for part, phase in enumerate(cfg.policy_phases):
        sources = [
            StepData.from_episodes(broad),
            StepData.from_episodes(more["stack"], early_share=phase.early_share),
            StepData.from_episodes(more["erase"]),
        ]
        train_policy(
            policy,
            MixedData(sources, phase.shares),
            LoopConfig(steps=phase.steps, learning_rate=phase.rate, ema=phase.ema),
            batch_size=cfg.policy_batch,
            seed=cfg.seed + part,
            checkpoints=Checkpoints(data.work / "training" / f"policy_phase_{part}"),
            progress=progress,
        )
    policy.save(data.work / "policy_encoder")
    policy.forget_head(cfg.seed)
    episodes = [*data.co_training(), *data.demonstrations(), *practice([*broad, *hard], cfg)]
    losses = train_head(
        policy,
        [StepData.from_episodes(episodes)],
        [1.0],
        LoopConfig(steps=cfg.head_steps, learning_rate=cfg.head_rate, ema=0.998),
        batch_size=cfg.head_batch,
        seed=cfg.seed,
        progress=progress,
    )
    policy.save(out, dtype=torch.float16)
    return {"loss": losses[-1], "seen": len(broad) + len(hard), "practised": len(episodes)}


def practice(episodes: list[Episode], cfg: PretrainConfig) -> list[Episode]:
    """`cfg.practice` of the broad corpora, chosen by the seed."""
    rng = np.random.default_rng([cfg.seed, 3])
    chosen = []
    for task, *counts in cfg.practice:
        for success, count in zip((True, False), counts, strict=True):
            fitting = [e for e in episodes if e.task == task and e.success == success]
            chosen += [fitting[i] for i in rng.permutation(len(fitting))[:count]]
    return chosen


def train_reward_model(
    data: Corpora, autoencoder: Path, world_model: Path, base_policy: Path, out: Path, progress: Progress | None = None
) -> dict:
    """The pretrained judge: the base policy's image encoder, and a reader that learns from labelled episodes and from
    imagined ones.

    First from real clips; then also from the world model's replays of episodes that neither has seen, with what really
    came of them, and from what the base policy does in imagination (`tried`): it is to know what outcomes look like
    there, and how far imagination can be trusted. In a trial, on 400 imagined rollouts of which 26 % were true: without
    those that were tried AUROC .71, of the 60 it was surest of 48 % true; with 800 of them .81 and 67 %.
    """
    import torch

    from vlaw_models.device import compute_device
    from vlaw_models.learners.reward_model import train_reward_model as train
    from vlaw_models.policies.base import load_policy
    from vlaw_models.reward_models.clip_judge import ClipJudge
    from vlaw_models.rollouts.replay import replay

    cfg, broad, unseen = data.cfg, data.broad(), data.unseen()
    replays = WorldModelMetricsConfig(num_steps=RolloutConfig.num_steps)
    batches = replay(world_model, autoencoder, unseen, replays, robot=ROBOT, seed=cfg.seed)
    replayed = [
        replace(again, success=episode.success)
        for again, episode in zip(chain.from_iterable(batches), unseen, strict=True)
    ]
    imagined = tried(data, autoencoder, world_model, base_policy, progress)
    real = [broad[i] for i in np.random.default_rng(cfg.seed).permutation(len(broad))[: len(replayed)]]
    judge = ClipJudge.from_policy(load_policy(base_policy), robot=ROBOT, seed=cfg.seed).to(compute_device())
    for episodes, steps, rate in (
        (broad, cfg.reward_model_steps, 1e-3),
        ([*real, *replayed, *imagined], cfg.imagined_steps, 5e-4),
    ):
        result = train(
            judge,
            episodes,
            [bool(episode.success) for episode in episodes],
            steps=steps,
            learning_rate=rate,
            seed=cfg.seed,
            batch_size=cfg.reward_model_batch,
            progress=progress,
        )
    judge.save(out, dtype=torch.float16)
    counts = {"real": len(broad), "replays": len(replayed), "imagined": len(imagined)}
    return {"loss": float(np.mean(result["losses"][-20:])), **counts}


def tried(
    data: Corpora, autoencoder: Path, world_model: Path, base_policy: Path, progress: Progress | None = None
) -> list[Episode]:
    """What the base policy does in imagination, with what came of its actions when the robot executed them: from the
    first frames of the unseen episodes, then of others of the broad corpus."""
    from vlaw_models.rollouts.imagine import imagine
    from vlaw_models.rollouts.privileged import true_outcomes

    cfg, broad, starts = data.cfg, data.broad(), []
    order = np.random.default_rng([cfg.seed, 4]).permutation(len(broad))
    pool = [*data.unseen(), *(broad[i] for i in order)]
    for task in cfg.tasks:
        starts += [
            Start(e.task, e.seed, e.instruction, e.images[0], e.states[0], f"{e.task}-{e.seed}")
            for e in [e for e in pool if e.task == task][: cfg.imagined_per_task]
        ]
    settings = ImagineConfig(num_steps=RolloutConfig.num_steps)

    def made() -> Iterator[Episode]:
        origins = {str(start.episode_id): start for start in starts}
        for batch in imagine(
            base_policy, world_model, autoencoder, starts, settings, robot=ROBOT, seed=cfg.seed, progress=progress
        ):
            outcomes = true_outcomes(batch, origins, robot=ROBOT)
            yield from (replace(episode, success=bool(true)) for episode, true in zip(batch, outcomes, strict=True))

    return cached_corpus(data.work / "tried", made, count=len(starts))
