"""Section 9: the claims, each with ours, its bound, and whether it is shown; computed, never written by hand.

'Shown' is what holds as it is stated. 'Not shown' is not 'refuted'. A difference is shown where its intervals over
starts and over seeds both leave out 0. The paper's differences are named as goals; they come from paper.toml.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlaw_assets.reports.study.compare import Comparison, at_least, compare
from vlaw_assets.reports.study.facts import BASE, CONTROL, FILTERED_BC, HALF, NO_REAL, VLAW, Facts
from vlaw_assets.reports.study.judge import alpha_of, judged, precision_recall
from vlaw_assets.reports.study.models import EXPERT, FAMILIES, LABELS, PRETRAINED, ROLLOUTS, WorldModels
from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.study.success import per_seed
from vlaw_assets.reports.study.text import number, over_seeds, percent, points, shown, table, title
from vlaw_assets.reports.success import Rate, rate

LEAST = {FILTERED_BC: 0.05, BASE: 0.0}
"""What VLAW's second iteration is to gain at least on each."""
NEGATIVES, FALSE_POSITIVE_RATIO = 200, 1 / 3
JUDGED, PRECISION, RECALL = 300, 0.9, 0.45


@dataclass(frozen=True)
class Claim:
    claim: str
    bound: str
    ours: str
    holds: bool | None
    """None: not measured."""
    why: str = ""

    @property
    def verdict(self) -> str:
        return "not measured" if self.holds is None else "**shown**" if self.holds else "not shown"


def section(facts: Facts) -> str:
    rows = [
        [str(number), claim.claim, claim.bound, claim.ours, f"{claim.verdict}{f': {claim.why}' if claim.why else ''}"]
        for number, claim in enumerate(claims(facts), 1)
    ]
    return (
        "## 9. Claims\n\nAt the reported noise; success in per cent, differences in points, intervals 95 %. Claims 1 "
        "and 2 are about the "
        "second iteration, 3 about both, all others about the first. A difference counts as shown only where the "
        "interval over starts and that over seeds (Student's t, which holds how much training varies) both leave out "
        "0; 3, 4, 7 and 8 compare the numbers themselves."
        f"\n{table(['', 'claim', 'bound', 'ours', 'verdict'], rows)}"
    )


def claims(facts: Facts) -> list[Claim]:
    models = WorldModels(facts)
    said = paper()["abstract"]
    return [
        _better(facts, FILTERED_BC, said["vlaw_minus_filtered_bc"]),
        _better(facts, BASE, said["vlaw_minus_base"]),
        _order(facts),
        _false_positives(models),
        _video(models, PRETRAINED),
        _video(models, EXPERT),
        _judge(facts),
        _imagined_judge(facts),
        _loses(facts, HALF, "half the synthetic data loses success"),
        _loses(facts, NO_REAL, "no real data in the update loses success"),
        _control(facts),
    ]


def _better(facts: Facts, other: str, goal: float) -> Claim:
    second, least = (other, 0 if other == BASE else 2), LEAST[other]
    name = f"{title(VLAW, 2)} − {title(*second)}"
    bound = (
        f"{f'≥ {100 * least:+.1f}' if least else '> 0'}, both intervals above 0 (goal: the paper's {100 * goal:+.1f})"
    )
    found = compare(facts, (VLAW, 2), second)
    if found is None:
        return Claim(name, bound, "", None)
    why = not_shown(found, 1) or (
        "" if at_least(found.diff, least) else f"better, by less than {100 * least:.1f} points"
    )
    return Claim(name, bound, difference(found), not why, why)


def _order(facts: Facts) -> Claim:
    name, bound = "order of the paper", "base < filtered BC < VLAW, iterations 1 and 2"
    rows = {i: [facts.rate(BASE, 0), facts.rate(FILTERED_BC, i), facts.rate(VLAW, i)] for i in (1, 2)}
    found = {i: [one.value for one in row if one is not None] for i, row in rows.items()}
    whole = {i: values for i, values in found.items() if len(values) == len(rows[i])}
    ours = "; ".join(f"{i}: {' / '.join(percent(value) for value in row)}" for i, row in whole.items())
    if len(whole) < 2:
        return Claim(name, bound, ours, None)
    wrong = [str(i) for i, (base, cloned, vlaw) in whole.items() if not base < cloned < vlaw]
    return Claim(name, bound, ours, not wrong, f"not in iteration {' and '.join(wrong)}" if wrong else "")


def _false_positives(models: WorldModels) -> Claim:
    name = "false positives on interaction events, rollouts against expert-only"
    bound = f"≤ ⅓, on ≥ {NEGATIVES} negatives"
    threshold = models.thresholds[-1] if models.thresholds else None
    seeds = models.common(ROLLOUTS, EXPERT)
    if threshold is None:
        return Claim(name, bound, "", None)
    own, expert = (models.false_positives(model, threshold, seeds) for model in (ROLLOUTS, EXPERT))
    if not own or not expert:
        return Claim(name, bound, "", None)
    ours = f"{shown(own, counts=True)} against {shown(expert, counts=True)} at P(yes) > {threshold:g}"
    ratio = models.ratio(ROLLOUTS, threshold)
    if ratio is None:
        return Claim(
            name, bound, ours, holds=False, why="the expert-only world model has no false positive to compare with"
        )
    few = min(own.trials, expert.trials) < NEGATIVES
    holds = ratio <= FALSE_POSITIVE_RATIO and not few
    why = f"{min(own.trials, expert.trials)} negatives" if few else "" if holds else "more than a third"
    return Claim(name, bound, f"{number(ratio, 2)} ×: {ours}", holds, why)


def _video(models: WorldModels, baseline: str) -> Claim:
    name = f"video metrics, {LABELS[ROLLOUTS]} against {LABELS[baseline]}"
    bound = f"all {len(FAMILIES)} better in every seed ({paper()['table_1']['camera']} camera)"
    camera = models.cameras[0] if models.cameras else ""
    found = models.better(camera, baseline)
    if len(found) < len(FAMILIES):
        return Claim(name, bound, f"only {len(found)} measured" if found else "", None)
    names = models.metric_names
    worse = [names[family] for family, better in found.items() if not all(better)]
    ours = ", ".join(f"{names[family]} in {sum(better)} of {len(better)} seeds" for family, better in found.items())
    others = [better for view in models.cameras[1:] for better in models.better(view, baseline).values()]
    rest = f"; other cameras {sum(map(all, others))} of {len(others)} in every seed" if others else ""
    return Claim(name, bound, f"better {ours}{rest}", not worse, f"not {', '.join(worse)}" if worse else "")


def _judge(facts: Facts) -> Claim:
    alpha = alpha_of(facts)
    counts = judged(facts).get(alpha)
    precision, recall = precision_recall(counts) if counts else (None, None)
    name = f"judge at P(yes) > {alpha:g}, on real episodes"
    return _judges(name, precision, recall, sum(counts.values()) if counts else 0, "trajectories")


def _imagined_judge(facts: Facts) -> Claim:
    """Against the simulator's outcome of the imagined actions; all seeds together."""
    rows = facts.select("labels", recipe=VLAW, iteration=1)
    kept, true, successes, n = (
        sum(row[key] for row in rows) for key in ("kept", "kept_true", "true_successes", "imagined")
    )
    name = f"judge at P(yes) > {alpha_of(facts):g}, on imagined episodes"
    precision, recall = (rate(true, of) if of else None for of in (kept, successes))
    return _judges(name, precision, recall, n, "imagined episodes")


def _judges(name: str, precision: Rate | None, recall: Rate | None, n: int, what: str) -> Claim:
    bound = f"precision > {percent(PRECISION, 0)} at recall ≥ {percent(RECALL, 0)}, on ≥ {JUDGED}"
    if not n:
        return Claim(name, bound, "", None)
    ours = f"precision {shown(precision) or 'of none'}, recall {shown(recall) or 'of none'}, n = {n}"
    wrong = [
        text
        for text, bad in (
            ("precision", precision is None or precision.value <= PRECISION),
            ("recall", recall is None or recall.value < RECALL),
            (f"only {n} {what}", n < JUDGED),
        )
        if bad
    ]
    return Claim(name, bound, ours, not wrong, ", ".join(wrong))


def _loses(facts: Facts, arm: str, name: str) -> Claim:
    bound = "below VLAW 1, both intervals below 0"
    found = compare(facts, (arm, 1), (VLAW, 1))
    if found is None:
        return Claim(name, bound, "", None)
    why = not_shown(found, -1)
    return Claim(name, bound, difference(found), not why, why)


def _control(facts: Facts) -> Claim:
    """The same number of updates on as many episodes, so that only their kind differs."""
    name = "a world model finetuned on rollouts gives a better policy than the same finetuned on as many demonstrations"
    bound = f"{title(VLAW, 1)} − {title(CONTROL, 1)}, both intervals above 0"
    found = compare(facts, (VLAW, 1), (CONTROL, 1))
    if found is None:
        return Claim(name, bound, "", None)
    why = not_shown(found, 1)
    return Claim(name, bound, difference(found), not why, why)


def not_shown(found: Comparison, sign: int) -> str:
    """Why a difference is not shown to be above 0 (`sign` 1) or below it (-1); '' where it is."""
    reasons = []
    for name, interval in (("starts", (found.low, found.high)), ("seeds", found.over_seeds and found.over_seeds[1:])):
        if interval is None:
            reasons.append("one seed")
            continue
        low, high = sorted(sign * end for end in interval)
        if high < 0:
            reasons.append(f"the interval over {name} is {'below' if sign > 0 else 'above'} 0")
        elif low <= 0:
            reasons.append(f"the interval over {name} holds 0")
    return ", ".join(reasons)


def difference(found: Comparison) -> str:
    """A difference in words: both intervals, how many pairs, each seed's."""
    return (
        f"{points(found.diff, found.low, found.high)}, over seeds {over_seeds(found.over_seeds)} "
        f"({found.pairs} pairs; seeds {per_seed(found)})"
    )
