"""Section 10 of a study's report: World-VLA-Loop's numbers against those counted by hand (known_world_vla_loop.py)."""

from __future__ import annotations

import pytest
from known_study import shared_study
from known_world_vla_loop import (
    BASE,
    HEAD,
    JUDGE,
    LOOP,
    NO_HEAD,
    NO_NEAR,
    PRACTISED,
    RL_STEPS,
    STEPS,
    SUCCESS,
    known_world_vla_loop,
)
from report_text import cells, interval, vlaw

from vlaw_assets.lake import Lake
from vlaw_assets.reports.study import world_vla_loop
from vlaw_assets.reports.study.facts import facts_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    return known_world_vla_loop(Lake.open(folder / "lake", create=True)), folder


@pytest.fixture(scope="module")
def facts(made):
    return facts_of(made[0].lake, "loop")


@pytest.fixture(scope="module")
def text(facts):
    return world_vla_loop.section(facts)


def test_each_round_against_the_base_and_against_vlaw(text):
    for number in (1, 2):
        won = sum(SUCCESS[LOOP, seed, number].count("1") for seed in (0, 1))
        assert cells(text, f"World-VLA-Loop {number}")[1] == interval(won, 16)
    assert cells(text, "base")[1] == interval(sum(said.count("1") for said in BASE.values()), 16)
    gains = [SUCCESS[LOOP, seed, 2].count("1") - BASE[seed].count("1") for seed in (0, 1)]
    row = cells(text, "World-VLA-Loop 2 − base")
    assert row[1].startswith(f"{100 * sum(gains) / 16:+.1f} [")
    assert row[3] == f"0: {100 * gains[0] / 8:+.1f}, 1: {100 * gains[1] / 8:+.1f}"
    assert cells(text, "World-VLA-Loop 1 − VLAW 1")[3] == "0: +12.5, 1: -12.5"


def test_alignment_is_what_is_told_right(text, facts):
    tp, fn, fp, tn = HEAD[LOOP]
    row = cells(text, "World-VLA-Loop", "head > 0.9")
    assert row[2] == interval(2 * (tp + tn), 200)
    assert row[3] == f"tp {2 * tp}, fn {2 * fn}, fp {2 * fp}, tn {2 * tn}"
    assert cells(text, "World-VLA-Loop, no reward head", "judge > 0.8")[2] == interval(140, 200)
    assert world_vla_loop.told(facts, LOOP).successes == 182, "by the head where there is one, at its own threshold"
    assert world_vla_loop.told(facts, NO_HEAD).successes == 2 * (JUDGE[NO_HEAD][0] + JUDGE[NO_HEAD][3])
    assert world_vla_loop.told(facts, NO_NEAR).successes == 156


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


def test_costs_and_optimism_are_sums_and_means(text, facts):
    row = cells(text, "World-VLA-Loop 2")
    costs = [one for one in text.splitlines() if one.startswith("| World-VLA-Loop 2 |")]
    assert [cell.strip() for cell in costs[1].strip("|").split("|")][1:4] == [
        "8",
        str(2 * PRACTISED),
        str(2 * PRACTISED * STEPS),
    ], row
    practised = facts.select("optimism", recipe=LOOP, iteration=1, seed=0)[0]
    assert practised["rl_steps"] == len(RL_STEPS)
    assert practised["imagined"] == pytest.approx(0.8), "the last two of twenty"
    assert practised["real"] == 0.5
    judged = facts.select("optimism", recipe="vlaw", iteration=1, seed=0)[0]
    assert judged["imagined"] == pytest.approx(0.4), "the judge accepts four of ten"
    assert judged["real"] == pytest.approx(BASE[0].count("1") / 8), "the base acts there"


def test_it_is_a_section_of_studies_with_the_arm_alone(made, tmp_path, tmp_path_factory):
    k, _ = made
    assert vlaw(k, "study", "loop", "--out", str(tmp_path / "loop.md")).exit_code == 0
    assert "## 10. World-VLA-Loop" in (tmp_path / "loop.md").read_text()
    other = shared_study(tmp_path_factory, (0,))
    assert world_vla_loop.section(facts_of(other.lake, "tiny")) == ""
