"""Stopping points: one training run, its averaged weights kept at several numbers of updates, the best one chosen.

Chosen by success on validation starts. Whether what was chosen may replace the policy before is the promotion gate's
to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.policies.base import Policy

Outcomes = dict[str, list[bool]]
"""Task -> success on every validation start, in order."""
Evaluate = Callable[["Policy"], Outcomes]


class Stops:
    """The stopping points of one training run, and the weights at each."""

    def __init__(self, at: Sequence[int], steps: int):
        """`at`: numbers of updates; empty: `steps` alone. Raises VlawError for a number below 1."""
        self.at = tuple(sorted(set(at))) or (steps,)
        if self.at[0] < 1:
            raise VlawError(
                f"a stopping point of {self.at[0]} updates",
                where="policy.stops",
                remedy="Give numbers of updates, 1 or more; the policy it starts from is measured anyway.",
            )
        self._parameters: list[torch.nn.Parameter] = []
        self._kept: dict[int, list[torch.Tensor]] = {}

    @property
    def last(self) -> int:
        """Updates of the whole run."""
        return self.at[-1]

    def keep(self, step: int, parameters: list[torch.nn.Parameter], averaged: Sequence[torch.Tensor]) -> None:
        """Called after every update with the parameters trained and their averages."""
        if step in self.at:
            self._parameters = parameters
            self._kept[step] = [tensor.clone() for tensor in averaged]

    def restore(self, step: int) -> None:
        """Gives the trained parameters the averages they had after `step` updates."""
        with torch.no_grad():
            torch._foreach_copy_([p.detach() for p in self._parameters], self._kept[step])

    def choose(self, policy: Policy, evaluate: Evaluate) -> tuple[int, dict[int, Outcomes]]:
        """Leaves the weights with the highest pooled success in the policy, the earliest among equals.

        Returns the stopping point chosen and the outcomes at each.
        """
        outcomes: dict[int, Outcomes] = {}
        for step in self.at:
            self.restore(step)
            outcomes[step] = evaluate(policy)
        chosen = max(self.at, key=lambda step: (pooled(outcomes[step]), -step))
        self.restore(chosen)
        return chosen, outcomes


def pooled(outcomes: Outcomes) -> float:
    """Success over all tasks. Raises VlawError where there is no trial to decide by."""
    trials: list[Any] = [success for task in outcomes.values() for success in task]
    if not trials:
        raise VlawError(
            "there is no validation trial to choose a stopping point by",
            where="policy.stops",
            remedy="Set policy.validation_per_task to 1 or more.",
        )
    return sum(map(bool, trials)) / len(trials)
