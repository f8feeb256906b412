"""What arms that practise cost and promise: how their GRPO differs from the published one, real and imagined rollouts,
what ending early saved, and imagined minus real success."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vlaw_assets.reports.study.facts import Facts, Row
from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.study.text import OVER_SEEDS, hours, percent, rates_over_seeds, table, title

COSTS = (
    "What it took up to each iteration, mean over seeds; what another arm made first counts in full, and what all arms "
    "share (demonstrations, shipped models) not at all. Three columns are episodes of the robot: the rollouts that are "
    "learned from or practised; the validation trials by which each policy's stop is chosen; the pairs of success and "
    "near-success on which the world model is finetuned, made once for all arms. Other measurements (evaluations, "
    "metrics, true outcomes) count for nothing. A frame is all cameras at one control step. Steps saved: control steps "
    "that were not made because a reward said done, and their share. Time is the sum of the stages' own seconds, as if "
    "one ran after another (threads: section 0), with the policy's trials for stops; what else the machine did beside "
    "a stage is in it, so it is no clock of the arm alone."
)
OPTIMISM = (
    "Imagined minus real success, in points: means over tasks of the mean over starts, then over seeds with their "
    "interval. Of arms that practise in the world model (starts *failed*) imagined is the RL step after the chosen "
    "stop, in which the chosen policy acts; where the last stop was chosen it is the last step, in which the policy of "
    "one step before acts. They practise nearly always from starts at which the policy that collected had failed, and "
    "are evaluated from any: so both sides are of failed starts alone, the real one of those evaluation starts that "
    "the collecting policy failed. Of the other arms (starts *all*) imagined is what the scores accept of what was "
    "imagined from the iteration's real rollouts, real the evaluation of the policy that acts there."
)
KEYS = {"steps": "RL steps"}
"""What is no key: the last stop decides."""
NO_LIKELIHOOD = (
    " At temperature 0 a flow policy acts as in evaluation, and its flow-matching error stands for the likelihood."
)


def unlike_the_paper(facts: Facts, recipe: str) -> str:
    """One sentence: the settings of the arm's GRPO that are not the paper's; '' where nothing says what they are."""
    own = facts.recipe(recipe)
    if not (own and own.get("learner")):
        return ""
    settings = own["learner"] | {"steps": max(own["policy"]["stops"], default=own["learner"]["steps"])}
    theirs = paper()["world_vla_loop"]["grpo"]
    other = [
        f"{KEYS.get(key, f'`{key}`')} {_said(settings[key])} ({_said(value)})"
        for key, value in theirs.items()
        if key in settings and settings[key] != value
    ]
    if not other:
        return ""
    error = NO_LIKELIHOOD if settings.get("temperature") == 0 else ""
    published = "not the published one, whose settings (SimpleVLA-RL's where the paper says nothing) are in brackets"
    return f"The recipe's GRPO is {published}: {', '.join(other)}.{error}"


def _said(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else f"{value:g}"


def costs(facts: Facts, arms: Sequence[str]) -> str:
    """A row per arm and iteration."""
    rows = []
    for name, own in _iterations(facts, "costs", arms):
        mean = {key: sum(row[key] for row in own) / len(own) for key in own[0] if key not in ("recipe", "seed")}
        names = ("real_rollouts", "stop_trials", "pair_episodes", "imagined_rollouts", "imagined_frames")
        rows.append([name, *(f"{mean[key]:,.0f}" for key in names), _saved(own), hours(mean["seconds"])])
    header = ["policy", "real rollouts", "trials for stops", "pairs, episodes", "imagined rollouts", "imagined frames"]
    return table([*header, "steps saved", "time of stages"], rows)


def _saved(rows: Sequence[Row]) -> str:
    """'1,200 (4.1 %)': mean over seeds, and the share of the control steps that there would have been; '0' for none."""
    saved, made = (sum(row[key] for row in rows) for key in ("steps_saved", "control_steps"))
    return f"{saved / len(rows):,.0f} ({percent(saved / (saved + made))} %)" if saved else "0"


def savings(facts: Facts, arms: Sequence[str]) -> str:
    """One sentence on every arm of which rollouts ended early, at its last iteration; '' where none has."""
    said = []
    for recipe in arms:
        own = facts.select("costs", recipe=recipe, iteration=facts.last(recipe))
        ended, real, imagined = (
            sum(row[key] for row in own) for key in ("ended_early", "real_rollouts", "imagined_rollouts")
        )
        if ended:
            name, saved = title(recipe, facts.last(recipe)), sum(row["steps_saved"] for row in own)
            said.append(f"{name}: {ended:,} of {real + imagined:,}, {saved:,} control steps")
    ended_early = "Rollouts, real and imagined, that ended early because their reward said done, and what that saved"
    return f"{ended_early}, all seeds: {'; '.join(said)}." if said else ""


def optimism(facts: Facts, arms: Sequence[str]) -> str:
    """A row per arm and iteration."""
    rows = []
    for name, own in _iterations(facts, "optimism", arms):
        means = (percent(sum(row[key] for row in own) / len(own)) for key in ("imagined", "real"))
        steps = ", ".join(f"{row['stop']}: {row['rl_step']}" for row in own if row["rl_step"] is not None)
        rows.append([name, own[0]["starts"], steps, *means, rates_over_seeds([row["optimism"] for row in own])])
    header = ["iteration", "starts", "stop: RL step, per seed", "imagined", "real"]
    return table([*header, f"difference, {OVER_SEEDS}"], rows)


def _iterations(facts: Facts, question: str, arms: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    """Of each arm's iterations that the question has rows of: its title, and these rows, one per seed."""
    for recipe in arms:
        for iteration in range(1, facts.last(recipe) + 1):
            if own := facts.select(question, recipe=recipe, iteration=iteration):
                yield title(recipe, iteration), own
