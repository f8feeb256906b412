"""Section 3: the paper's Table 1: world models on replays of held-out real episodes, video metrics and interaction
events.

Four world models after the first iteration, on the same clips: as pretrained, finetuned on expert demonstrations, on as
many of them as there are rollouts (the control), and on rollouts. The tables are over the seeds that all of them have,
a comparison of two over the seeds that both have. Metrics of substitute networks keep the substitutes' names: such
numbers are not comparable with the paper's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from vlaw_assets.reports.study.facts import CONTROL, EXPERT_ONLY, VLAW, Facts, Row
from vlaw_assets.reports.study.judge import judged
from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.study.text import missing, number, proportion, seeds_text, table
from vlaw_assets.reports.success import Rate, rate

FAMILIES = {"psnr": "PSNR ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "fid": "FID ↓", "fvd": "FVD ↓"}
HIGHER_IS_BETTER = ("psnr", "ssim")
DIGITS = {"psnr": 2}
PRETRAINED, EXPERT, EXPERT_CONTROL, ROLLOUTS = "pretrained", "expert", "control", "rollouts"
LABELS = {
    PRETRAINED: "pretrained",
    EXPERT: "+ expert",
    EXPERT_CONTROL: "+ expert, control",
    ROLLOUTS: "+ rollouts (VLAW)",
}
SOURCES = {
    PRETRAINED: (VLAW, "start"),
    EXPERT: (EXPERT_ONLY, "made"),
    EXPERT_CONTROL: (CONTROL, "made"),
    ROLLOUTS: (VLAW, "made"),
}
"""Which arm's rows, of which world model of its first iteration."""


@dataclass
class WorldModels:
    """Rows of the four world models, on common seeds."""

    facts: Facts

    @cached_property
    def seeds(self) -> list[int]:
        """Those that all world models have that have any."""
        return self.common(*(model for model in SOURCES if self._seeds(model)))

    def common(self, *models: str) -> list[int]:
        """Seeds that all of these have."""
        return sorted(set.intersection(*map(self._seeds, models))) if models else []

    def label(self, model: str) -> str:
        """With the episodes per task that it was finetuned on, as its artifacts say."""
        key = {EXPERT: "expert_per_task", EXPERT_CONTROL: "expert_per_task", ROLLOUTS: "rollouts_per_task"}.get(model)
        if key is None:
            return LABELS[model]
        found = self.facts.select("arms", recipe=SOURCES[model][0])
        return f"{LABELS[model]}, {found[0][key]} per task" if found and found[0][key] else LABELS[model]

    def values(self, model: str, family: str, camera: str) -> dict[int, float]:
        """Seed -> the metric."""
        return {
            row["seed"]: row["value"]
            for row in self._rows("video_metrics", model)
            if row["family"] == family and row["camera"] == camera
        }

    def value(self, model: str, family: str, camera: str) -> float | None:
        """Mean over `seeds`; None where one lacks it."""
        found = self.values(model, family, camera)
        return (
            sum(found[seed] for seed in self.seeds) / len(self.seeds)
            if self.seeds and set(self.seeds) <= set(found)
            else None
        )

    def events(self, model: str, threshold: float, seeds: Collection[int] | None = None) -> dict[str, int] | None:
        """tp, fn, tn, fp over `seeds` (None: those that all have); None where nothing was judged."""
        seeds = self.seeds if seeds is None else seeds
        rows = [row for row in self._rows("events", model) if row["threshold"] == threshold and row["seed"] in seeds]
        return {key: sum(row[key] for row in rows) for key in ("tp", "fn", "tn", "fp")} if rows else None

    def false_positives(self, model: str, threshold: float, seeds: Collection[int] | None = None) -> Rate | None:
        """Share of real failures that the world model turned into successes."""
        found = self.events(model, threshold, seeds)
        return rate(found["fp"], found["fp"] + found["tn"]) if found and found["fp"] + found["tn"] else None

    def ratio(self, model: str, threshold: float) -> float | None:
        """False-positive rate over that of the expert-only world model, on the seeds that both have."""
        own, expert = (self.false_positives(one, threshold, self.common(model, EXPERT)) for one in (model, EXPERT))
        return own.value / expert.value if own and expert and expert.value else None

    @cached_property
    def thresholds(self) -> list[float]:
        """Of the judge in the replays; the last one is the loop's own alpha."""
        return sorted({row["threshold"] for row in self._rows("events", ROLLOUTS)})

    @cached_property
    def cameras(self) -> list[str]:
        """The wrist first, as the paper has it."""
        found = {row["camera"] for row in self.facts.rows["video_metrics"]}
        return sorted(found, key=lambda camera: (camera != paper()["table_1"]["camera"], camera))

    @cached_property
    def metric_names(self) -> dict[str, str]:
        """Family -> the metric's own name, e.g. lpips -> perceptual_judge."""
        return {row["family"]: row["metric"] for row in self.facts.rows["video_metrics"]}

    def better(self, camera: str, baseline: str) -> dict[str, list[bool]]:
        """Family -> is the world model that saw rollouts better than the baseline, per seed that both have."""
        found = {}
        for family in FAMILIES:
            own, other = self.values(ROLLOUTS, family, camera), self.values(baseline, family, camera)
            sign = 1 if family in HIGHER_IS_BETTER else -1
            if own.keys() & other.keys():
                found[family] = [sign * own[seed] > sign * other[seed] for seed in sorted(own.keys() & other.keys())]
        return found

    def _seeds(self, model: str) -> set[int]:
        return {row["seed"] for question in ("video_metrics", "events") for row in self._rows(question, model)}

    def _rows(self, question: str, model: str) -> list[Row]:
        recipe, which = SOURCES[model]
        return self.facts.select(question, recipe=recipe, iteration=1, model=which)


def section(facts: Facts) -> str:
    models = WorldModels(facts)
    parts = [
        "## 3. World models (Table 1)",
        (
            f"Recorded actions replayed from the recorded first frame, on held-out real episodes; first iteration, "
            f"seeds "
            f"{seeds_text(models.seeds) or 'none yet'}, all world models on the same clips. Paper: "
            f"{paper()['table_1']['source']}."
        ),
    ]
    parts += [*(_video(models, camera) for camera in models.cameras), _networks(facts), _events(models)]
    parts.append(missing(facts.lacks([VLAW, EXPERT_ONLY, CONTROL], 1) + _unmeasured(models)))
    return "\n\n".join(part.strip("\n") for part in parts if part)


def _video(models: WorldModels, camera: str) -> str:
    names = models.metric_names
    rows = []
    for model in LABELS:
        values = [number(models.value(model, family, camera), DIGITS.get(family, 3)) for family in FAMILIES]
        if any(values):
            rows.append([models.label(model), *values])
    if camera == paper()["table_1"]["camera"]:
        rows += [
            [f"paper: {row['label']}", *(f"{row[family]:g}" for family in FAMILIES)]
            for row in paper()["table_1"]["rows"].values()
        ]
    header = [
        f"{arrow}{f' ({names[family]})' if names.get(family, family) != family else ''}"
        for family, arrow in FAMILIES.items()
    ]
    return f"Camera {camera}, means over seeds:\n{table(['world model', *header], rows)}"


def _networks(facts: Facts) -> str:
    found = {
        (row["feature_net"], row["feature_digest"], row["perceptual_net"], row["perceptual_digest"])
        for row in facts.rows["video_metrics"]
        if row["feature_net"]
    }
    lines = [
        f"Features for the Fréchet distances: `{net}`, sha256 `{digest}`; perceptual distance: `{looks}`, sha256 "
        f"`{looks_digest}`."
        for net, digest, looks, looks_digest in sorted(found, key=str)
    ]
    if any("judge" in str(net) for net, *_ in found):
        lines.append(
            "These are the judge's features, not Inception's, I3D's or LPIPS's: compare rows of ours with each "
            "other, not with the paper's."
        )
    return "\n".join(lines)


def _events(models: WorldModels) -> str:
    parts = []
    for threshold in models.thresholds:
        rows = []
        recorded = judged(models.facts, models.seeds).get(threshold)
        if recorded:
            negatives = recorded["fp"] + recorded["tn"]
            rows.append(
                [
                    "the recorded clips themselves",
                    *_counts(recorded),
                    proportion(recorded["fp"], negatives, counts=False),
                    str(negatives),
                    "",
                ]
            )
        for model in LABELS:
            found = models.events(model, threshold)
            if found:
                negatives = found["fp"] + found["tn"]
                ratio = models.ratio(model, threshold)
                rows.append(
                    [
                        models.label(model),
                        *_counts(found),
                        proportion(found["fp"], negatives, counts=False),
                        str(negatives),
                        "" if ratio is None or model == EXPERT else number(ratio, 2),
                    ]
                )
        expert = paper()["table_1"]["rows"]["expert"]
        for row in paper()["table_1"]["rows"].values():
            if "tp" in row:
                own, other = (one["fp"] / (one["fp"] + one["tn"]) for one in (row, expert))
                rows.append(
                    [
                        f"paper: {row['label']}",
                        *_counts(row),
                        proportion(row["fp"], row["fp"] + row["tn"], counts=False),
                        str(row["fp"] + row["tn"]),
                        "" if row is expert else number(own / other, 2),
                    ]
                )
        parts.append(
            f"Interaction events, success where the judge says P(yes) > {threshold:g} of the replay (the paper's by "
            f"eye); a "
            "false positive is a real failure turned into a success, and the judge's own mistakes are in all rows:\n"
            + table(
                ["world model", "TP", "FN", "TN", "FP", "false positives, % [95 %]", "negatives", "× expert-only"], rows
            )
        )
    return "\n\n".join(part.strip("\n") for part in parts)


def _counts(found: dict[str, int]) -> Iterable[str]:
    return (str(found[key]) for key in ("tp", "fn", "tn", "fp"))


def _unmeasured(models: WorldModels) -> list[str]:
    camera = models.cameras[0] if models.cameras else ""
    return [
        f"{models.label(model)}: not measured"
        for model in SOURCES
        if not models.seeds or models.value(model, "psnr", camera) is None
    ]
