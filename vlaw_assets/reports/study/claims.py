"""Section 9: the claims, each with ours, its bound, and whether it is shown; computed, never written by hand.

'Shown' is what holds as it is stated. 'Not shown' is not 'refuted'. Bounds that are the paper's come from paper.toml.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlaw_assets.reports.study.compare import Comparison, compare
from vlaw_assets.reports.study.facts import BASE, FILTERED_BC, HALF, NO_REAL, VLAW, Facts
from vlaw_assets.reports.study.judge import alpha_of, judged, precision_recall
from vlaw_assets.reports.study.models import EXPERT, FAMILIES, LABELS, PRETRAINED, ROLLOUTS, WorldModels
from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.study.success import per_seed
from vlaw_assets.reports.study.text import number, percent, points, shown, table, title

NEGATIVES, FALSE_POSITIVE_RATIO = 100, 1 / 3
JUDGED, PRECISION, RECALL = 200, 0.9, 0.45


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
        "second iteration, 3 about both, all others about the first. An interval over starts does not hold how much "
        "training itself "
        "varies: a difference counts as shown only where every seed has its sign; 3, 4 and 7 compare the numbers "
        "themselves."
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
        _loses(facts, HALF, "half the synthetic data loses success"),
        _loses(facts, NO_REAL, "no real data in the update loses success"),
    ]


def _better(facts: Facts, other: str, least: float) -> Claim:
    second = (other, 0 if other == BASE else 2)
    name, bound = f"{title(VLAW, 2)} − {title(*second)}", f"≥ {100 * least:+.1f}, interval above 0"
    found = compare(facts, (VLAW, 2), second)
    if found is None:
        return Claim(name, bound, "", None)
    agreed = all(one.diff > 0 for one in found.per_seed.values())
    holds = found.diff >= least and found.low > 0 and agreed
    why = (
        ""
        if holds
        else (
            "worse"
            if found.high < 0
            else "the interval holds 0"
            if found.low <= 0
            else "not in every seed"
            if not agreed
            else f"better, by less than {100 * least:.1f} points"
        )
    )
    return Claim(name, bound, _difference(found), holds, why)


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
    name = f"judge at P(yes) > {alpha:g}"
    bound = f"precision > {percent(PRECISION, 0)} at recall ≥ {percent(RECALL, 0)}, on ≥ {JUDGED}"
    counts = judged(facts).get(alpha)
    precision, recall = precision_recall(counts) if counts else (None, None)
    if counts is None or precision is None or recall is None:
        return Claim(name, bound, "", None)
    n = sum(counts.values())
    ours = f"precision {shown(precision)}, recall {shown(recall)}, n = {n}"
    wrong = [
        text
        for text, bad in (
            ("precision", precision.value <= PRECISION),
            ("recall", recall.value < RECALL),
            (f"only {n} trajectories", n < JUDGED),
        )
        if bad
    ]
    return Claim(name, bound, ours, not wrong, ", ".join(wrong))


def _loses(facts: Facts, arm: str, name: str) -> Claim:
    found = compare(facts, (arm, 1), (VLAW, 1))
    bound = "below VLAW 1, interval below 0"
    if found is None:
        return Claim(name, bound, "", None)
    agreed = all(one.diff < 0 for one in found.per_seed.values())
    holds = found.high < 0 and agreed
    why = (
        ""
        if holds
        else (
            "not lower"
            if found.diff >= 0
            else "lower, but the interval holds 0"
            if found.high >= 0
            else "not in every seed"
        )
    )
    return Claim(name, bound, _difference(found), holds, why)


def _difference(found: Comparison) -> str:
    return f"{points(found.diff, found.low, found.high)} ({found.pairs} pairs; seeds {per_seed(found)})"
