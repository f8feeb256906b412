"""`vlaw report study NAME`: numbers in the report against numbers counted by hand from the outcomes of
known_study.py."""

from __future__ import annotations

import re

import duckdb
import pytest
from asking import ask
from known_study import BASE, EVALUATION, STARTS, SUCCESS, TASKS, StudyLake, episode, shared_study
from report_text import cells, interval, section, vlaw

from vlaw_assets.lake import Lake
from vlaw_assets.query import connect
from vlaw_assets.query.catalogue import write_catalogue
from vlaw_assets.query.questions import questions
from vlaw_assets.reports.study import claims, gates, gates_inside, paper, ran
from vlaw_assets.reports.study.compare import compare
from vlaw_assets.reports.study.facts import QUESTIONS, facts_of
from vlaw_assets.reports.study.models import EXPERT, PRETRAINED, ROLLOUTS, WorldModels
from vlaw_assets.reports.study.text import percent
from vlaw_assets.reports.success import rate
from vlaw_models.metrics.stats import newcombe

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shared_study(tmp_path_factory), tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def facts(made):
    return facts_of(made[0].lake, "tiny")


@pytest.fixture(scope="module")
def report(made):
    """(text, folder) as the command writes it."""
    k, folder = made
    (folder / "study_notes.md").write_text("What we think of it.\n")
    found = vlaw(k, "study", "tiny", "--out", str(folder / "study.md"))
    assert found.exit_code == 0, found.output
    return (folder / "study.md").read_text(), folder


def test_success_per_task_and_pooled_is_what_was_put_in(report, facts):
    text = section(report[0], 2)
    for recipe, name in (("filtered_bc", "filtered BC"), ("vlaw", "VLAW")):
        for iteration in (1, 2):
            outcomes = [SUCCESS[recipe, seed, iteration] for seed in (0, 1)]
            won = [sum(said[i * STARTS : (i + 1) * STARTS].count("1") for said in outcomes) for i in range(len(TASKS))]
            row = cells(text, f"{name} {iteration}", "ours")
            each = percent(sum(won) / 16)  # both seeds won as often
            seeds = f"{each} [{each}, {each}]"
            assert row[2:] == [*(interval(k, 8) for k in won), interval(sum(won), 16), seeds, "16 (2 seeds)"]
    won = sum(said.count("1") for said in BASE.values())
    assert cells(text, "base", "ours")[4:] == [interval(won, 16), "25.0 [25.0, 25.0]", "16 (2 seeds)"], (
        "the base is shared by all arms and counted once per seed"
    )
    low = text.partition("### At lower noise (× 0.50)")[2]
    assert cells(low, "base", "ours")[4] == interval(won + 2, 16), "the low-noise outcomes end in 1 in both seeds"
    assert facts.rate("vlaw", 2, "stack", seed=0).successes == 3
    assert facts.rate("vlaw", 3) is None


def test_the_paper_s_numbers_stand_beside_ours(report):
    row = cells(section(report[0], 2), "VLAW 2", "paper")
    assert row[2:] == [
        interval(46, 50),
        interval(43, 50),
        interval(217, 250),
        "",
        "250",
    ]  # stack .92, book .86; mean .868
    assert cells(section(report[0], 3), "paper: + expert")[1:] == ["19.87", "0.748", "0.189", "12.76", "99.98"]
    assert cells(section(report[0], 4), "paper, P(yes) > 0.8")[1:5] == ["10", "12", "2", "16"]
    assert {row["recipe"] for row in paper.paper()["table_2"]["rows"]} == {"base", "dsrl", "filtered_bc", "vlaw"}


def test_differences_are_paired_on_the_same_starts_and_seeds(report, facts):
    found = compare(facts, ("vlaw", 2), ("filtered_bc", 2))
    pairs = [
        (a == "1", b == "1")
        for seed in (0, 1)
        for a, b in zip(SUCCESS["vlaw", seed, 2], SUCCESS["filtered_bc", seed, 2], strict=True)
    ]
    assert (found.only_first, found.only_second) == (pairs.count((True, False)), pairs.count((False, True))) == (6, 0)
    assert found.diff == pytest.approx(6 / 16)
    assert found.p_value == pytest.approx(2 / 2**6)
    assert (found.pairs, found.starts) == (16, 8)
    assert {seed: one.diff for seed, one in found.per_seed.items()} == {
        0: pytest.approx(3 / 8),
        1: pytest.approx(3 / 8),
    }
    assert found.over_seeds == pytest.approx((3 / 8, 3 / 8, 3 / 8)), "the seeds agree"
    row = cells(section(report[0], 2), "VLAW 2 − filtered BC 2")
    low, high = (100 * value for value in newcombe(217, 250, 188, 250)[1:])
    assert row[1].startswith("+37.5 [")
    assert row[2] == "+37.5 [+37.5, +37.5]"
    assert row[3] == f"+11.6 [{low:+.1f}, {high:+.1f}]"
    assert row[4] == "6 / 0"
    assert "undecided after 16 pairs" in row[6]
    arm = cells(section(report[0], 5), "oracle simulator †")
    assert arm[3].startswith("+12.5 ["), "12 of 16 against 10"
    assert arm[4] == "+12.5 [+12.5, +12.5]", "6 of 8 against 5 in both seeds"
    assert compare(facts, ("vlaw", 2), ("dsrl", 1)) is None


def test_gates_and_what_they_mean(report, facts, monkeypatch):
    found = {gate.name: gate for gate in gates.gates(facts)}
    assert [gate.passed for gate in found.values()] == [False, False, True, None, False, False, None, True]
    assert all(gate.measured for gate in found.values())
    base, inside, oracle, covered, labels, privileged, ranks, kept = found.values()
    assert base.value == f"{interval(4, 16)} (4/16)"
    assert "few successes to learn from" in base.meaning
    # The tries from the four starts of a seed ended 100, 110, 10 and 00, on the robot they ended 1, 0, 1, 0.
    assert inside.value == "-12.5 (37.5 − 50.0; 8 starts, 20 tries); over seeds -12.5 [-12.5, -12.5]"
    assert "less often" in inside.meaning
    assert oracle.value.startswith("+37.5 [")  # 12 of 16 against 6 of 16
    assert oracle.value.endswith("; over seeds +37.5 [+37.5, +37.5]")
    # In each seed two of four rollouts failed, and five of ten imagined episodes began there: three and two.
    assert covered.value == (
        f"{interval(2, 4)} (2/4); 2.5 tries per start; by the first 1: {interval(2, 4)} (2/4); "
        f"by the first 2: {interval(2, 4)} (2/4); oracle † not measured"
    ), "the rows over all tasks, not those of tasks too"
    assert (covered.bound, covered.verdict) == ("≥ 60 by 4 tries, ≥ 80 by 8 tries", "cannot be told")
    monkeypatch.setattr(gates_inside, "RESCUED", {2: 0.6, 4: 0.1})
    enough = next(gate for gate in gates.gates(facts) if gate.name == covered.name)
    assert (enough.verdict, enough.meaning.partition(" are ")[0]) == ("**not passed**", "Many failures")
    monkeypatch.setattr(gates_inside, "RESCUED", {1: 0.4, 2: 0.5})
    assert next(gate for gate in gates.gates(facts) if gate.name == covered.name).passed
    # the judge takes the first four of ten, 1110 are true; 4 of 10 are true in all
    assert labels.value == f"{interval(6, 8)} (6/8); base rate 40.0; fewest kept 4 (iteration 1, seed 0)"
    assert "too optimistic" in labels.meaning
    assert privileged.value.startswith("-12.5 [")  # 10 of 16 against 12
    assert ranks.value == "over 4 policies in the world models of their seeds, 3 of them different"
    assert "all 4 policies have the same success rate in the world model" in ranks.meaning
    assert kept.value.startswith("filtered BC 2, stack: +25.0 ["), "4 of 8 against 2, as in book; VLAW gains more"
    assert cells(section(report[0], 1), "success of the base")[3] == "**not passed**"


def test_failed_starts_rescued_by_number_of_tries(tmp_path, monkeypatch):
    """Starts 1 (stack) and 3 (book) failed; tries 1, 5, 9 began at the one, 3 and 7 at the other."""
    monkeypatch.setattr("known_study.IMAGINED", "0000010010")
    k = StudyLake(Lake.open(tmp_path / "lake", create=True))
    k.define([{"recipe": "vlaw", "seeds": [0], "iterations": 1}])
    k.iterate("vlaw", 0, 1, "11111110")
    k.imagine("vlaw", 0, 1, k.base, k.lake.ledger.require("real_rollouts", k.key("vlaw", 0, 1)))
    with connect(k.lake) as query:
        rows = ask(query, "study_coverage", study="tiny")
    found = {(row["task"], row["first_tries"]): (row["successes"], row["trials"], row["tries"]) for row in rows}
    assert found == {
        ("stack", None): (1, 1, 3),
        ("stack", 1): (0, 1, 1),
        ("stack", 2): (1, 1, 2),
        ("book", None): (0, 1, 2),
        ("book", 1): (0, 1, 1),
        ("book", 2): (0, 1, 2),
        ("all", None): (1, 2, 5),
        ("all", 1): (0, 2, 2),
        ("all", 2): (1, 2, 4),
    }
    row = next(row for row in rows if (row["task"], row["first_tries"]) == ("all", 2))
    assert (row["low"], row["high"]) == pytest.approx((rate(1, 2).low, rate(1, 2).high))


def test_world_models_are_compared_on_seeds_that_all_have(report, facts):
    models = WorldModels(facts)
    assert models.seeds == [0, 1]
    assert models.value(ROLLOUTS, "psnr", "wrist") == 25.5, "mean of 25 and 26"
    assert models.value(PRETRAINED, "fvd", "wrist") == pytest.approx(100 - 2 * 20 + 0.5)
    assert models.events(EXPERT, 0.8) == {"tp": 6, "fn": 2, "tn": 2, "fp": 10}
    assert models.ratio(ROLLOUTS, 0.8) == pytest.approx((2 / 12) / (10 / 12))
    assert models.better("wrist", PRETRAINED) == {key: [True, True] for key in ("psnr", "ssim", "lpips", "fid", "fvd")}
    text = section(report[0], 3)
    assert "FVD ↓ (frechet_judge_clips)" in text, "substitutes keep their names"
    assert "d" * 64 in text, "and are named with their digest"
    assert text.index("Camera wrist") < text.index("Camera exterior_1")
    assert cells(text.partition("P(yes) > 0.8")[2], "+ rollouts (VLAW), 2 per task")[1:] == [
        "6",
        "2",
        "10",
        "2",
        interval(2, 12),
        "12",
        "0.20",
    ]
    recorded = cells(text.partition("P(yes) > 0.8")[2], "the recorded clips themselves")
    assert recorded[1:] == ["6", "2", "10", "2", interval(2, 12), "12", ""], (
        "what the judge gets wrong without any world model"
    )


def test_judge_sums_over_seeds(report):
    text = section(report[0], 4)
    assert cells(text, "ours, P(yes) > 0.8")[1:] == [
        "6",
        "2",
        "2",
        "10",
        interval(6, 8),
        interval(6, 8),
        interval(2, 12),
        "20",
    ]
    assert cells(text, "AUROC")[1] == "0: 0.960, 1: 0.960"


def test_claims_are_computed(facts):
    found = {claim.claim: claim for claim in claims.claims(facts)}
    assert found["VLAW 2 − filtered BC 2"].holds
    assert found["VLAW 2 − base"].holds
    assert found["order of the paper"].holds
    few = found["false positives on interaction events, rollouts against expert-only"]
    assert few.bound == "≤ ⅓, on ≥ 200 negatives"
    assert (few.holds, few.why) == (False, "12 negatives"), "a fifth of the false positives, but on 12 negatives only"
    judge = found["judge at P(yes) > 0.8, on real episodes"]
    assert (judge.holds, judge.why) == (False, "precision, only 20 trajectories")
    imagined = found["judge at P(yes) > 0.8, on imagined episodes"]
    assert imagined.ours == f"precision {interval(6, 8)}, recall {interval(6, 8)}, n = 20"
    assert imagined.why == "precision, only 20 imagined episodes"
    assert found["half the synthetic data loses success"].holds is None


def test_arms_are_told_by_what_their_first_iteration_used(tmp_path):
    k = StudyLake(Lake.open(tmp_path / "lake", create=True))
    k.define([{"recipe": recipe, "seeds": [0], "iterations": 1} for recipe in ("filtered_bc", "vlaw_half_synthetic")])
    policy = k.iterate("filtered_bc", 0, 1, "10001000")
    for recipe, share, iteration in (
        ("filtered_bc", 0.0, 1),
        ("vlaw_half_synthetic", 0.5, 1),
        ("vlaw_half_synthetic", 1.0, 2),
    ):
        settings = {
            "imagine": {"episodes_per_task": 5, "share": share, "world": "world_model"},
            "of": [recipe, iteration],
        }
        k.commit(
            "imagined_rollouts",
            k.key(recipe, 0, iteration),
            "imagined_rollouts",
            settings,
            lambda _: None,
            {"policy": policy},
        )
    with connect(k.lake) as query:
        sql = next(q.sql for q in questions() if q.name == "study_arms")
        rows = {row["recipe"]: row for row in query.table(sql, {"study": "tiny"}).to_pylist()}
    assert (rows["filtered_bc"]["imagined_per_task"], rows["filtered_bc"]["world"]) == (0, None)
    half = rows["vlaw_half_synthetic"]
    assert (half["imagined_per_task"], half["world"], half["iterations"]) == (2, "world_model", 2)


def test_section_0_counts_what_the_ledger_has(report, made, facts):
    text = section(report[0], 0)
    k = made[0]
    refs = [ref for ref in k.lake.ledger.artifacts() if ref.partition.startswith("tiny-")]
    reused = sum(bool(ref.source_artifact_id) for ref in refs)
    assert reused > 0
    assert cells(text, "artifacts made")[1] == str(len(refs) - reused)
    assert cells(text, "artifacts reused")[1] == str(reused)
    assert cells(text, "partitions (recipe × seed × iteration)")[1] == "14"
    assert cells(text, "definition, sha256")[1] == f"`{k.lake.ledger.require('study', 'tiny|00').content_digest}`"
    assert cells(text, "training", "rollout")[3:] == [
        "16",
        "1010",
        "1121",
        "0",
        "0",
    ]  # 2 seeds, 2 iterations, 2 tasks, 2 each
    assert cells(text, "validation", "stopping points")[2:7] == ["2", "4", "7000", "7001", "0"]
    assert "The sets share no start" in text
    assert "oracle simulator †" in text
    assert "VLAW, expert-only" in text
    assert sum(row["seconds"] for row in facts.rows["runs"]) == pytest.approx(
        sum(r.metrics["seconds"] for r in refs if not r.source_artifact_id)
    )


def test_training_on_evaluation_starts_is_shouted(tmp_path):
    k = StudyLake(Lake.open(tmp_path / "lake", create=True))
    k.define([{"recipe": "vlaw", "seeds": [0, 1], "iterations": 1}])
    k.iterate("vlaw", 0, 1, "10001000")
    k.commit(
        "real_rollouts",
        k.key("vlaw", 1, 1),
        "real_rollouts",
        {"of": "bad"},
        lambda draft: draft.write_episodes(
            [episode("stack", EVALUATION + i, success=True) for i in range(3)], purpose="rollout"
        ),
    )
    text = ran.section(facts_of(k.lake, "tiny"))
    assert cells(text, "training", "rollout")[6] == "3"
    assert "**The sets share 3 starts" in text


def test_pictures_lie_beside_the_report_and_the_notes_are_in_it(report):
    text, folder = report
    named = re.findall(r"!\[[^]]+]\(([^)]+)\)", text)
    assert sorted(named) == sorted(f"study/{file.name}" for file in (folder / "study").iterdir())
    assert {"study/success.png", "study/ranks.png", "study/arms_reported.png", "study/calibration.png"} <= set(named)
    assert all((folder / name).read_bytes().startswith(PNG) for name in named)
    assert text.endswith("## Discussion\n\nWhat we think of it.\n")
    assert not re.search(r"\bnan\b", text)
    assert "None" not in text


def test_stops_and_promotions(report):
    text = section(report[0], 8)
    assert cells(text, "VLAW 2", "1")[2:] == ["600", "4", "25.0", "**50.0**", "25.0"]
    assert cells(text, "VLAW", "1")[2:5] == ["2", "policy", "**kept the old one**"]


def test_ranks_name_what_has_no_correlation(report):
    text = section(report[0], 7)
    assert cells(text, "vlaw 1, seed 0")[1:] == [f"{interval(4, 10)} (4/10)", f"{interval(5, 8)} (5/8)"]
    assert cells(text, "base, seed 0")[2] == f"{interval(2, 8)} (2/8)"
    assert "- vlaw 1, seed 1, against the policy before: +0.0 points in the world model, +37.5 on the robot" in text
    assert "Not defined: Pearson's r" in text, "the judge accepts 4 of 10 of every policy"


def test_what_cannot_be_reported_is_said(made, tmp_path):
    k, _ = made
    unknown = vlaw(k, "study", "nothing", "--out", str(tmp_path / "x.md"))
    assert unknown.exit_code == 2
    assert "there is nothing of a study 'nothing'" in unknown.output
    assert "tiny" in unknown.output
    assert not (tmp_path / "x.md").exists()
    assert vlaw(k, "study", "tiny", "--out", str(tmp_path / "x.html")).exit_code == 2
    assert vlaw(k, "vlaw", "first").exit_code == 2
    assert "is not an iteration" in vlaw(k, "vlaw", "first").output


@pytest.mark.slow
def test_every_question_has_rows_and_is_a_macro_too(made, tmp_path):
    k, _ = made
    file = write_catalogue(k.lake, tmp_path / "c.duckdb")
    asked = [question for question in questions() if question.name.startswith("study_")]
    assert {question.name for question in asked} == {f"study_{name}" for name in QUESTIONS}
    with connect(k.lake) as query, duckdb.connect(str(file), read_only=True) as plain:
        for question in asked:
            rows = query.table(question.sql, {"study": "tiny"}).to_pylist()
            assert rows, question.name
            macro = plain.sql(f"FROM {question.name}(p_study := 'tiny')").to_arrow_table().to_pylist()
            assert set(map(repr, macro)) == set(map(repr, rows)), question.name
            assert query.execute(question.sql, {"study": "other"}).fetchall() == [], question.name
