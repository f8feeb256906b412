"""The answers of a synthetic ledger, in closed form: what `synthetic_ledger.py` puts in, counted without looking.

Episode k of an artifact is of task k % 5, and its place in the task, slot = (k // 5) % 20, decides the rest. A real one
is a success where slot < rate(iteration, task); an imagined one starts from real episode k of its iteration and is
accepted where slot < 4; the last slot of a training set's own iteration is a member of weight 0. Training sets are
cumulative: every real success so far, and what was imagined and accepted in their own iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TASKS = ("stack", "book", "erase", "scoop", "draw")
EXPERIMENT = "vlaw"
SLOTS = 20
UNIT = SLOTS * len(TASKS)
"""Counts of episodes are multiples of this, so that every rate comes out exactly."""
ACCEPTED, ALPHA = 4, 0.8


@dataclass(frozen=True)
class Size:
    """How many episodes each artifact holds; all multiples of 100, imagined <= real."""

    iterations: int = 3
    corpus: int = 100
    """Of each of the two scripted corpora of the foundation."""
    real: int = 400
    imagined: int = 200
    evaluation: int = 100
    validation: int = 100
    rows: int = 10
    """Step rows per episode on average; even. Episodes of even index have 5 fewer (if rows > 10), odd ones 5 more."""

    def __post_init__(self) -> None:
        counts = (self.corpus, self.real, self.imagined, self.evaluation, self.validation)
        if any(count % UNIT for count in counts) or self.imagined > self.real:
            raise ValueError(f"{counts}: multiples of {UNIT}, imagined at most real")

    @property
    def episodes(self) -> int:
        """Of the whole lake: replays are as many as validation clips, and the first policy is evaluated once more."""
        per_iteration = self.real + self.imagined + self.evaluation + 2 * self.validation
        return 2 * self.corpus + self.evaluation + self.iterations * per_iteration

    @property
    def steps(self) -> int:
        return self.episodes * self.rows


FULL = Size(iterations=30, corpus=10_500, real=25_600, imagined=5_000, evaluation=1_000, validation=500, rows=40)
"""10^6 episodes, 4 x 10^7 step rows, 10^7 member rows."""


def rate(iteration: int, task: int) -> int:
    """Successes among the 20 slots of a task: of the policy that iteration `iteration` starts with; 0: of an expert."""
    return 16 + min(2, iteration // 10) + task % 2 if iteration else SLOTS


def successful(index: np.ndarray, iteration: int) -> np.ndarray:
    """Which episodes succeed, by their index: bool."""
    rates = np.array([rate(iteration, task) for task in range(len(TASKS))])
    return index // len(TASKS) % SLOTS < rates[index % len(TASKS)]


@dataclass(frozen=True)
class Known:
    """The right answers for a lake of this size."""

    size: Size

    def successes(self, iteration: int, count: int, task: int | None = None) -> int:
        """Among `count` real episodes of the policy that this iteration starts with (30 + 1: that it ends with)."""
        tasks = range(len(TASKS)) if task is None else (task,)
        return sum(count // UNIT * rate(iteration, each) for each in tasks)

    def real_members(self, iteration: int) -> int:
        """Real successes of all iterations so far."""
        return sum(self.successes(each, self.size.real) for each in range(1, iteration + 1))

    def imagined_members(self) -> int:
        return self.size.imagined // SLOTS * ACCEPTED

    def weightless(self) -> int:
        return self.size.real // SLOTS

    def members(self, iteration: int) -> int:
        """Rows of the training set of an iteration."""
        return self.real_members(iteration) + self.imagined_members() + self.weightless()

    def all_members(self) -> int:
        return sum(self.members(iteration) for iteration in range(1, self.size.iterations + 1))

    def real_index(self, *, success: bool) -> int:
        """Index of a real episode in the middle of its artifact, of task 0, that succeeded or failed for sure."""
        middle = self.size.real // UNIT // 2 * UNIT
        return middle if success else middle + (SLOTS - 1) * len(TASKS)

    def imagined_index(self, *, accepted: bool) -> int:
        middle = self.size.imagined // UNIT // 2 * UNIT
        return middle + len(TASKS) * (ACCEPTED - 1 if accepted else ACCEPTED)

    def datasets_of(self, iteration: int, *, success: bool) -> int:
        """In how many training sets a real episode of that iteration is: all later ones, or one with weight 0."""
        return self.size.iterations - iteration + 1 if success else 1

    def reached(self, asset: str, iteration: int, *, accepted: bool = True) -> set[tuple[str, str]]:
        """(asset, partition) of all that an episode reaches, its own artifact left out.

        Of a real episode: the world model of its iteration learns from it, success or failure. Of an imagined one: its
        score, and with `accepted` the training set and what follows. Of a validation clip: the figures of its
        iteration.
        """
        first = {
            "real_rollouts": (
                "world_model",
                "imagined_rollouts",
                "reward_scores",
                "training_set",
                "policy",
                "policy_evaluation",
                "world_model_metrics",
                "iteration_report",
            ),
            "imagined_rollouts": ("reward_scores", "training_set", "policy", "policy_evaluation", "iteration_report"),
            "validation_rollouts": ("world_model_metrics", "reward_model_metrics", "iteration_report"),
        }[asset]
        later: tuple[str, ...] = LOOP
        if asset == "validation_rollouts" or not accepted:
            first, later = (first, ()) if accepted else (("reward_scores",), ())
        if asset == "real_rollouts" and iteration == 1:  # the judge learns from the first real rollouts only
            first = (*first, "reward_model", "reward_model_metrics")
        else:
            later = tuple(name for name in later if name != "reward_model")
        found = {(name, key(iteration)) for name in first}
        return found | {(name, key(each)) for each in range(iteration + 1, self.size.iterations + 1) for name in later}


LOOP = (
    "loop_state",
    "start_evaluation",
    "real_rollouts",
    "validation_rollouts",
    "world_model",
    "reward_model",
    "imagined_rollouts",
    "reward_scores",
    "training_set",
    "policy",
    "policy_evaluation",
    "world_model_metrics",
    "reward_model_metrics",
    "iteration_report",
)


def key(iteration: int, experiment: str = EXPERIMENT) -> str:
    return f"{experiment}|{iteration:02d}"
