"""Section 10 of a study's report: World-VLA-Loop's numbers against those counted by hand (known_world_vla_loop.py)."""

from __future__ import annotations

import pytest
from known_study import shared_study
from known_world_vla_loop import (
    BASE,
    DONE_ABOVE,
    ENDED,
    ENDS,
    HEAD,
    JUDGE,
    LOOP,
    NO_HEAD,
    NO_NEAR,
    PAIRS,
    PRACTISED,
    SAVED,
    STEPS,
    SUCCESS,
    VALIDATED,
    known_world_vla_loop,
)
from report_text import cells, interval, vlaw

from vlaw_assets.lake import Lake
from vlaw_assets.reports import plots
from vlaw_assets.reports.iteration import practised
from vlaw_assets.reports.iteration.page import build
from vlaw_assets.reports.iteration.subject import Subject
from vlaw_assets.reports.study import practice, world_vla_loop
from vlaw_assets.reports.study.alignment import told
from vlaw_assets.reports.study.facts import facts_of
from vlaw_assets.reports.study.pictures import Pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    return known_world_vla_loop(Lake.open(folder / "lake", create=True)), folder


@pytest.fixture(scope="module")
def facts(made):
    return facts_of(made[0].lake, "loop")


@pytest.fixture(scope="module")
def text(facts):
    return world_vla_loop.section(facts, Pictures("loop"))


def row_of(text, *begin):
    """The cells after the first ones of the only table with a row that begins so and a column of that name."""
    column, *begin = begin
    table = next(part for part in text.split("\n\n") if part.startswith("|") and f"| {column} " in part)
    header, row = (cells(table, *first) for first in ([table.split("|")[1].strip()], begin))
    return dict(zip(header, row, strict=True))


def test_each_round_against_the_base_and_against_vlaw(text):
    for number in (1, 2):
        won = sum(SUCCESS[LOOP, seed, number].count("1") for seed in (0, 1))
        assert cells(text, f"World-VLA-Loop {number}")[1] == interval(won, 16)
    assert cells(text, "base")[1] == interval(sum(said.count("1") for said in BASE.values()), 16)
    gains = [SUCCESS[LOOP, seed, 2].count("1") - BASE[seed].count("1") for seed in (0, 1)]
    row = cells(text, "World-VLA-Loop 2 − base")
    assert row[1].startswith(f"{100 * sum(gains) / 16:+.1f} [")
    assert row[3] == f"0: {100 * gains[0] / 8:+.1f}, 1: {100 * gains[1] / 8:+.1f}"
    assert cells(text, "World-VLA-Loop 1 − VLAW 1")[3] == "0: +12.5, 1: +0.0"


def test_who_is_better_in_which_task(text, facts, monkeypatch):
    """On 'stack' one start more of seed 1 is won, on 'book' as many as by VLAW."""
    starts, seeds = (row_of(text, "interval over", "World-VLA-Loop 1 − VLAW 1", over) for over in ("starts", "seeds"))
    assert starts["stack"].startswith("+12.5 [")
    assert starts["book"].startswith("+0.0 [")
    assert seeds["stack"].startswith("+12.5 [-146.3")
    assert "World-VLA-Loop 1 in no task; VLAW 1 in no task" in text
    monkeypatch.setattr(world_vla_loop, "not_shown", lambda found, sign: "" if sign * found.diff > 0 else "not above")
    assert "World-VLA-Loop 1 in stack; VLAW 1 in no task" in world_vla_loop.section(facts, Pictures("loop"))


def test_alignment_is_what_is_told_right_above_the_recipes_threshold(text, facts):
    tp, fn, fp, tn = HEAD[LOOP]
    row = cells(text, "World-VLA-Loop", "head > 0.5")
    assert row[2:4] == ["success", interval(2 * (tp + tn), 200)]
    assert row[4] == f"tp {2 * tp}, fn {2 * fn}, fp {2 * fp}, tn {2 * tn}"
    ends = cells(text, "World-VLA-Loop", f"head > {DONE_ABOVE}")
    assert ends[2:4] == ["end of a trajectory", interval(2 * (ENDS[0] + ENDS[3]), 200)]
    assert cells(text, "World-VLA-Loop", "judge > 0.8")[2] == "for comparison"
    assert cells(text, "World-VLA-Loop, no reward head", "judge > 0.8")[2:4] == ["success", interval(140, 200)]
    assert cells(text, "World-VLA-Loop, no reward head", "judge > 0.5")[2] == "for comparison"
    assert told(facts, LOOP).successes == 182, "by the head where there is one, above what counts as a success"
    assert told(facts, NO_HEAD).successes == 2 * (JUDGE[NO_HEAD][0] + JUDGE[NO_HEAD][3])
    assert told(facts, NO_NEAR).successes == 156


def test_claims_follow_from_the_numbers(facts, monkeypatch):
    found = {claim.claim: claim for claim in world_vla_loop.claims(facts)}
    assert found["reward alignment"].holds
    assert found["reward alignment above that without the head, by its judge"].holds
    assert found["reward alignment above that without near-success data"].ours.startswith("+13.0")
    assert found["World-VLA-Loop 2 − base"].holds
    monkeypatch.setattr(world_vla_loop, "CLIPS", 201)
    assert world_vla_loop.claims(facts)[0].why == "200 clips"
    monkeypatch.setattr(world_vla_loop, "ABOVE_NO_HEAD", 0.22)
    less = world_vla_loop.claims(facts)[1]
    assert (less.holds, less.why) == (False, "less")


def test_an_alignment_is_above_another_where_the_seeds_agree(facts, monkeypatch):
    own = {LOOP: {0: 0.92, 1: 0.90}, NO_NEAR: {0: 0.86, 1: 0.70, 2: 0.1}}
    monkeypatch.setattr(world_vla_loop, "told_by_seed", lambda _, recipe: own[recipe])
    monkeypatch.setattr(world_vla_loop, "ABOVE_NO_HEAD", 0.0)
    monkeypatch.setattr(world_vla_loop, "NO_HEAD", NO_NEAR)
    found = world_vla_loop.claims(facts)[2]
    assert (found.holds, found.why) == (False, "over seeds")
    assert "over seeds +13.0 [-75.9, +101.9]" in found.ours, "seeds that both have"
    own[NO_NEAR] |= {1: 0.84}
    assert world_vla_loop.claims(facts)[2].holds


def test_costs_are_sums_over_the_rounds(text, facts):
    row = row_of(text, "steps saved", "World-VLA-Loop 2")
    assert row["real rollouts"] == "8"
    assert row["trials for stops"] == str(2 * VALIDATED)
    assert row["pairs, episodes"] == str(PAIRS), "made once, whatever the rounds"
    assert row["imagined rollouts"] == str(2 * PRACTISED)
    assert row["imagined frames"] == str(2 * PRACTISED * STEPS)
    made = 2 * (4 + PRACTISED) * STEPS
    assert row["steps saved"] == f"{2 * SAVED} ({100 * 2 * SAVED / (2 * SAVED + made):.1f} %)"
    assert row_of(text, "steps saved", "VLAW 1")["steps saved"] == "0"
    assert row_of(text, "steps saved", "World-VLA-Loop, no near-success data 1")["pairs, episodes"] == "0"
    assert f"World-VLA-Loop 2: {4 * ENDED} of {2 * (8 + 2 * PRACTISED)}, {4 * SAVED} control steps" in text
    assert {row["iteration"] for row in facts.select("costs", recipe=LOOP)} == {1, 2}, "the third is not finished"
    assert "VLAW 1: " not in practice.savings(facts, (LOOP, "vlaw"))


def test_optimism_is_of_the_chosen_policy_where_the_one_before_failed(text, facts):
    first = facts.select("optimism", recipe=LOOP, iteration=1, seed=0)[0]
    assert (first["starts"], first["stop"], first["rl_step"]) == ("failed", 1, 2)
    assert first["imagined"] == pytest.approx(0.75), "of the tries from failed starts one of two, and two of two"
    assert first["real"] == pytest.approx(1 / 3), "one of the three starts of either task that the base failed"
    assert (first["tries"], first["trials"]) == (4, 6)
    second = facts.select("optimism", recipe=LOOP, iteration=2, seed=0)[0]
    assert (second["stop"], second["rl_step"], second["imagined"]) == (3, 3, 1), "nothing is practised after the last"
    assert second["real"] == 0.5, "of the two starts of either task that the policy after round 1 failed"
    by_judge = facts.select("optimism", recipe=NO_HEAD, iteration=1, seed=0)[0]
    assert by_judge["imagined"] == 0, "no try is above the judge's threshold"
    judged = facts.select("optimism", recipe="vlaw", iteration=1, seed=0)[0]
    assert judged["imagined"] == pytest.approx((1 / 3 + 1 / 2) / 2), "starts count alike, whatever their tries"
    assert judged["real"] == pytest.approx(BASE[0].count("1") / 8), "the base acts there"
    row = row_of(text, "stop: RL step, per seed", "World-VLA-Loop 1")
    assert (row["starts"], row["stop: RL step, per seed"]) == ("failed", "1: 2, 1: 2")
    assert (row["imagined"], row["real"]) == ("75.0", "33.3")


def test_it_says_how_the_recipe_differs_from_the_paper(text, facts):
    line = practice.unlike_the_paper(facts, LOOP)
    assert line in text
    assert "RL steps 3 (50), `groups` 30 (64), `threshold` 0.5 (0.9), `normalized` false (true)" in line
    assert "group_size" not in line, "as in the paper"
    assert line.endswith("its flow-matching error stands for the likelihood.")
    assert practice.unlike_the_paper(facts, NO_NEAR) == "", "the definition does not say"


def test_ablations_say_what_they_leave_and_take_besides(text):
    assert "*World-VLA-Loop, no near-success data* leaves the pairs" in text
    assert "*World-VLA-Loop, no reward head* has no state head either" in text


def test_the_figure_has_every_seed(facts, monkeypatch):
    drawn = {}
    monkeypatch.setattr(plots, "seed_plot", lambda rates, base: drawn.update(rates=rates, base=base) or b"")
    pictures = Pictures("loop")
    assert "(loop/world_vla_loop.png)" in world_vla_loop.section(facts, pictures)
    assert list(pictures.made) == ["world_vla_loop.png"]
    assert list(drawn["rates"])[:3] == ["base", "World-VLA-Loop 1", "World-VLA-Loop 2"]
    assert drawn["rates"]["World-VLA-Loop, no reward head 1"] == [0.25, 0.375]
    assert drawn["base"] == 0.25
    monkeypatch.undo()
    assert plots.seed_plot({"one seed": [0.5], "two": [0.2, 0.4]}, 0.3).startswith(b"\x89PNG")


def test_the_report_of_an_iteration_shows_how_the_policy_practised(made):
    lake = made[0].lake
    found = practised.section(Subject(lake, f"loop-{LOOP}-s0", 1))
    assert found.finding == f"{PRACTISED} episodes in 3 RL steps"
    assert (
        f"Of these {ENDED} ended early, as their reward said done: {SAVED} control steps were not made." in found.body
    )
    assert "The policy after RL step 1 was kept." in found.body
    assert "<td>2</td><td>0.20</td><td>2</td><td>1.00%</td><td>0.001</td>" in found.body
    assert practised.section(Subject(lake, "loop-vlaw-s0", 1)) is None
    assert found.body in build(lake, f"loop-{LOOP}-s0", 1)


def test_it_is_a_section_of_studies_with_the_arm_alone(made, tmp_path, tmp_path_factory):
    k, _ = made
    assert vlaw(k, "study", "loop", "--out", str(tmp_path / "loop.md")).exit_code == 0
    assert "## 10. World-VLA-Loop" in (tmp_path / "loop.md").read_text()
    other = shared_study(tmp_path_factory, (0,))
    assert world_vla_loop.section(facts_of(other.lake, "tiny"), Pictures("tiny")) == ""
