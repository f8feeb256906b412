"""Why it may have got worse: everything measured about two sides, ranked, with what was changed beside it.

The order, and it is the same for the same lake:

    1  shifts beyond chance, the largest size first
    2  single numbers that at least doubled or halved, the largest size first
    3  changes that go with none of these
    4  the rest: shifts within chance and other single numbers, the largest size first

Under a shift of 1 and 2 stand the changes that go with it: those of the stages that directly make what was measured,
each once, under the first shift that it goes with; quarantine first, then labels, weights, recipe keys, code. A change
is certain and has no size; that it goes with a shift does not prove that it is the cause.

Beyond chance is what Holm's correction leaves at 5 %: over the shifts of success, which say where it got worse, and
over all others that were tested, which may say why. Samples that overlap (an
episode that both sides learned from) make the tests careful, not bold. Sizes: `base`, `vlaw_models.metrics.effects`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from vlaw_assets.reports.shifts.base import CHANGES, MORE, WHOLE, Shift
from vlaw_assets.reports.shifts.sides import Side, counterparts

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

ALPHA = 0.05
DOUBLED = math.log(2)
BEYOND, WITHIN, SINGLE, CHANGED = "beyond chance", "within chance", "single number", "changed"
"""How far a row can be believed."""
QUESTIONS = ("success", "others")
"""What is asked of many tests together: where success is another, and what else is."""
WORSE, BETTER = "worse", "better"


def ranking(lake: Lake, left: dict[str, Any], right: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The ranked shifts from one closure to another.

    Args:
        left, right: what `closure.audit_of` says of a and b.
        found: what `differences.difference` says of them.

    Returns: {success, verdict, tests, alpha, correction, rows}. `success` is the rank of success over all tasks (None
    where nobody measured it), `verdict` what it says by itself: 'worse', 'better', 'not shown to differ' or ''; `tests`
    counts them by question. A row has the fields of `base.Shift`, and

        rank        from 1
        standing    'beyond chance', 'within chance', 'single number' (there is no test), or 'changed' (certain)
        p_adjusted  Holm's p-value
        sense       'worse' or 'better' for b, '' where neither is
        notable     it is of the groups 1 to 3
        goes_with   of a change the ranks of the shifts that it goes with, of a shift those of its changes
    """
    from vlaw_assets.reports.shifts import changes, data, judge, models, success

    a, b = Side.of(lake, left), Side.of(lake, right)
    pairs = counterparts(a, b)
    sets = data.learned(lake, pairs)
    trials = success.evaluations(a, b)
    measured = [
        *(success.shifts(b, *trials) if trials else ()),
        *data.shifts(b, pairs, sets),
        *judge.shifts(a, b),
        *models.pictures(a, b),
        *models.losses(lake, pairs),
    ]
    evaluated = [(trials[0].ref, trials[1].ref)] if trials else []
    return ranked(measured, [*changes.listed(a, b, pairs, sets), *changes.making(a, b, found, evaluated)])


def ranked(measured: list[Shift], changed: list[Shift]) -> dict[str, Any]:
    """The ranking of these shifts (see above)."""
    from vlaw_models.metrics.effects import holm

    tested = [shift for shift in measured if shift.p_value is not None]
    families = [[shift for shift in tested if _question(shift) == question] for question in QUESTIONS]
    adjusted = {
        id(shift): p_value
        for family in families
        for shift, p_value in zip(family, holm([shift.p_value or 0.0 for shift in family]), strict=True)
    }
    standing = {
        id(shift): SINGLE if not shift.tested else BEYOND if adjusted[id(shift)] <= ALPHA else WITHIN
        for shift in measured
    }
    group = {
        id(shift): {BEYOND: 1, WITHIN: 4, SINGLE: 2 if (shift.size or 0) >= DOUBLED else 4}[standing[id(shift)]]
        for shift in measured
    }
    by_size = sorted(measured, key=lambda shift: (group[id(shift)], -(shift.size or 0.0)))
    changed = sorted(changed, key=lambda shift: CHANGES.index(shift.kind))
    ordered: list[Shift] = []
    for shift in [shift for shift in by_size if group[id(shift)] <= 2]:
        ordered += [shift, *(one for one in changed if one not in ordered and goes_with(one, shift))]
    ordered += [one for one in changed if one not in ordered]
    ordered += [shift for shift in by_size if group[id(shift)] > 2]
    ranks = {id(shift): rank for rank, shift in enumerate(ordered, 1)}
    found = [shift for shift in measured if group[id(shift)] <= 2]
    rows = []
    for shift in ordered:
        others = found if shift.is_change else changed if shift in found else []
        rows.append(
            {
                "rank": ranks[id(shift)],
                **dataclasses.asdict(shift),
                "standing": standing.get(id(shift), CHANGED),
                "p_adjusted": adjusted.get(id(shift)),
                "sense": sense(shift),
                "notable": shift.is_change or shift in found,
                "goes_with": sorted(
                    ranks[id(other)]
                    for other in others
                    if (goes_with(shift, other) if shift.is_change else goes_with(other, shift))
                ),
            }
        )
    whole = next((shift for shift in measured if shift.what == WHOLE), None)
    return {
        "verdict": _verdict(whole),
        "success": ranks[id(whole)] if whole else None,
        "tests": dict(zip(QUESTIONS, map(len, families), strict=True)),
        "alpha": ALPHA,
        "correction": "Holm",
        "rows": rows,
    }


def _question(shift: Shift) -> str:
    return QUESTIONS[shift.kind != "success"]


def goes_with(change: Shift, shift: Shift) -> bool:
    """Whether what was changed directly makes what was measured."""
    return bool(set(change.assets) & set(shift.assets))


def sense(shift: Shift) -> str:
    """'worse' or 'better' for b, '' where nobody can say which way is better."""
    if not shift.difference or not shift.better:
        return ""
    return BETTER if (shift.difference > 0) == (shift.better == MORE) else WORSE


def _verdict(whole: Shift | None) -> str:
    """What success over all tasks says by itself: it is one question, asked before any other."""
    if whole is None or whole.low is None or whole.high is None:
        return ""
    return BETTER if whole.low > 0 else WORSE if whole.high < 0 else "not shown to differ"
