"""What a learner of policies is: which episodes it takes, how much each counts, and how a policy learns from them.

A learner is a frozen dataclass in a file of its own. Its fields are the recipe's table of the learner's name, so a
recipe chooses and configures one like this:

    [policy]
    learner = "awr"

    [awr]
    beta = 0.25

Recipes load learners to check them: a learner's module imports torch inside its functions.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from vlaw_models.config import identifying
from vlaw_models.progress import Progress
from vlaw_models.registry import Registry

if TYPE_CHECKING:
    from vlaw_models.config import PolicyConfig
    from vlaw_models.episodes import Episode
    from vlaw_models.learners.stopping import Stops
    from vlaw_models.policies.base import Policy

LEARNERS = Registry(
    "learner",
    "vlaw.learners",
    {
        "filtered": "vlaw_models.learners.imitation:Filtered",
        "awr": "vlaw_models.learners.imitation:AdvantageWeighted",
        "recap": "vlaw_models.learners.recap:Recap",
        "dsrl": "vlaw_models.learners.dsrl:Dsrl",
        "dsrl_imagined": "vlaw_models.learners.dsrl:ImaginedDsrl",
        "grpo": "vlaw_models.learners.grpo_learner:Grpo",
        "grpo_on_robot": "vlaw_models.learners.grpo_learner:GrpoOnRobot",
    },
)
"""Name, as in a recipe's policy.learner, -> class."""
KINDS = REAL, IMAGINED, REHEARSED = ("real", "imagined", "rehearsed")
NEGATIVE = "_negative"
"""End of the source in the row of a member whose advantage is not positive."""


@dataclass(frozen=True)
class Candidate:
    """An episode that a policy may learn from."""

    episode_id: str
    owner: str
    """The artifact that holds it."""
    task: str
    source: Literal["real", "imagined"]
    score: float
    """Of a real episode 1 for success, else 0; of an imagined one P(yes)."""
    newest: bool = False
    """Whether it is a real rollout of this iteration, so of the policy that is improved on."""


@dataclass(frozen=True)
class Member:
    """An episode that the policy learns from."""

    episode_id: str
    owner: str
    source: Literal["real", "imagined", "rehearsed"]
    weight: float = 1.0
    """w(o, a) of Eq. 4, of all its steps."""
    positive: bool = True
    """The sign of its advantage."""

    @classmethod
    def of(cls, candidate: Candidate, *, weight: float = 1.0, positive: bool = True) -> Member:
        return cls(candidate.episode_id, candidate.owner, candidate.source, weight, positive)

    def row(self) -> dict[str, Any]:
        """As it is stored."""
        source = self.source if self.positive else self.source + NEGATIVE
        return {"episode_id": self.episode_id, "owner": self.owner, "weight": self.weight, "source": source}


@dataclass(frozen=True)
class Examples:
    """Episodes to learn from with their frames, and what the training set says of each."""

    episodes: Sequence[Episode] = ()
    weights: Sequence[float] = ()
    positive: Sequence[bool] = ()

    @classmethod
    def equal(cls, episodes: Sequence[Episode]) -> Examples:
        """All of weight 1 and of positive advantage."""
        return cls(episodes, [1.0] * len(episodes), [True] * len(episodes))

    @classmethod
    def of_rows(cls, episodes: Sequence[Episode], rows: Mapping[str, Mapping[str, Any]]) -> Examples:
        """With what `Member.row` says of each, by its id."""
        found = [rows[episode.episode_id] for episode in episodes]
        return cls(episodes, [row["weight"] for row in found], [not row["source"].endswith(NEGATIVE) for row in found])

    def of_task(self, task: str) -> Examples:
        rows = [row for row, episode in enumerate(self.episodes) if episode.task == task]
        return Examples(
            [self.episodes[row] for row in rows],
            [self.weights[row] for row in rows],
            [self.positive[row] for row in rows],
        )

    @property
    def steps(self) -> int:
        return sum(episode.num_steps for episode in self.episodes)


class Misfit(NamedTuple):
    """Why a learner cannot do what a recipe asks."""

    key: str
    """The recipe's key: "policy.frozen_encoder"."""
    why: str
    remedy: str


NOTHING = Examples()


@dataclass(frozen=True)
class Learner(ABC):
    """Subclasses are frozen dataclasses of plain values with defaults."""

    real: ClassVar[Literal["successes", "all"]] = "all"
    """Which real rollouts become candidates."""
    imagined: ClassVar[bool] = True
    """Whether imagined episodes do, with their scores."""
    practises: ClassVar[Literal["", "world_model", "robot"]] = ""
    """Where it tries its policy while it learns; then `fit` takes a `practice` too (rollouts/practice.py), which makes
    and keeps those episodes, and there may be no others."""
    reads_alpha: ClassVar[bool] = False
    """Whether the threshold score.alpha decides about members."""
    one_by_one: ClassVar[bool] = False
    """Whether an episode's membership and weight depend on no other episode; then lineage goes by episode."""
    member_keys: ClassVar[tuple[str, ...]] = ()
    """Its own fields that decide about members."""
    policy_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of [policy] that decide how a policy learns, besides `ema`, `stops` and what chooses the start."""

    @abstractmethod
    def members(self, candidates: Sequence[Candidate], *, alpha: float) -> tuple[list[Member], dict[str, Any]]:
        """The training set in the order of the candidates, and numbers worth keeping beside it. Raises VlawError."""

    @abstractmethod
    def fits(self, policy_class: type[Any], settings: PolicyConfig) -> Misfit | None:
        """Why a policy of that class cannot be updated so; None where it can."""

    @abstractmethod
    def fit(
        self,
        policy: Policy,
        real: Examples,
        imagined: Examples,
        settings: PolicyConfig,
        *,
        rehearsed: Examples = NOTHING,
        stops: Stops,
        seed: int,
        progress: Progress | None = None,
    ) -> tuple[Policy, list[float]]:
        """The updated policy after `stops.last` updates, and the loss of each; `policy` may be changed by it.

        `rehearsed` is what it could do before; nothing, unless `rehearses`.

        Calls `stops.keep` after every update. The trainer (loop.py) does so where it is given `stops`, and goes on
        where it was interrupted: what happens before it must follow from the arguments. Same arguments and number of
        threads, same weights. Raises VlawError.
        """

    def rehearses(self, settings: PolicyConfig) -> bool:
        """Whether training sets have what is rehearsed: the recipe asks for it, and the learner reads the key."""
        return settings.rehearsal > 0 and "rehearsal" in self.policy_keys

    def updates(self, settings: PolicyConfig) -> int:
        """Number of updates where the recipe gives no stopping points."""
        return settings.steps

    def member_table(self) -> dict[str, Any]:
        """Its own fields that decide about members: part of the training set's identity."""
        return {key: getattr(self, key) for key in self.member_keys}

    def fit_tables(self, settings: PolicyConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """What it reads of [policy] and of its own table when it fits: part of the policy's identity."""
        unread, known = {"steps"} if settings.stops else set(), identifying(settings)
        shared = ["ema", *(["stops"] if settings.stops else []), *self.policy_keys]
        own = [item.name for item in dataclasses.fields(self) if item.name not in self.member_keys]
        return (
            {key: known[key] for key in shared if key in known and key not in unread},
            {key: getattr(self, key) for key in own if key not in unread},
        )


def load_learner(name: str, table: Mapping[str, Any] | None = None, *, where: str) -> Learner:
    """The learner of that name with the values of its table. Raises VlawError for an unknown one (choices listed)."""
    return LEARNERS.load(name, where=where)(**(table or {}))
