"""Verdicts on differences, claims and gates of a study: by its questions' answers, written down by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from known_study import StudyLake
from report_text import interval

from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.query import connect
from vlaw_assets.query.questions import FOLDER, read_question
from vlaw_assets.reports.study import claims, gates
from vlaw_assets.reports.study.compare import compare_trials
from vlaw_assets.reports.study.facts import QUESTIONS, REPORTED, Facts
from vlaw_assets.reports.study.pictures import Pictures
from vlaw_assets.reports.study.success import section as success_section
from vlaw_assets.reports.study.text import rates_over_seeds


def facts(won=None, *, n=200, tasks=("stack",), wanted=None, **rows) -> Facts:
    """Of `won`: (recipe, iteration) -> for each seed the starts won of `n` (the first ones), in each task."""
    trials, success = [], []
    for (recipe, iteration), seeds in (won or {}).items():
        policy = {"recipe": recipe, "iteration": iteration, "noise": REPORTED}
        by_seed = dict(enumerate(wins if isinstance(wins, tuple) else (wins,) for wins in seeds))
        trials += [
            policy | {"seed": seed, "start": start, "task": task, "success": start < k}
            for seed, wins in by_seed.items()
            for task, k in zip(tasks, wins, strict=True)
            for start in range(n)
        ]
        for seed, found in [*((seed, [wins]) for seed, wins in by_seed.items()), (None, list(by_seed.values()))]:
            sums = dict(zip(tasks, map(sum, zip(*found, strict=True)), strict=True))
            for task, k, of in [*((t, k, n) for t, k in sums.items()), ("all", sum(sums.values()), n * len(tasks))]:
                counts = {"successes": k, "trials": of * len(found), "rate": k / (of * len(found))}
                success.append(policy | counts | {"seed": seed, "task": task, "noise_scale": 1.0})
    answers = {name: [] for name in QUESTIONS} | {"trials": trials, "success": success} | rows
    return Facts("tiny", answers, None, wanted or {})


def claim(found: Facts, name: str) -> claims.Claim:
    return next(one for one in claims.claims(found) if one.claim == name)


def gate(found: Facts, name: str) -> gates.Gate:
    return next(one for one in gates.gates(found) if one.name.startswith(name))


# ---- differences


def test_the_interval_draws_starts_and_not_trials():
    """Ten seeds that agree on every start are no more evidence than one; independent starts are."""
    rng = np.random.default_rng(3)
    won = rng.random(60) < 0.4
    one = compare_trials({(0, i, "t"): bool(w) for i, w in enumerate(won)}, {(0, i, "t"): False for i in range(60)})
    ten = compare_trials(
        {(s, i, "t"): bool(w) for s in range(10) for i, w in enumerate(won)},
        {(s, i, "t"): False for s in range(10) for i in range(60)},
    )
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))
    half = 1.96 * np.sqrt(won.mean() * (1 - won.mean()) / 60)
    assert (one.low, one.high) == pytest.approx((won.mean() - half, won.mean() + half), abs=0.02)
    assert one.over_seeds is None, "one seed does not say how much seeds differ"


def test_the_interval_over_seeds_is_student_s():
    found = compare_trials(
        {(seed, i, "t"): i < k for seed, k in ((0, 2), (1, 4), (2, 6)) for i in range(8)},
        {(seed, i, "t"): False for seed in range(3) for i in range(8)},
    )
    half = 4.302653 * 0.25 / math.sqrt(3)  # differences of 1/4, 1/2 and 3/4
    assert found.over_seeds == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-6)
    assert found.diff == 0.5
    assert found.low > 0 > found.over_seeds.low, "what every start says, three seeds do not"


def test_an_early_stop_has_seen_every_seed():
    """Seed 0 alone would name the first policy; start by start the two seeds cancel."""
    first = {(seed, i, "t"): seed == 0 for seed in (0, 1) for i in range(40)}
    second = {key: not won for key, won in first.items()}
    assert compare_trials({k: v for k, v in first.items() if k[0] == 0}, second).sequential.state == "a better"
    assert compare_trials(first, second).decided == "undecided after 80 pairs"


def test_rates_over_seeds_stand_in_the_table():
    assert rates_over_seeds([0.25, 0.5]) == "37.5 [-121.3, 196.3]", "37.5 ± 12.706 · 12.5"
    assert (rates_over_seeds([0.25]), rates_over_seeds([])) == ("one seed", "")
    text = success_section(facts({("vlaw", 2): [100, 120, 140], ("base", 0): [80]}), Pictures("x"))
    # 50, 60 and 70 per cent: 60 ± 4.302653 · 10 / sqrt(3)
    assert "| 60.0 [35.2, 84.8] | 600 (3 seeds) |" in text
    assert "| one seed | 200 (1 seed) |" in text
    assert "| +20.0 [+" not in text
    assert "| +10.0 [" in text, "VLAW 2 − base over the seed that both have"


# ---- claims


@pytest.mark.parametrize(
    ("vlaw", "holds", "why"),
    [
        ([130, 131, 132], True, ""),
        ([101, 131, 161], False, "the interval over seeds holds 0"),  # 15.5 ± 4.30 · 15 / sqrt(3)
        ([130], False, "one seed"),
        ([101, 101, 99], False, "the interval over starts holds 0, the interval over seeds holds 0"),
        ([70, 71, 72], False, "the interval over starts is below 0, the interval over seeds is below 0"),
        ([107, 108, 109], False, "better, by less than 5.0 points"),
    ],
)
def test_a_difference_is_shown_where_both_intervals_leave_out_0(vlaw, holds, why):
    found = claim(facts({("vlaw", 2): vlaw, ("filtered_bc", 2): [100] * 3}), "VLAW 2 − filtered BC 2")
    assert (found.holds, found.why) == (holds, why)
    assert found.bound == "≥ +5.0, both intervals above 0 (goal: the paper's +11.6)"


def test_five_points_are_five_points_up_to_rounding():
    found = claim(facts({("vlaw", 2): [90] * 3, ("filtered_bc", 2): [80] * 3}), "VLAW 2 − filtered BC 2")
    assert 90 / 200 - 80 / 200 < 0.05
    assert found.holds


def test_the_base_is_to_be_beaten_by_anything():
    found = claim(facts({("vlaw", 2): [107, 108, 109], ("base", 0): [100] * 3}), "VLAW 2 − base")
    assert (found.holds, found.why) == (True, "")
    assert found.bound == "> 0, both intervals above 0 (goal: the paper's +39.2)"
    assert "over seeds +4.0 [+2.8, +5.2]" in found.ours, "4 ± 4.303 · .5 / sqrt(3)"


def test_ablations_lose_where_both_intervals_say_so():
    name = "no real data in the update loses success"
    outcomes = {("vlaw_no_real_in_policy", 1): [70, 71], ("vlaw", 1): [100, 100]}
    assert claim(facts(outcomes), name).holds, "-14.75 ± 12.706 · .25"
    found = claim(facts(outcomes | {("vlaw_no_real_in_policy", 1): [60, 90]}), name)
    assert (found.holds, found.why) == (False, "the interval over seeds holds 0")
    found = claim(facts(outcomes | {("vlaw_no_real_in_policy", 1): [130, 131]}), name)
    assert found.why == "the interval over starts is above 0, the interval over seeds is above 0"


def test_rollouts_against_as_many_demonstrations():
    name = "a world model finetuned on rollouts gives a better policy than the same finetuned on as many demonstrations"
    assert claim(facts(), name).verdict == "not measured"
    outcomes = {("vlaw", 1): [130, 131, 132], ("vlaw_expert_control_world_model", 1): [100] * 3}
    assert claim(facts(outcomes), name).holds
    swapped = dict(zip(outcomes, reversed(outcomes.values()), strict=True))
    assert claim(facts(swapped), name).holds is False


@pytest.mark.parametrize(
    ("imagined", "kept_true", "successes", "why"),
    [
        (150, 46, 100, ""),  # 92 of 100 and of 200
        (149, 46, 100, "only 298 imagined episodes"),
        (150, 45, 100, "precision"),  # not above .9
        (150, 46, 103, "recall"),  # 92 of 206
    ],
)
def test_the_judge_on_imagined_episodes(imagined, kept_true, successes, why):
    row = {"recipe": "vlaw", "iteration": 1, "kept": 50, "threshold": 0.8}
    row |= {"imagined": imagined, "kept_true": kept_true, "true_successes": successes}
    others = [row | {"iteration": 2, "seed": 0, "kept_true": 0}, row | {"recipe": "vlaw_awr", "seed": 0}]
    found = facts(labels=[row | {"seed": 0}, row | {"seed": 1}, *others])
    one = claim(found, "judge at P(yes) > 0.8, on imagined episodes")
    assert (one.holds, one.why) == (not why, why)
    assert claim(found, "judge at P(yes) > 0.8, on real episodes").holds is None


def test_the_judge_on_real_episodes():
    def found(**other):
        row = {"recipes": ["vlaw"], "iteration": 1, "threshold": 0.8, "tp": 46, "fn": 54, "fp": 4, "tn": 46} | other
        return claim(facts(judges=[row | {"seed": 0}, row | {"seed": 1}]), "judge at P(yes) > 0.8, on real episodes")

    assert found().holds, "92 of 100 are right, of 200, and 300 are judged"
    assert found(tn=45).why == "only 298 trajectories"
    assert found(tp=45, fp=5).why == "precision"
    assert found(fn=57).why == "recall"


# ---- gates


def test_what_was_not_measured_has_a_row_that_says_what_would_measure_it():
    found = gates.gates(facts(wanted={("vlaw", 0): 1, ("oracle", 0): 1}))
    assert len(found) == 9, "forgetting of each main arm"
    assert {(one.verdict, one.value) for one in found} == {("not measured", "")}
    oracle = gate(facts(wanted={("vlaw", 0): 1, ("oracle", 0): 1}), "oracle †")
    assert oracle.meaning == (
        "The first iteration of oracle simulator † and filtered BC would measure it: add filtered_bc to the study's "
        "file, then `vlaw study tiny --only oracle,filtered_bc`."
    )
    text = gates.section(facts())
    assert text.count("| not measured |") == 9


def test_labels_are_precise_and_enough_in_every_iteration_and_seed():
    row = {"recipe": "vlaw", "iteration": 1, "imagined": 200, "true_successes": 80, "kept": 60, "kept_true": 48}
    rows = [row | {"seed": seed, "iteration": at} for seed in (0, 1) for at in (1, 2)]
    found = gate(facts(labels=rows), "precision of the labels")
    assert found.passed, ".8 is .8, and twice .4"
    assert found.value == f"{interval(96, 120)} (96/120); base rate 40.0; fewest kept 60 (iteration 1, seed 0)"
    few = gate(facts(labels=[*rows[:3], rows[3] | {"kept": 59, "kept_true": 59}]), "precision of the labels")
    assert (few.passed, few.meaning) == (False, "The judge keeps too few episodes to learn from.")
    assert few.value.endswith("fewest kept 59 (iteration 2, seed 1)")
    plain = gate(facts(labels=[one | {"true_successes": 81} for one in rows]), "precision of the labels")
    assert not plain.passed
    assert "the filter adds little" in plain.meaning
    assert not gate(facts(labels=[one | {"kept_true": 47} for one in rows]), "precision of the labels").passed
    none = gate(facts(labels=[one | {"kept": 0, "kept_true": 0} for one in rows]), "precision of the labels")
    assert (none.passed, none.value.partition(";")[0]) == (False, "none kept")
    gone = gate(
        facts(labels=rows[:3], wanted={("vlaw", 0): 2, ("vlaw", 1): 2}), "precision of the labels of imagined episodes:"
    )
    assert (gone.name.partition(": ")[2], gone.verdict) == ("iteration 2, seed 1", "not measured")


def test_true_labels_are_to_come_within_three_points_of_the_oracle():
    for true_labels, passed in (([114, 114], True), ([113, 114], False)):
        found = facts({("imagined_true_labels", 1): true_labels, ("oracle", 1): [120, 120]})
        assert gate(found, "imagined, true labels").passed is passed


@pytest.mark.parametrize(
    ("inside", "untried", "passed", "shown"),
    [
        ((0.45, 0.35), 0, True, "-5.0 (38.3 − 43.3; 60 starts, 180 tries); over seeds -7.5"),
        ((0.45, 0.34), 0, False, "-5.7"),
        ((0.60, 0.45), 0, False, "+6.7"),
        ((0.45, 0.35), 1, None, "-5.0"),
    ],
)
def test_the_base_inside_the_world_model(inside, untried, passed, shown):
    """40 of 60 starts are the second seed's: rates weigh by starts, the interval by seeds."""
    row = {"recipe": "vlaw", "untried": untried}
    first = {"seed": 0, "starts": 20, "tries": 60, "robot_successes": 12, "robot_rate": 0.6}
    second = {"seed": 1, "starts": 40, "tries": 120, "robot_successes": 14, "robot_rate": 0.35}
    rows = [row | one | {"inside_rate": rate} for one, rate in zip((first, second), inside, strict=True)]
    found = gate(
        facts(base_inside=[one | {"difference": one["inside_rate"] - one["robot_rate"]} for one in rows]),
        "success of the base, inside",
    )
    assert found.passed is passed
    assert found.value.startswith(shown)


def test_the_base_inside_is_asked_of_the_lake(tmp_path):
    """Tries from the four starts of a seed end 100, 110, 10, 00; on the robot the starts ended 1, 0, 1, 0."""
    k = StudyLake(Lake.open(tmp_path / "lake", create=True))
    arms = {"vlaw": {}, "oracle": {"world": "tabletop"}, "filtered_bc": {"first": 2}}
    k.define([{"recipe": recipe, "seeds": [0], "iterations": 1} for recipe in arms])
    for recipe, how in arms.items():
        k.iterate(recipe, 0, 1, "10001000")
        real = k.lake.ledger.require("real_rollouts", k.key(recipe, 0, 1))
        k.imagine(recipe, 0, 1, k.base, real, **how)
    later = k.iterate("vlaw", 0, 2, "10001000")
    k.imagine("vlaw", 0, 2, later, k.lake.ledger.require("real_rollouts", k.key("vlaw", 0, 2)))

    def asked():
        with connect(k.lake) as query:
            rows = query.table(read_question(FOLDER / "study_base_inside.sql")[1], {"study": "tiny"}).to_pylist()
        return {row.pop("recipe"): row for row in rows}

    found = asked()
    assert set(found) == {"vlaw", "filtered_bc"}, "the true simulator is no world model"
    assert found["vlaw"] == {
        "seed": 0, "starts": 4, "untried": 0, "tries": 10, "inside_rate": pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 4),
        "robot_successes": 2, "robot_rate": 0.5, "difference": pytest.approx(-1 / 8),
    }  # fmt: skip
    # Only the first two: tries 0, 2, ... of the one end 10100 (1110010000 read so), of the other 11100.
    few = found["filtered_bc"]
    assert (few["starts"], few["untried"], few["robot_rate"]) == (2, 2, 0.5)
    assert few["inside_rate"] == pytest.approx((2 / 5 + 2 / 5) / 2)
    first = next(iter(k.lake.read(real).episodes(frames=False)))
    quarantine.add(k.lake, [first.episode_id], why="blurred", by="tester")
    left = asked()["vlaw"]
    assert (left["starts"], left["tries"], left["robot_successes"]) == (3, 7, 1)
    assert left["inside_rate"] == pytest.approx((2 / 3 + 1 / 2) / 3)


def ranked(rates):
    """Of (imagined, real) per cent of 100 trials each."""
    return [
        {
            "name": f"p {i}",
            "seed": i,
            "policy": f"{i // 2}",
            "task": "stack",
            "imagined_trials": 100,
            "real_trials": 100,
        }
        | {"imagined_successes": a, "real_successes": b, "imagined_rate": a / 100, "real_rate": b / 100}
        for i, (a, b) in enumerate(rates)
    ]


def test_pearson_is_over_ten_policies_with_a_bound_below():
    def found(rates):
        return gate(facts(policy_ranks=ranked(rates)), "Pearson")

    line = [(10 + 4 * i, 20 + 3 * i) for i in range(10)]
    one = found(line)
    assert (one.verdict, one.value) == (
        "passed",
        "1.00 [1.00, 1.00] over 10 policies in the world models of their seeds, 5 of them different",
    )
    assert found(line[:9]).verdict == "cannot be told"
    assert found(line[:2]).verdict == "cannot be told"
    assert found([(a, b + (9 if i % 2 else -9)) for i, (a, b) in enumerate(line)]).verdict == "**not passed**", "r < .8"
    alone = [*((10, 20 + i % 3) for i in range(11)), (11, 21), (90, 90)]
    tall = found(alone)
    assert tall.value.startswith("1.00 [")
    assert tall.verdict == "**not passed**", "one policy makes all of r: without it there is none"


def test_no_task_is_forgotten():
    tasks = ("stack", "book")
    base = {("base", 0): [(50, 50), (50, 50)]}

    def found(vlaw, cloned):
        outcomes = base | {("vlaw", 1): [(0, 0)] * 2, ("vlaw", 2): vlaw}
        outcomes |= {("filtered_bc", 1): cloned} if cloned else {}
        return [one for one in gates.gates(facts(outcomes, n=100, tasks=tasks)) if one.name.startswith("worst task")]

    (one,) = found([(50, 45), (60, 45)], [(46, 50), (46, 50)])
    assert one.passed, "5 points of 45 - 50 are not more than 5"
    assert one.value.startswith("VLAW 2, book: -5.0 [")
    assert one.value.endswith("; over seeds -5.0 [-5.0, -5.0]")
    one, gone = found([(50, 45), (60, 43)], None)
    assert (one.passed, one.value.partition(" [")[0]) == (False, "VLAW 2, book: -6.0")
    assert (gone.verdict, gone.name) == ("not measured", "worst task against the base, last iteration: filtered BC")
