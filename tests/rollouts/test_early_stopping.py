"""Evaluation that stops early: trials take turns over tasks, and a clear difference ends them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from clips import clip

from vlaw_assets.reports import success as summary
from vlaw_models.errors import VlawError
from vlaw_models.metrics.ranking import over_policies, over_trials
from vlaw_models.metrics.sequential import interleaved, paired_sequential
from vlaw_models.rollouts.early_stopping import until_settled


def outcomes(rates: dict[str, float], seed: int, count: int = 50) -> dict[tuple[str, int], bool]:
    rng = np.random.default_rng(seed)
    return {(task, index): bool(rng.random() < rate) for task, rate in rates.items() for index in range(count)}


def recorded(results):
    """`run` of until_settled, from recorded outcomes; remembers which trials it was asked for."""
    asked = []

    def run(part):
        asked.extend(part)
        return [dataclasses.replace(clip(0), task=task, seed=seed, success=results[task, seed]) for task, seed in part]

    return run, asked


def test_trials_take_turns_over_tasks_whatever_order_they_come_in():
    trials = [("stack", 5), ("draw", 1), ("stack", 2), ("draw", 0), ("stack", 9)]
    assert interleaved(trials) == [("draw", 0), ("stack", 2), ("draw", 1), ("stack", 5), ("stack", 9)]
    assert interleaved(trials[::-1]) == interleaved(trials)


def test_a_clearly_better_policy_stops_early_and_an_equal_one_does_not():
    tasks = dict.fromkeys(("stack", "draw"), 0.35)
    before = outcomes(tasks, 0)
    better = outcomes(dict.fromkeys(tasks, 0.9), 1)
    run, asked = recorded(better)
    episodes, stopping = until_settled(list(before), before, run, batch=10)
    assert stopping.decision.state == "a better"
    assert stopping.run == len(episodes) == len(asked) < 60
    assert stopping.run % 10 == 0
    assert asked == interleaved(before)[: stopping.run]
    assert stopping.reason.startswith(
        f"settled at 95% after {stopping.decision.trials} of 100 planned trials ({stopping.run} run): better"
    )
    assert stopping.detail()["decided_after"] == stopping.decision.trials > stopping.run - 10
    # The same decision as reading all recorded outcomes in that order, which is what the report does.
    verdict = summary.settled(better, before)
    assert (verdict.state, verdict.trials, verdict.of) == ("after is better", stopping.decision.trials, 100)
    wins = sum(better[key] and not before[key] for key in asked[: verdict.trials])
    losses = sum(before[key] and not better[key] for key in asked[: verdict.trials])
    assert paired_sequential(wins, losses).state == "a better"

    run, asked = recorded(outcomes(tasks, 2))
    episodes, stopping = until_settled(list(before), before, run, batch=10)
    assert (stopping.decision.state, stopping.run, len(asked)) == ("undecided", 100, 100)
    assert stopping.reason == "all 100 planned trials run: the sequential test has not settled the comparison"
    assert stopping.detail()["decided_after"] is None
    worse, _ = recorded(outcomes(tasks, 2))
    assert until_settled(list(before), dict.fromkeys(before, True), worse, batch=10)[1].reason.endswith(
        "worse than the policy the iteration started with"
    )


def test_trials_without_an_outcome_to_compare_with_are_refused():
    before = outcomes({"stack": 0.5}, 0, count=4)
    run, asked = recorded(before)
    with pytest.raises(VlawError, match="1 of 5 planned trials") as caught:
        until_settled([*before, ("stack", 99)], before, run)
    assert caught.value.where == "stack, seed 99"
    assert asked == []
    with pytest.raises(VlawError, match="without an outcome"):
        until_settled(list(before), before, lambda part: [dataclasses.replace(clip(0), success=None) for _ in part])


def test_ranks_take_plain_lists_and_give_intervals():
    imagined, real = [0.2, 0.4, 0.5, 0.9], [0.1, 0.3, 0.35, 0.8]
    found = over_policies("spearman", imagined, real, np.random.default_rng(0), resamples=200)
    assert found.value == 1.0
    assert found.low <= 1.0 == found.high
    trials = [[[True] * int(20 * rate) + [False] * (20 - int(20 * rate)) for rate in side] for side in (imagined, real)]
    found = over_trials("pearson", *trials, np.random.default_rng(0), resamples=200)
    assert found.low < found.value <= found.high
