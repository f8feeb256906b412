"""The policy update of Algorithm 1: a learner fits the policy, and its best stopping point is kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.config import PolicyConfig
from vlaw_models.device import first_process
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import NOTHING, Examples, Learner
from vlaw_models.learners.stopping import Evaluate, Stops
from vlaw_models.policies.base import load_policy
from vlaw_models.progress import Progress

if TYPE_CHECKING:
    from vlaw_models.learners.resume import Checkpoints
    from vlaw_models.rollouts.practice import Practice


def update_policy(
    start_dir: Path,
    learner: Learner,
    real: Examples,
    imagined: Examples,
    settings: PolicyConfig,
    out_dir: Path,
    *,
    rehearsed: Examples = NOTHING,
    seed: int,
    evaluate: Evaluate | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
    practice: Practice | None = None,
) -> dict[str, Any]:
    """Updates the policy in `start_dir` by a learner and writes it to `out_dir`.

    `evaluate` measures a policy on validation starts: then the start policy and every one of `settings.stops` is
    measured, and the best stop is what is written. `checkpoints`: where an interrupted training is gone on with
    (resume.py), by learners that train with loop.py. `practice` is where a learner that practises tries the policy.

    Returns {"losses", "seconds", "real_steps", "imagined_steps", "rehearsed_steps"}, and where it was measured "stop"
    (the one chosen) and "outcomes" (stop -> task -> [success per start]; stop 0 is the start policy). Raises VlawError
    where there is nothing new to learn from, the learner does not fit the policy, or there are stops without an
    `evaluate`; then nothing is written.
    """
    begun = time.monotonic()
    if not (real.episodes or imagined.episodes or practice):
        raise VlawError(
            "there is no episode to learn from",
            where="policy update",
            remedy="Collect more rollouts, imagine more episodes, or lower alpha of the score stage.",
        )
    if settings.stops and evaluate is None:
        raise VlawError(
            "there are stopping points, and nothing to choose between them by",
            where="policy.stops",
            remedy="Set policy.validation_per_task to 1 or more, or policy.stops = [].",
        )
    policy = load_policy(start_dir)
    misfit = learner.fits(type(policy), settings)
    if misfit is not None:
        raise VlawError(f"{misfit.key} {misfit.why}", where="policy update", remedy=misfit.remedy)
    stops = Stops(settings.stops, learner.updates(settings), checkpoints)
    options: dict[str, Any] = {"rehearsed": rehearsed, "stops": stops, "seed": seed, "progress": progress}
    options |= {"practice": practice} if learner.practises else {}
    updated, losses = learner.fit(policy, real, imagined, settings, **options)
    parts = {"real": real, "imagined": imagined, "rehearsed": rehearsed}
    log = {"losses": losses, **{f"{name}_steps": part.steps for name, part in parts.items()}}
    if not first_process():  # which goes on alone
        return {**log, "seconds": time.monotonic() - begun}
    if evaluate is not None:
        before = evaluate(load_policy(start_dir))
        chosen, outcomes = stops.choose(updated, evaluate)
        log |= {"stop": chosen, "outcomes": {0: before, **outcomes}}
    updated.save(out_dir)
    return {**log, "seconds": time.monotonic() - begun}
