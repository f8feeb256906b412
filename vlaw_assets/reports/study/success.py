"""Section 2: the paper's Table 2 and Figure 7: success per task, ours beside theirs, at both noises, and the
differences.

Of the arms that the paper has; the others are sections 5 and 6 (arms.py).
"""

from __future__ import annotations

from vlaw_assets.reports.study.compare import Comparison, compare, compare_tasks
from vlaw_assets.reports.study.facts import BASE, DSRL, FILTERED_BC, LOW, NOISES, REPORTED, VLAW, Facts
from vlaw_assets.reports.study.paper import paper, success
from vlaw_assets.reports.study.pictures import Pictures
from vlaw_assets.reports.study.text import (
    OVER_SEEDS,
    missing,
    number,
    over_seeds,
    points,
    rates_over_seeds,
    seeds_text,
    shown,
    table,
    title,
)
from vlaw_assets.reports.success import ALL, Rate

POLICIES = ((BASE, 0), (DSRL, 1), (FILTERED_BC, 1), (FILTERED_BC, 2), (VLAW, 1), (VLAW, 2))
DIFFERENCES = (
    ((VLAW, 2), (FILTERED_BC, 2)),
    ((VLAW, 2), (BASE, 0)),
    ((VLAW, 1), (FILTERED_BC, 1)),
    ((FILTERED_BC, 2), (BASE, 0)),
)
EXPLAINED = (
    "Differences on the same starts and seeds, first minus second. The first interval is a bootstrap over starts, all "
    "seeds of a start together: it holds which layouts were drawn, for these trained policies. It does not hold how "
    "much training itself varies. That over seeds does: Student's t over the differences of the seeds, each trained "
    "anew and evaluated on the same starts, so that it does not hold which layouts were drawn. A difference is shown "
    "where both leave out 0. The paper's interval is Newcombe's for independent trials. The sequential test reads "
    "pairs start by start, all seeds of one before the next, and stops at error 5 %, looking after every pair; it too "
    "is about these trained policies, not about others trained the same way."
)


def section(facts: Facts, pictures: Pictures) -> str:
    parts = [
        "## 2. Success (Table 2, Figure 7)",
        (
            "Success in per cent with its Wilson 95 % interval; n trials over all tasks and seeds. Every policy is "
            "evaluated on the same starts; trials of two seeds on one start count as two. Over seeds: the mean of the "
            "seeds' pooled success with Student's t interval, which holds how much training varies; the base is one "
            "policy, so its seeds differ by the policy's noise alone. Paper: "
            f"{paper()['table_2']['source']}; its intervals are computed from its counts."
        ),
        _picture(facts, pictures),
    ]
    for noise in NOISES:
        parts += [_table(facts, noise), _differences(facts, noise)]
    parts += [_per_task(facts), missing(facts.lacks([FILTERED_BC, VLAW]) + facts.lacks([DSRL], 1))]
    return "\n\n".join(part.strip("\n") for part in parts if part)


def heading(facts: Facts, noise: str) -> str:
    scale = facts.noise_scale(noise)
    name = "the reported noise" if noise == REPORTED else "lower noise"
    return f"At {name}{f' (× {number(scale, 2)})' if scale is not None else ''}"


def _table(facts: Facts, noise: str) -> str:
    tasks, rows = facts.tasks, []
    for recipe, iteration in POLICIES:
        ours = {task: facts.rate(recipe, iteration, task, noise=noise) for task in [*tasks, ALL]}
        pooled = ours[ALL]
        if pooled is not None:
            seeds = facts.seed_rates(recipe, iteration, noise=noise)
            rows.append(
                [
                    title(recipe, iteration),
                    "ours",
                    *(shown(ours[task]) for task in [*tasks, ALL]),
                    rates_over_seeds(seeds.values()),
                    f"{pooled.trials} ({len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'})",
                ]
            )
        theirs = success(recipe, iteration)
        if theirs and noise == REPORTED:
            rows.append(
                [
                    title(recipe, iteration),
                    "paper",
                    *(shown(theirs.get(task)) for task in [*tasks, ALL]),
                    "",
                    str(theirs[ALL].trials),
                ]
            )
    if not any(row[1] == "ours" for row in rows):
        return f"### {heading(facts, noise)}\n\nNothing was evaluated yet."
    return f"### {heading(facts, noise)}\n{table(['policy', '', *tasks, 'all', OVER_SEEDS, 'n'], rows)}"


def _differences(facts: Facts, noise: str) -> str:
    rows = []
    for first, second in DIFFERENCES:
        found = compare(facts, first, second, noise)
        if found is not None:
            rows.append(
                [
                    f"{title(*first)} − {title(*second)}",
                    points(found.diff, found.low, found.high),
                    over_seeds(found.over_seeds),
                    _paper_difference(first, second) if noise == REPORTED else "",
                    f"{found.only_first} / {found.only_second}",
                    number(found.p_value),
                    found.decided,
                    per_seed(found),
                    f"{found.pairs} ({found.starts} starts)",
                ]
            )
    text = table(
        [
            "difference",
            "points [95 %]",
            OVER_SEEDS,
            "paper [95 %]",
            "won alone",
            "McNemar p",
            "sequential test",
            "per seed",
            "pairs",
        ],
        rows,
    )
    if not text:
        return ""
    introduction = EXPLAINED if noise == REPORTED else "Differences as above:"
    return f"{introduction}\n{text}"


def per_seed(found: Comparison) -> str:
    """'0: +4.0, 1: +6.8'."""
    return ", ".join(f"{seed}: {100 * one.diff:+.1f}" for seed, one in found.per_seed.items())


def _paper_difference(first: tuple[str, int], second: tuple[str, int]) -> str:
    from vlaw_models.metrics.stats import newcombe

    a, b = success(*first).get(ALL), success(*second).get(ALL)
    return points(*newcombe(a.successes, a.trials, b.successes, b.trials)) if a and b else ""


def _per_task(facts: Facts) -> str:
    last = min(facts.last(VLAW), facts.last(FILTERED_BC))
    rows = []
    for noise in NOISES if last else ():
        found = compare_tasks(facts, (VLAW, last), (FILTERED_BC, last), noise)
        cells = [points(one.diff, one.low, one.high) if (one := found.get(task)) else "" for task in facts.tasks]
        if found:
            rows.append([heading(facts, noise), *cells])
    text = table([f"{title(VLAW, last)} − {title(FILTERED_BC, last)}", *facts.tasks], rows)
    return (
        f"The same per task, seeds {seeds_text(set(facts.seeds(VLAW)) & set(facts.seeds(FILTERED_BC)))}:\n{text}"
        if text
        else ""
    )


def _picture(facts: Facts, pictures: Pictures) -> str:
    from vlaw_assets.reports.plots import grouped_bars

    known = [policy for policy in POLICIES if facts.rate(*policy) is not None]
    if not known:
        return ""
    panels: dict[str, dict[str, dict[str, Rate]]] = {}
    for task in [*facts.tasks, ALL]:
        panels[task] = {}
        for policy in POLICIES:
            found = {
                "ours": facts.rate(*policy, task),
                "ours, lower noise": facts.rate(*policy, task, noise=LOW),
                "paper": success(*policy).get(task),
            }
            panels[task][title(*policy)] = {label: one for label, one in found.items() if one is not None}
    return pictures.add(
        "success", grouped_bars(panels), "Success per task and policy, ours and the paper's, with 95 % intervals"
    )
