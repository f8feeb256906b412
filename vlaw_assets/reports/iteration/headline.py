"""What an iteration came to, in one sentence that a person may quote, and its key numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlaw_assets.reports.iteration.subject import Subject
from vlaw_assets.reports.markup import Html, tag
from vlaw_assets.reports.numbers import numbers_of
from vlaw_assets.reports.success import ALL, Change, Trials, change, rate, settled
from vlaw_models.learners.base import KINDS

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

BETTER, WORSE, UNDECIDED, ALONE = "better", "worse", "undecided", "alone"
MINUS = "\N{MINUS SIGN}"
VERDICTS = {
    BETTER: "better: the difference is beyond chance",
    WORSE: "worse: the difference is beyond chance",
    UNDECIDED: "undecided: a difference of this size may be chance",
}


@dataclass(frozen=True)
class Headline:
    """The first sentence of a page."""

    state: str
    """BETTER, WORSE, UNDECIDED, or ALONE where there is nothing to compare with."""
    sentence: str


def headline(name: str, before: Trials | None, after: Trials | None) -> Headline:
    """Of what was measured before and after, on the starts that both have; beyond chance is what the paired 95 %
    interval of the difference says."""
    if after is None or not after.outcomes:
        return Headline(ALONE, f"{name}: the policy was made and has not been evaluated.")
    found = change(after.outcomes, before.outcomes) if before else None
    if before is None or found is None:
        one = after.rates[ALL]
        return Headline(
            ALONE,
            f"{name}: success {one.value:.2f} [{one.low:.2f}, {one.high:.2f}] on {starts(one.trials)}; "
            "there is nothing to compare it with.",
        )
    shared = before.outcomes.keys() & after.outcomes.keys()
    old, new = (rate(sum(side.outcomes[start] for start in shared), len(shared)) for side in (before, after))
    state = state_of(found)
    return Headline(
        state,
        f"{name}: success {old.value:.2f} \N{RIGHTWARDS ARROW} {new.value:.2f} on the same {starts(found.trials)}, "
        f"{signed(found)}; {VERDICTS[state]}.",
    )


def state_of(found: Change) -> str:
    return BETTER if found.low > 0 else WORSE if found.high < 0 else UNDECIDED


def starts(count: int) -> str:
    return f"{count} start{'s' * (count != 1)}"


def signed(found: Change) -> str:
    """'+0.19 [+0.08, +0.29]', with as many digits as its bounds need to be on their side of zero."""
    values = found.diff, found.low, found.high
    digits = 2 if all(round(value, 2) or not value for value in values) else 3
    diff, low, high = (f"{value:+.{digits}f}".replace("-", MINUS) for value in values)
    return f"{diff} [{low}, {high}]"


def since(columns: Mapping[str, Trials]) -> Change | None:
    """The last evaluation against the first of all; None for less than three of them."""
    found = list(columns.values())
    return change(found[-1].outcomes, found[0].outcomes) if len(found) > 2 else None


def more(subject: Subject, columns: Mapping[str, Trials], before: Trials | None, after: Trials | None) -> list[str]:
    """What a reader of the headline has to know besides."""
    said = []
    if found := since(columns):
        first, last = (list(columns.values())[at].rates[ALL].value for at in (0, -1))
        arrow = f"{first:.2f} \N{RIGHTWARDS ARROW} {last:.2f}"
        said.append(f"Since the experiment began: success {arrow}, {signed(found)}; {VERDICTS[state_of(found)]}.")
    evaluation, start = subject.current("policy_evaluation"), subject.current("start_evaluation")
    if evaluation and start and evaluation.owner == start.owner:
        said.append("The policy is the one that the iteration began with.")
    if before and after:
        planned, run = (len(side.outcomes) + side.left_out for side in (before, after))
        tested = settled(after.outcomes, before.outcomes)
        if run < planned and tested:
            said.append(
                f"The evaluation stopped early, for which these intervals do not allow. {str(tested).capitalize()}."
            )
    return said


def tiles(subject: Subject, columns: Mapping[str, Trials], before: Trials | None, after: Trials | None) -> Html:
    """The key numbers; what was not measured has none."""
    found: list[tuple[str, str, str]] = []
    if after and after.outcomes:
        one = after.rates[ALL]
        found.append(("success now", f"{one.value:.2f}", f"{one.successes} of {one.trials} starts"))
    if before and after and (moved := change(after.outcomes, before.outcomes)):
        found.append(("this iteration", *_moved(moved)))
    if moved := since(columns):
        found.append(("all iterations", *_moved(moved)))
    numbers = {asset: numbers_of(subject.lake, ref) for asset, ref in _measured(subject).items()}
    judge, truth, world = (
        numbers.get(asset, {}) for asset in ("reward_model_metrics", "imagined_outcomes", "world_model_metrics")
    )
    if "precision" in judge:
        auc = f", AUC {judge['judge_auc']:.2f}" if "judge_auc" in judge else ""
        found.append(("judge on real clips", f"{judge['precision']:.2f}", f"precision at alpha{auc}"))
    if "label_precision" in truth:
        found.append(("accepted and true", f"{truth['label_precision']:.2f}", "of accepted imagined episodes"))
    if "psnr" in world:
        was = numbers.get("start_world_model_metrics", {}).get("psnr")
        found.append(("world model", f"{world['psnr']:.1f} dB", "PSNR" + (f", was {was:.1f}" if was else "")))
    members = numbers.get("training_set", {})
    if members:
        found.append(
            ("learned from", f"{members.get('members', 0):.0f}", _sources(members)),
        )
    return tag(
        "dl", *(tag("div", tag("dt", name), tag("dd", tag("b", value), " ", said)) for name, value, said in found)
    )


def _moved(found: Change) -> tuple[str, Html]:
    """A difference, and below it its interval."""
    value, interval = signed(found).split(" ", 1)
    return value, tag("span", interval, title="95 % interval")


def _measured(subject: Subject) -> Mapping[str, ArtifactRef]:
    wanted = (
        "reward_model_metrics",
        "imagined_outcomes",
        "world_model_metrics",
        "start_world_model_metrics",
        "training_set",
    )
    return {asset: ref for asset in wanted if (ref := subject.current(asset)) is not None}


def _sources(members: Mapping[str, float]) -> str:
    found = [f"{members[name]:.0f} {name}" for name in KINDS if members.get(name)]
    return " + ".join(found) + " episodes" if found else "episodes"


def block(subject: Subject, columns: Mapping[str, Trials], before: Trials | None, after: Trials | None) -> Html:
    """Headline, what is to be known besides, key numbers."""
    said = headline(subject.name, before, after)
    return tag(
        "header",
        tag("h1", said.sentence, cls=said.state),
        *(tag("p", line) for line in more(subject, columns, before, after)),
        tiles(subject, columns, before, after),
    )
