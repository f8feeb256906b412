"""Does the world model imagine the interaction right? The robot's outcome against the outcome in the replay.

Each trial is a recorded episode whose actions are replayed inside the world model from the same first frame. `real` is
the outcome on the robot, `judged` the outcome seen in the replay. A false positive is a failure that the world model
turned into a success: what makes a policy train on what does not work (VLAW, Table 1).

Counts, rates and differences of rates, per task and over all. A judge errs too: judging the recorded episodes
themselves tells how much of a false positive is the judge's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlaw_models.errors import VlawError
from vlaw_models.metrics.confusion import Confusion, confusion
from vlaw_models.metrics.inputs import outcomes, same_length
from vlaw_models.metrics.stats import Difference, newcombe, paired_difference

WHERE = "interaction events"
ALL = "all"


def event_confusion(real: np.ndarray, judged: np.ndarray, tasks: Sequence[str]) -> dict[str, Confusion]:
    """{task: confusion, ..., "all": over all}, tasks in order of first appearance.

    `real`, `judged` (N,) bool and `tasks` N names, of the same replays. VlawError for none, unequal lengths, outcomes
    that are not booleans, a task that is empty or called "all".
    """
    truth, seen = _outcomes(real, judged=judged)
    names = list(tasks)
    same_length(real=truth, tasks=names, where=WHERE)
    for name in names:
        if not isinstance(name, str) or not name or name == ALL:
            raise VlawError(
                f"a task is called {name!r}",
                where=WHERE,
                remedy=f"Name the task of every replay; {ALL!r} means the sum over tasks.",
            )
    of = np.array(names)
    found = {name: confusion(truth[of == name], seen[of == name], where=WHERE) for name in dict.fromkeys(names)}
    return {**found, ALL: confusion(truth, seen, where=WHERE)}


def false_positive_difference(a: Confusion, b: Confusion) -> Difference:
    """False-positive rate of `a` minus that of `b` with Newcombe's interval, for replays of different episodes.

    VlawError where either has no failed episode. The same episodes replayed twice: paired_false_positive_difference.
    """
    for one, name in ((a, "first"), (b, "second")):
        if not one.fp + one.tn:
            raise _no_failures(f"the {name} world model's replays")
    return newcombe(a.fp, a.fp + a.tn, b.fp, b.fp + b.tn)


def paired_false_positive_difference(real: np.ndarray, judged_a: np.ndarray, judged_b: np.ndarray) -> Difference:
    """False-positive rate of world model a minus b on the same episodes, with Newcombe's interval for paired rates.

    `real`, `judged_a`, `judged_b` (N,) bool: outcome of episode i on the robot, replayed in a, replayed in b. VlawError
    as event_confusion, and without a failed episode.
    """
    truth, first, second = _outcomes(real, judged_a=judged_a, judged_b=judged_b)
    if truth.all():
        raise _no_failures("the episodes")
    return paired_difference(first[~truth], second[~truth])


def _outcomes(real: np.ndarray, **judged: np.ndarray) -> list[np.ndarray]:
    found = {name: outcomes(values, name, where=WHERE) for name, values in {"real": real, **judged}.items()}
    same_length(**found, where=WHERE)
    return list(found.values())


def _no_failures(of: str) -> VlawError:
    return VlawError(
        f"no failure among {of}",
        where=WHERE,
        remedy="Replay held-out episodes that failed on the robot: only they can be false positives.",
    )
