"""Practice: groups of rollouts from the same starts by the policy that is just learning, for policy gradients.

Each rollout keeps what it sampled and how likely that was (`Chunks`), and gets one reward: 1 or 0, or its score. Where
it is tried (a world model, the robot) and what its score is are the caller's, who also keeps the episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.config import ImagineConfig
from vlaw_models.episodes import Episode, Observation, Start
from vlaw_models.learners.grpo import Chunks, Update
from vlaw_models.policies.base import Generators
from vlaw_models.policies.likelihood import LikelihoodPolicy, Traced
from vlaw_models.progress import Progress, silent
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spaces import check_acts
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.rollouts.rewards import check_scores
from vlaw_models.rollouts.rollout import rollout
from vlaw_models.world_models.base import load_world_model
from vlaw_models.world_models.imagined_world import ImaginedWorld, check_robot
from vlaw_models.worlds import World

NO_ROBOT = 'Choose policy.learner = "grpo", which practises in the world model.'
RL_STEP, GROUP = "rl_step", "group"
"""Of the `extra` of an episode made while a policy learned: the RL step, from 1, and the group in it, from 0."""


@dataclass
class Practice:
    """Where a policy is tried while it learns. The same calls, the same episodes."""

    world: Callable[[LikelihoodPolicy, int], World]
    """The world of a batch for the policy; its own noise is of that seed."""
    starts: Sequence[Start]
    """One for each group, those of an RL step after those of the step before."""
    scores: Callable[[Sequence[Episode]], np.ndarray]
    """(N,) from 0 to 1: how surely each rollout is a success."""
    threshold: float
    """A rollout is a success where its score is above."""
    keep: Callable[[Sequence[Episode], Sequence[Start], np.ndarray], None]
    """Is given each batch of episodes with their starts and scores."""
    num_steps: int
    seed: int
    graded: bool = False
    """Whether rewards are the scores themselves."""
    batch_size: int = 25
    """Rollouts at once, at most."""
    left_out: Collection[tuple[int, int]] = ()
    """(RL step, from 1, and group in it) of groups that are not to be rolled out."""
    progress: Progress = silent
    made: int = field(default=0, init=False)
    steps: list[dict[str, Any]] = field(default_factory=list, init=False)
    """What came of each RL step: {success, signal, clipped, kl}."""
    _success: float = field(default=0.0, init=False)

    def groups(
        self, policy: LikelihoodPolicy, step: int, *, groups: int, size: int, temperature: float
    ) -> tuple[Chunks, np.ndarray] | None:
        """The chunks of `groups` groups of `size` rollouts, and their rewards (groups, size), of RL step `step` (from
        0); None where all of these groups are left out. Raises VlawError for a score outside [0, 1], and where the
        world or the policy does not fit."""
        own = [group for group in range(groups) if (step + 1, group) not in self.left_out]
        if not own:
            return None
        begins = [(group, self.starts[step * groups + group]) for group in own]
        rows = [(group, start) for group, start in begins for _ in range(size)]
        found: list[Chunks] = []
        scored: list[np.ndarray] = []
        for begin in range(0, len(rows), self.batch_size):
            part = rows[begin : begin + self.batch_size]
            starts = [start for _, start in part]
            world_seed, policy_seed = np.random.SeedSequence([self.seed, step, begin]).generate_state(2, np.uint32)
            traced = _Tracing(policy, temperature)
            made = rollout(
                traced, self.world(policy, int(world_seed)), starts, num_steps=self.num_steps, seed=int(policy_seed)
            )
            episodes = [
                replace(one, seed=start.seed, extra={**one.extra, RL_STEP: step + 1, GROUP: group})
                for one, (group, start) in zip(made, part, strict=True)
            ]
            scores = check_scores(self.scores(episodes))
            self.keep(episodes, starts, scores)
            found.append(traced.chunks(episodes, first=begin))
            scored.append(scores)
            self.made += len(part)
            self.progress(self.made, len(self.starts) * size, f"RL step {step + 1}: rollouts")
        whole = np.concatenate(scored).astype(np.float64).reshape(len(own), size)
        successes = whole > self.threshold
        self._success = float(successes.mean())
        return joined(found), whole if self.graded else successes.astype(np.float64)

    def learned(self, step: int, rewards: np.ndarray, signal: int, update: Update) -> None:
        """What an RL step came to; `signal`: how many of its groups were learned from."""
        self.steps.append(
            {
                "success": self._success,
                "signal": signal,
                "clipped": float(np.mean(update.clipped)) if update.clipped else 0.0,
                "kl": float(np.mean(update.kl)) if update.kl else 0.0,
            }
        )
        said = update.note or f"success {self._success:.2f}, {signal} of {len(rewards)} groups had signal"
        self.progress(self.made, len(self.starts) * rewards.shape[1], f"RL step {step + 1}: {said}")


class _Tracing:
    """The policy as a rollout asks it, remembering what it saw and drew."""

    def __init__(self, policy: LikelihoodPolicy, temperature: float):
        self.execute_steps = policy.execute_steps
        self._policy, self._temperature = policy, temperature
        self._calls: list[tuple[Observation, torch.Tensor, Traced]] = []

    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        del noise_scale
        found = self._policy.sample_traced(observation, instructions, generator, self._temperature)
        self._calls.append((observation, self._policy.read(instructions, observation.state), found))
        return found.actions

    def chunks(self, episodes: Sequence[Episode], *, first: int) -> Chunks:
        """Of the rollouts that were asked for, in their order; `first`: the number of the first one.

        At each call those were asked about whose episode goes on after it: the others had left the batch.
        """
        lengths = np.array([episode.num_steps for episode in episodes])
        parts = []
        for number, (seen, tokens, found) in enumerate(self._calls):
            done = number * self.execute_steps
            rows = np.flatnonzero(lengths > done)
            count = np.minimum(lengths[rows] - done, self.execute_steps)
            executed = np.arange(found.log_prob.shape[1])[None] < count[:, None]
            parts.append(
                Chunks(
                    rollout=torch.from_numpy(rows + first),
                    state=torch.from_numpy(np.array(seen.state, np.float32)),
                    trace=found.trace,
                    log_prob=found.log_prob,
                    executed=torch.from_numpy(executed),
                    images=torch.from_numpy(np.array(seen.images)),
                    tokens=tokens,
                )
            )
        return joined(parts)


def in_world_model(
    world_model_dir: Path, autoencoder_dir: Path, cfg: ImagineConfig, *, robot: RobotSpec, head: str = ""
) -> Callable[[LikelihoodPolicy, int], World]:
    """`Practice.world` of a world model. `head`: the key that needs its reward head. Raises VlawError where it has
    none, or does not fit the robot."""
    model, autoencoder = load_world_model(world_model_dir), load_autoencoder(autoencoder_dir)
    check_robot(model, robot)
    if head:
        model.need_heads(needed_by=head)

    def world(policy: LikelihoodPolicy, seed: int) -> World:
        check_acts(getattr(policy, "space", None), robot, where="practice")
        return ImaginedWorld(model, autoencoder, robot, sampling=cfg.sampling, seed=seed, done_above=cfg.done_above)

    return world


def on_robot(robot: RobotSpec, *, done_above: float | None) -> Callable[[LikelihoodPolicy, int], World]:
    """`Practice.world` of the simulated robot. Raises VlawError where nothing simulates it."""
    simulator = simulator_of(robot, needed_by="policy.learner = 'grpo_on_robot'", remedy=NO_ROBOT)
    worlds: dict[Any, World] = {}

    def world(policy: LikelihoodPolicy, _: int) -> World:
        # A policy that says for which picture size it was made is shown that size.
        size = getattr(policy, "image_size", None)
        if size not in worlds:
            worlds[size] = simulator.world(size)
            worlds[size].done_above = done_above
        return worlds[size]

    return world


def world_scores(episodes: Sequence[Episode]) -> np.ndarray:
    """(N,): 1 where the world says that the episode succeeded, else 0."""
    return np.array([bool(episode.success) for episode in episodes], np.float64)


def joined(parts: Sequence[Chunks]) -> Chunks:
    """All chunks, in order; of each field either all parts have it or none."""
    columns = {one.name: [getattr(part, one.name) for part in parts] for one in fields(Chunks)}
    values: dict[str, Any] = {name: None if None in _kinds(own) else torch.cat(own) for name, own in columns.items()}
    return Chunks(**values)


def _kinds(values: Sequence[Any]) -> set[Any]:
    return {None if value is None else torch.Tensor for value in values}
