"""Section 4: the paper's Table 3: the judge on held-out real episodes, as a plain yes/no and at the loop's threshold.

The judges of VLAW's first iteration, one per seed; sums over seeds. Every clip is judged by the judge of its seed.
"""

from __future__ import annotations

from collections.abc import Collection

from vlaw_assets.reports.study.facts import VLAW, Facts, Row
from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.study.pictures import Pictures
from vlaw_assets.reports.study.text import missing, number, proportion, seeds_text, table
from vlaw_assets.reports.success import Rate, rate

COUNTS = ("tp", "fn", "fp", "tn")
ALPHA = 0.8
SWEEP = tuple(step / 100 for step in range(0, 100, 2))


def judged(facts: Facts, seeds: Collection[int] | None = None) -> dict[float, dict[str, int]]:
    """Threshold -> tp, fn, fp, tn over the judges of `seeds` (None: all), thresholds rising."""
    found: dict[float, dict[str, int]] = {}
    for row in (row for row in _own(facts, "judges") if seeds is None or row["seed"] in seeds):
        cell = found.setdefault(row["threshold"], dict.fromkeys(COUNTS, 0))
        for key in COUNTS:
            cell[key] += row[key]
    return dict(sorted(found.items()))


def alpha_of(facts: Facts) -> float:
    """VLAW's own threshold, as its training set was made with."""
    found = {row["alpha"] for row in facts.select("arms", recipe=VLAW)} - {None}
    return found.pop() if len(found) == 1 else ALPHA


def precision_recall(counts: dict[str, int]) -> tuple[Rate | None, Rate | None]:
    accepted, real = counts["tp"] + counts["fp"], counts["tp"] + counts["fn"]
    return rate(counts["tp"], accepted) if accepted else None, rate(counts["tp"], real) if real else None


def section(facts: Facts, pictures: Pictures) -> str:
    found = judged(facts)
    rows = [_row(f"ours, P(yes) > {threshold:g}", counts) for threshold, counts in found.items()]
    rows += [_row(f"paper, {row['label']}", {key: row[key] for key in COUNTS}) for row in paper()["table_3"]["rows"]]
    seeds = {row["seed"] for row in _own(facts, "judges")}
    parts = [
        "## 4. Reward model (Table 3)",
        (
            f"Held-out real episodes, the robot's own outcome against the judge's; judges of the first iteration, "
            f"seeds {seeds_text(seeds) or 'none yet'}, "
            f"sums over seeds. Paper: {paper()['table_3']['source']}."
        ),
        table(
            [
                "judge",
                "TP",
                "FN",
                "FP",
                "TN",
                "precision, % [95 %]",
                "recall, % [95 %]",
                "false positives, % [95 %]",
                "n",
            ],
            rows,
        ),
        _figures(facts),
        _pictures(facts, pictures),
    ]
    if not found:
        parts.append(missing(["no judge was measured", *facts.lacks([VLAW], 1)]))
    else:
        parts.append(missing(facts.lacks([VLAW], 1)))
    return "\n\n".join(part.strip("\n") for part in parts if part)


def _own(facts: Facts, question: str) -> list[Row]:
    """Rows of VLAW's judges at iteration 1 (arms that share them are listed in the same row)."""
    return [row for row in facts.rows[question] if VLAW in row["recipes"] and row["iteration"] == 1]


def _row(label: str, counts: dict[str, int]) -> list[str]:
    tp, fn, fp, tn = (counts[key] for key in COUNTS)
    return [
        label,
        *(str(counts[key]) for key in COUNTS),
        proportion(tp, tp + fp, counts=False),
        proportion(tp, tp + fn, counts=False),
        proportion(fp, fp + tn, counts=False),
        str(sum(counts.values())),
    ]


def _figures(facts: Facts) -> str:
    names = {"real_auroc": "AUROC", "real_ece": "expected calibration error", "real_brier": "Brier score"}
    rows = [
        [
            names[metric],
            ", ".join(
                f"{row['seed']}: {number(row['value'])}"
                for row in _own(facts, "judge_figures")
                if row["metric"] == metric
            ),
        ]
        for metric in names
    ]
    return table(["per seed", "value"], [row for row in rows if row[1]])


def _pictures(facts: Facts, pictures: Pictures) -> str:
    scores = _own(facts, "judge_scores")
    if not scores:
        return ""
    import numpy as np

    from vlaw_assets.reports.plots import calibration_plot, threshold_plot
    from vlaw_models.metrics.calibration import calibration_curve, threshold_sweep

    said, true = np.array([row["p_success"] for row in scores]), np.array([row["success"] for row in scores], bool)
    alpha = alpha_of(facts)
    curve = [vars(one) for one in calibration_curve(said, true)]
    sweep = [one.row() for one in threshold_sweep(said, true, sorted({*SWEEP, alpha}))]
    return "\n".join(
        [
            pictures.add("calibration", calibration_plot(curve), "How often a score comes true, with 95 % intervals"),
            pictures.add(
                "thresholds", threshold_plot(sweep, alpha), "Precision, recall and false positives by threshold"
            ),
        ]
    )
