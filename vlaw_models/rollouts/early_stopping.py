"""Policy evaluation that stops when the answer is clear: trials in batches, a sequential test against earlier outcomes.

Batches of held-out starts, interleaved over tasks, until the paired sequential test (metrics/sequential.py) names the
better policy or the planned trials are used up. Rates of a run that stopped when it looked good are biased: their
intervals are confidence sequences, and a study compares evaluations of fixed size (collect.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlaw_models.config import EvaluationConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.metrics.sequential import A_BETTER, UNDECIDED, Decision, interleaved, paired_stream
from vlaw_models.progress import Progress
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.rollouts.collect import EVALUATION_NOISE_SEED, last_frame_only
from vlaw_models.rollouts.rollout import rollout
from vlaw_models.rollouts.seeds import start_seeds

BATCH = 25
"""Trials between two looks: a batch of robots is rolled out together."""
ALPHA = 0.05
Trial = tuple[str, int]
"""(task, seed) of a start."""


@dataclass(frozen=True)
class Stopping:
    """How an evaluation ended; `decision` is of this policy (a) against the earlier one (b)."""

    run: int
    planned: int
    decision: Decision

    @property
    def reason(self) -> str:
        """One sentence for people."""
        if self.decision.state == UNDECIDED:
            return f"all {self.planned} planned trials run: the sequential test has not settled the comparison"
        better = "better" if self.decision.state == A_BETTER else "worse"
        return (
            f"settled at {1 - ALPHA:.0%} after {self.decision.trials} of {self.planned} planned trials ({self.run} "
            f"run): "
            f"{better} than the policy the iteration started with"
        )

    def detail(self) -> dict[str, Any]:
        """Plain values for a row."""
        return {
            "stop_early": True,
            "run": self.run,
            "planned": self.planned,
            "stopped": self.reason,
            "state": self.decision.state,
            "decided_after": None if self.decision.state == UNDECIDED else self.decision.trials,
            "e_value": self.decision.e_value,
            "alpha": ALPHA,
            "interval": "confidence sequence",
        }


def until_settled(
    planned: Sequence[Trial],
    before: Mapping[Trial, bool],
    run: Callable[[list[Trial]], Sequence[Episode]],
    *,
    batch: int = BATCH,
    alpha: float = ALPHA,
) -> tuple[list[Episode], Stopping]:
    """Runs batches of `planned`, interleaved over tasks, until the better policy is clear; (episodes in that order,
    why).

    `before`: outcomes of the policy to compare with, of every planned trial; `run` gives an episode with its outcome
    for each trial it is given. The test is asked after each trial, the run stops at the end of a batch. VlawError where
    a planned trial has no outcome before, where nothing is planned, and for an episode without outcome.
    """
    order = interleaved(planned)
    missing = [f"{task}, seed {seed}" for task, seed in order if (task, seed) not in before]
    if missing or not order:
        raise VlawError(
            f"{len(missing)} of {len(order)} planned trials have no outcome to compare with",
            where="; ".join(missing[:3]) or "evaluation that stops early",
            remedy="Materialize start_evaluation with the same evaluation.episodes_per_task, or set "
            "evaluation.stop_early = false.",
        )
    episodes: list[Episode] = []
    for begin in range(0, len(order), batch):
        part = order[begin : begin + batch]
        done = list(run(part))
        if len(done) != len(part) or any(type(episode.success) is not bool for episode in done):
            raise VlawError(
                "a trial came back without an outcome",
                where=f"trials {begin} to {begin + len(part) - 1}",
                remedy="Evaluate in a world that judges its episodes.",
            )
        episodes += done
        decision = paired_stream(
            np.array([episode.success for episode in episodes]),
            np.array([bool(before[trial]) for trial in order[: len(episodes)]]),
            alpha,
        )
        if decision.state != UNDECIDED:
            break
    return episodes, Stopping(len(episodes), len(order), decision)


def evaluate_until_settled(
    policy_dir: Path,
    tasks: Sequence[str],
    cfg: EvaluationConfig,
    before: Mapping[Trial, bool],
    *,
    robot: RobotSpec,
    noise_seed: int = EVALUATION_NOISE_SEED,
    progress: Progress | None = None,
    seen: Callable[[Episode], None] | None = None,
) -> tuple[list[Episode], Stopping]:
    """`collect.evaluate_policy` that stops early: the same held-out starts, batched otherwise, so with other noise."""
    from vlaw_models.policies.base import load_policy

    robot.check_tasks(tasks)
    simulator = simulator_of(
        robot, needed_by="an evaluation that stops early", remedy="Set evaluation.stop_early = false."
    )
    policy = load_policy(Path(policy_dir))
    world = simulator.world(getattr(policy, "image_size", None), inner_frames=False)
    planned = [(task, seed) for task in tasks for seed in start_seeds("evaluation", task, 0, 0, cfg.episodes_per_task)]
    seeds = iter(np.random.SeedSequence([noise_seed]).generate_state(-(-len(planned) // BATCH)))
    ran = 0

    def run(part: list[Trial]) -> list[Episode]:
        nonlocal ran
        done = rollout(
            policy,
            world,
            [Start(*trial) for trial in part],
            num_steps=cfg.num_steps,
            seed=int(next(seeds)),
            noise_scale=cfg.noise_scale,
        )
        ran += len(part)
        if progress:
            progress(ran, len(planned), "trials")
        return [last_frame_only(episode, seen) for episode in done]

    return until_settled(planned, before, run)
