"""Episodes in quarantine count nowhere: every door that shows a number leaves them out and says how many."""

from __future__ import annotations

import json
import re

import pytest
from asking import ask, at
from smoke_place import smoke_copy, smoke_place

from vlaw_assets.lake import quarantine
from vlaw_assets.query import connect

KEY = "smoke|01"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A smoke run with one trial of the evaluation and one real rollout in quarantine."""
    smoke_place(tmp_path_factory)
    place = smoke_copy(tmp_path_factory.mktemp("counted") / "place")
    quarantine.add(place.lake, [episode(place, "policy_evaluation"), imagined_from(place)], why="test", by="me")
    return place


def episode(place, asset):
    return place.lake.read(place.lake.ledger.require(asset, KEY)).table("episodes")["episode_id"][0].as_py()


def imagined_from(place):
    """A real rollout from whose first frame something was imagined."""
    made = place.lake.read(place.lake.ledger.require("imagined_rollouts", KEY)).table("episodes")
    real = place.lake.read(place.lake.ledger.require("real_rollouts", KEY)).table("episodes")["episode_id"].to_pylist()
    return next(name for name in made["start_episode_id"].to_pylist() if name in real)


@pytest.fixture
def vlaw(place, monkeypatch, tmp_path):
    """What a command prints."""
    run = at(monkeypatch, tmp_path, place.environment())
    return lambda *arguments: run(*arguments, code=0).output


def test_status_and_the_closing_table(place, vlaw, capsys):
    row = next(row for row in json.loads(vlaw("status", "--json")) if row["partition"] == KEY)
    assert row["after"].endswith(", 1 left out")
    assert "left out" not in row["before"]
    from vlaw_assets.cli.run import close

    close(place.lake, "smoke", 1, 1.0)
    assert "left out, being in quarantine: 1 trial of after 01" in capsys.readouterr().out


@pytest.mark.slow
def test_the_report_and_the_audit(place, vlaw, tmp_path):
    vlaw("report", "smoke", "1", "--out", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "left out, being in quarantine: 1 trial of after 01" in page
    known = next(
        item
        for item in json.loads(vlaw("audit", "policy", "smoke", "1", "--json"))["metrics"]
        if item["asset"] == "policy_evaluation"
    )
    assert (known["left_out"], known["trials"]) == (1, 3)
    handle = place.lake.counted(place.lake.ledger.require("policy_evaluation", KEY))
    successes = [row["success"] for row in handle.table("episodes").to_pylist()]
    assert known["figures"]["success all"] == pytest.approx(sum(successes) / 3)


def test_every_question_that_counts_trials(place):
    with connect(place.lake) as query:
        rows = [row for row in ask(query, "success_per_task") if row["asset"] == "policy_evaluation"]
        assert (sum(row["trials"] for row in rows), sum(row["left_out"] for row in rows)) == (3, 1)
        row = next(row for row in ask(query, "policies") if row["asset"] == "policy")
        assert (row["trials"], row["left_out"]) == (3, 1)
        pairs = next(
            row
            for row in ask(
                query, "paired_outcomes", experiment_a="smoke", iteration_a=0, experiment_b="smoke", iteration_b=1
            )
            if row["task"] == "all"
        )
        assert (pairs["trials"], pairs["left_out"]) == (3, 1)
        assert ask(query, "cost_of_success")[0]["left_out"] == 1
        ended = ask(query, "outcomes")
        assert sum(row["left_out"] for row in ended if row["purpose"] == "evaluation") == 1
        real = next(row for row in ask(query, "imagined_against_real") if row["task"] == "all")
        assert real["left_out"] >= 1
        marked = query.table("SELECT * FROM evaluations WHERE quarantined_trials > 0").to_pylist()
        assert {(row["asset"], row["metric"]) for row in marked} == {("policy_evaluation", "success_rate")}
        assert {row["task"] for row in marked} > {"all"}
        bad = query.table("SELECT count(*) FILTER (WHERE quarantined) AS bad FROM episodes").to_pylist()[0]["bad"]
        assert bad == len(quarantine.in_force(place.lake)) > 2, "and what was imagined from the rollout"


def test_similar_has_no_neighbour_in_quarantine(place, vlaw):
    gone = imagined_from(place)
    others = [
        name
        for name in place.lake.read(place.lake.ledger.require("real_rollouts", KEY))
        .table("episodes")["episode_id"]
        .to_pylist()
        if name != gone
    ]
    found = json.loads(vlaw("similar", others[0], "-k", "50", "--json"))
    assert found["left_out"] >= 1
    assert not set(quarantine.in_force(place.lake)) & {item["episode_id"] for item in found["neighbours"]}
    assert re.search(r"\d+ left out, being in quarantine", vlaw("similar", others[0]))


@pytest.mark.slow
def test_a_rebuilt_iteration_report_leaves_them_out_too(place, vlaw):
    place.run("iteration", KEY, only=["iteration_report"])
    ref = place.lake.ledger.require("iteration_report", KEY)
    folder = place.lake.read(ref).checkpoint()
    said = json.loads((folder / "report.json").read_text())
    assert said["left_out"] == {"before": 0, "after": 1}
    assert said["success"]["after"]["all"][1] == 3
    assert "in quarantine: 1 trial of after" in (folder / "report.md").read_text()


def test_as_of_before_nothing_is_left_out(place, vlaw):
    first = next(ref for ref in place.lake.ledger.artifacts() if ref.asset == "quarantine")
    moment = f"#{place.lake.ledger.sequence(first.artifact_id) - 1}"
    row = next(row for row in json.loads(vlaw("status", "--json", "--as-of", moment)) if row["partition"] == KEY)
    assert "left out" not in row["after"]
    with connect(place.lake, as_of=moment) as query:
        assert query.table("SELECT count(*) AS n FROM episodes WHERE quarantined").to_pylist()[0]["n"] == 0
