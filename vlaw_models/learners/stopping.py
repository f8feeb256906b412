"""Stopping points: one training run, its averaged weights kept at several numbers of updates, the best one chosen.

Chosen by success on validation starts. Whether what was chosen may replace the policy before is the promotion gate's
to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from vlaw_models.errors import VlawError
from vlaw_models.learners.resume import Checkpoints, write_whole

if TYPE_CHECKING:
    from vlaw_models.policies.base import Policy

Outcomes = dict[str, list[bool]]
"""Task -> success on every validation start, in order."""
Evaluate = Callable[["Policy"], Outcomes]


class Stops:
    """The stopping points of one training run, and the weights at each: on the disk, not beside those in training."""

    def __init__(self, at: Sequence[int], steps: int, checkpoints: Checkpoints | None = None):
        """`at`: numbers of updates; empty: `steps` alone. `checkpoints`: where the run's own state is kept, and these
        weights beside it; without, they go with this object. Raises VlawError for a number below 1."""
        self.at = tuple(sorted(set(at))) or (steps,)
        if self.at[0] < 1:
            raise VlawError(
                f"a stopping point of {self.at[0]} updates",
                where="policy.stops",
                remedy="Give numbers of updates, 1 or more; the policy it starts from is measured anyway.",
            )
        self.checkpoints = checkpoints
        self._temporary = TemporaryDirectory(prefix="vlaw-stops-")
        self._parameters: list[torch.nn.Parameter] = []

    @property
    def last(self) -> int:
        """Updates of the whole run."""
        return self.at[-1]

    def begin(self, parameters: list[torch.nn.Parameter]) -> None:
        """Called with the parameters that are trained, before the first update."""
        self._parameters = parameters

    def keep(self, step: int, parameters: list[torch.nn.Parameter], averaged: Sequence[torch.Tensor]) -> None:
        """Called after updates, at least those that are stopping points, with the parameters and their averages."""
        self._parameters = parameters
        if step not in self.at:
            return
        self._path(step).parent.mkdir(parents=True, exist_ok=True)
        # A copy of each: safetensors refuses memory that two of them share, and any order of it but the plain one.
        tensors = {str(place): tensor.detach().to("cpu").contiguous().clone() for place, tensor in enumerate(averaged)}
        write_whole(self._path(step), lambda path: save_file(tensors, path))

    def restore(self, step: int) -> None:
        """Gives the trained parameters the averages they had after `step` updates."""
        kept = load_file(self._path(step))
        with torch.no_grad():
            for place, parameter in enumerate(self._parameters):
                parameter.copy_(kept[str(place)])

    def _path(self, step: int) -> Path:
        folder = self.checkpoints.folder if self.checkpoints else Path(self._temporary.name)
        return folder / f"stop-{step:08d}.safetensors"

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
