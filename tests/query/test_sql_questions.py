"""Every question of `sql/`, asked of a lake whose answers are known by construction (known_lake.py)."""

from __future__ import annotations

import pytest
from asking import ask
from factories import commit, write_checkpoint
from known_lake import known

from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lineage.impact import impact
from vlaw_assets.query import connect
from vlaw_assets.query.questions import questions


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    k = known(Lake.open(tmp_path_factory.mktemp("known") / "lake"))
    with connect(k.lake) as query:
        yield k, query


def picked(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


def test_judge_thresholds(made):
    rows = ask(made[1], "judge_thresholds", step="0.25")
    # v0 0.9 yes, v1 0.6 yes, v2 0.7 no, v3 0.1 no; a verdict is p > threshold
    assert picked(
        rows, "threshold", "clips", "true_positives", "false_positives", "false_negatives", "true_negatives"
    ) == [
        (0.0, 4, 2, 2, 0, 0),
        (0.25, 4, 2, 1, 0, 1),
        (0.5, 4, 2, 1, 0, 1),
        (0.75, 4, 1, 0, 1, 2),
        (1.0, 4, 0, 0, 2, 2),
    ]
    assert picked(rows, "precision", "recall", "false_positive_rate") == [
        (0.5, 1, 1),
        (pytest.approx(2 / 3), 1, 0.5),
        (pytest.approx(2 / 3), 1, 0.5),
        (1, 0.5, 0),
        (None, 0, 0),
    ]
    default = ask(made[1], "judge_thresholds")
    assert [row["threshold"] for row in default] == [round(i / 20, 2) for i in range(21)]
    assert {row["false_positives"] for row in default if row["threshold"] == 0.7} == {0}, "0.7 is not above 0.7"
    assert ask(made[1], "judge_thresholds", task="book") == []


def test_imagined_against_real(made):
    rows = ask(made[1], "imagined_against_real", experiment="vlaw")
    found = {row["task"]: row for row in rows if row["iteration"] == 1}
    assert {task: (r["real_trials"], r["imagined_trials"]) for task, r in found.items()} == {
        "stack": (3, 4),
        "book": (3, 1),
        "all": (6, 5),
    }
    assert found["stack"]["optimism"] == pytest.approx(3 / 4 - 1 / 3)
    assert found["book"]["optimism"] == pytest.approx(0 - 1 / 3)
    assert found["all"]["optimism"] == pytest.approx(3 / 5 - 2 / 6)
    second = {row["task"]: row for row in rows if row["iteration"] == 2}
    assert second["all"]["real_rate"] == pytest.approx(2 / 3)
    assert second["all"]["optimism"] is None, "nothing was imagined in iteration 2"


def test_near_misses(made):
    k, query = made
    rows = ask(query, "near_misses", experiment="vlaw", iteration="1")
    by_name = {k.ids[name]: name for name in k.ids}
    found = {by_name[row["episode_id"]]: row["why"] for row in rows}
    assert found == {
        "r1": "event",
        "r4": "event",  # toppled and half_open; r2 missed_grasp and r5 not_opened did not come far
        "s2": "event",
        "e1": "event",  # toppled in the evaluations
        "v2": "event and score",  # toppled, and 0.7 is 0.1 from 0.8
        "d1": "score",
        "d2": "score",  # 0.85 and 0.75
    }
    assert {row["kind"] for row in rows if row["why"] == "score"} == {"imagined"}
    wide = ask(query, "near_misses", experiment="vlaw", iteration="1", band="0.2", events="missed_grasp")
    assert {by_name[row["episode_id"]] for row in wide} == {"r2", "s0", "v2", "v3", "d0", "d1", "d2", "d4"}


def test_success_per_task_of_the_policy_before_and_after(made):
    rows = ask(made[1], "success_per_task", experiment="vlaw")
    assert picked(rows, "asset", "task", "successes", "trials") == [
        ("start_evaluation", "book", 1, 1),
        ("start_evaluation", "stack", 1, 3),
        ("policy_evaluation", "book", 1, 1),
        ("policy_evaluation", "stack", 2, 3),
    ]
    # Wilson, 1 of 3: centre (1/3 + z2/6) / (1 + z2/3), half width z sqrt(2/27 + z2/36) / (1 + z2/3), z2 = 3.8415
    assert (rows[1]["low"], rows[1]["high"]) == (pytest.approx(0.0615, abs=1e-4), pytest.approx(0.7923, abs=1e-4))


def test_outcomes(made):
    rows = ask(made[1], "outcomes", experiment="vlaw", iteration="1", purpose="rollout")
    assert picked(rows, "task", "outcome", "event", "episodes", "steps", "shortest", "median", "longest") == [
        ("book", "success", "success", 1, 20, 20, 20.0, 20),
        ("book", "failure", "half_open", 1, 20, 20, 20.0, 20),
        ("book", "failure", "not_opened", 1, 20, 20, 20.0, 20),
        ("stack", "success", "success", 1, 10, 10, 10.0, 10),
        ("stack", "failure", "missed_grasp", 1, 10, 10, 10.0, 10),
        ("stack", "failure", "toppled", 1, 10, 10, 10.0, 10),
    ]
    assert picked(ask(made[1], "outcomes", purpose="imagined"), "task", "outcome", "episodes") == [
        ("book", "not judged", 1),
        ("stack", "not judged", 4),
    ]


def test_failures_that_an_imagined_success_started_from(made):
    k, query = made
    judge = k.refs["reward_model 1"].content_digest
    rows = [r for r in ask(query, "imagined_from_failures", experiment="vlaw") if r["judge"] == judge]
    assert picked(rows, "episode_id", "event", "imagined", "imagined_successes", "best_score") == [
        (k.ids["r1"], "toppled", 2, 2, 0.95)
    ], "d4 started from a success"
    every = ask(query, "imagined_from_failures", experiment="vlaw", iteration="1", at_least="0")
    tried = {(r["episode_id"], r["imagined"], r["imagined_successes"]) for r in every if r["judge"] in (judge, None)}
    assert tried == {(k.ids["r1"], 2, 2), (k.ids["r2"], 1, 0), (k.ids["r4"], 1, 0), (k.ids["r5"], 0, 0)}


def test_judge_disagreements(made):
    k, query = made
    rows = ask(query, "judge_disagreements")
    assert picked(rows, "kind", "episode_id") == [("judge against world", k.ids["v1"]), ("two judges", k.ids["d0"])]
    assert {rows[1]["p_a"], rows[1]["p_b"]} == {0.95, 0.2}
    assert picked(ask(query, "judge_disagreements", alpha="0.65"), "episode_id") == [
        (k.ids["v1"],),
        (k.ids["v2"],),
        (k.ids["d0"],),
    ], "0.6 for a success, 0.7 for a failure"


def test_what_an_iteration_keeps_decides_what_counts_as_a_success(tmp_path):
    k = known(Lake.open(tmp_path / "lake"))
    label_episodes(k.lake, [(k.ids["d2"], "failure", "ann", "it topples")])
    k.make("training_set again", {}, partition="vlaw|01", recipe={"score": {"alpha": 0.7}})
    judge = k.refs["reward_model 1"].content_digest
    with connect(k.lake) as query:
        of_stack = [r for r in ask(query, "imagined_against_real") if (r["iteration"], r["task"]) == (1, "stack")]
        assert [r["imagined_rate"] for r in of_stack if r["judge"] == judge] == [1], "0.75 is above 0.7"
        found = [r for r in ask(query, "imagined_from_failures", iteration="1") if r["judge"] == judge]
        tried = {r["episode_id"]: r["imagined_successes"] for r in found}
        assert tried == {k.ids["r1"]: 2, k.ids["r2"]: 1}
        assert k.ids["d2"] in {r["episode_id"] for r in ask(query, "label_disagreements") if r["against"] == "judge"}
        assert k.ids["d2"] in {r["episode_id"] for r in ask(query, "judge_disagreements")}
        assert k.ids["d1"] not in {r["episode_id"] for r in ask(query, "near_misses")}, "0.85 is far from 0.7"
        for name in ("judge_disagreements", "label_disagreements"):
            assert k.ids["d2"] not in {r["episode_id"] for r in ask(query, name, alpha="0.8")}


def test_cost_of_success(made):
    k, query = made
    first, second = ask(query, "cost_of_success", experiment="vlaw")
    assert (first["iteration"], first["rollouts"]) == (1, 6)
    assert first["rollout_minutes"] == pytest.approx(90 / 5 / 60), "3 episodes of 10 steps and 3 of 20"
    assert first["robot_minutes"] == pytest.approx((90 + 40 + 40 + 40) / 5 / 60), "clips and two evaluations of 4 x 10"
    assert (first["before"], first["after"], first["points"]) == (0.5, 0.75, 25)
    assert first["minutes_per_point"] == pytest.approx(0.3 / 25)
    spent = [ref.metrics["seconds"] for ref in k.lake.ledger.artifacts() if ref.partition == "vlaw|01"]
    assert min(spent) > 0
    assert first["compute_seconds"] == pytest.approx(sum(spent))
    assert first["seconds_per_point"] == pytest.approx(sum(spent) / 25)
    assert (second["iteration"], second["rollouts"], second["points"], second["minutes_per_point"]) == (
        2,
        3,
        None,
        None,
    )
    shared = ask(query, "cost_of_success", experiment="other")
    assert [row["rollouts"] for row in shared] == [6], "what is shared was needed by both"
    assert ask(query, "cost_of_success", experiment="vlaw", hz="10")[0]["rollout_minutes"] == pytest.approx(0.15)


def test_duplicates(made):
    k, query = made
    pair = sorted([k.ids["r0"], k.ids["q0"]])
    rows = ask(query, "duplicates")
    assert picked(rows, "place", "experiment", "iteration", "copies", "episode_ids") == [
        ("dataset training_set", "vlaw", 2, 2, pair),
        ("rollouts", "vlaw", None, 2, pair),
    ]
    assert ask(query, "duplicates", experiment="other") == []


def test_data_changes(made):
    rows = ask(made[1], "data_changes", experiment="vlaw", iteration_a="1", iteration_b="2")
    assert picked(rows, "source", "task", "change", "episodes", "weight_a", "weight_b") == [
        ("imagined", "stack", "kept", 1, 1, 1),
        ("imagined", "stack", "removed", 3, 2, 0),
        ("real", "book", "removed", 1, 1, 0),
        ("real", "stack", "added", 2, 0, 2),
        ("real", "stack", "reweighted", 1, 1, 2),
    ]
    same = ask(made[1], "data_changes", experiment="vlaw", iteration_a="1", iteration_b="1")
    assert {row["change"] for row in same} == {"kept"}


def test_dataset_members(made):
    rows = ask(made[1], "dataset_members", experiment="vlaw", iteration="1")
    assert picked(rows, "source", "task", "episodes", "used", "weight") == [
        ("imagined", "stack", 4, 3, 3),
        ("real", "book", 1, 1, 1),
        ("real", "stack", 1, 1, 1),
    ]


def test_paired_outcomes(made):
    rows = ask(made[1], "paired_outcomes", experiment_a="vlaw", iteration_a="0", experiment_b="vlaw", iteration_b="1")
    assert picked(rows, "task", "trials", "both", "only_a", "only_b", "neither", "difference") == [
        ("book", 1, 1, 0, 0, 0, 0),
        ("stack", 3, 0, 1, 2, 0, pytest.approx(1 / 3)),
        ("all", 4, 1, 1, 2, 0, 0.25),
    ]
    assert (
        ask(made[1], "paired_outcomes", experiment_a="vlaw", iteration_a="0", experiment_b="no", iteration_b="1") == []
    )


def test_world_model_quality(made):
    rows = ask(made[1], "world_model_quality", metric="psnr")
    assert picked(rows, "iteration", "value", "change") == [(1, 20.0, None), (2, 21.5, 1.5)]


def test_policies(made):
    k, query = made
    base, one = ask(query, "policies")[0], ask(query, "policies", experiment="vlaw")[0]
    assert (base["asset"], base["real_episodes"], base["trials"], base["success"]) == ("base_policy", None, 4, 0.5)
    assert (one["real_episodes"], one["imagined_episodes"], one["trials"], one["success"]) == (2, 3, 4, 0.75)
    assert (one["judge"], one["world_model"]) == tuple(
        k.refs[name].content_digest for name in ("reward_model 1", "world_model 1")
    )
    assert one["code_revision"] == "abc123"


def test_episode_lineage(made):
    k, query = made
    rows = ask(query, "episode_lineage", episode_id=k.ids["d0"])
    said = {ref.artifact_id: name for name, ref in k.refs.items()}
    found = [(row["step"], said[row["artifact_id"]], row["detail"]) for row in rows if row["partition"] != "other|01"]
    judge = k.refs["reward_model 1"].content_digest[:12]
    assert found == [
        ("real start", "real_rollouts 1", "toppled"),
        ("policy that acted in the start", "base_policy", None),
        ("policy that acted", "base_policy", None),
        ("world model it was imagined in", "world_model 1", None),
        ("the episode", "imagined_rollouts 1", "imagined"),
        ("scored", "reward_scores 1", f"p_success = 0.95, judge {judge}"),
        ("member", "training_set 1", "imagined, weight 1.0"),
        ("member", "training_set 2", "imagined, weight 1.0"),
        ("learned from", "policy 1", "imagined"),
    ]
    real = ask(query, "episode_lineage", episode_id=k.ids["r1"])
    assert {row["episode_id"] for row in real if row["step"] == "imagined from it"} == {k.ids["d0"], k.ids["d1"]}
    weightless = ask(query, "episode_lineage", episode_id=k.ids["d2"])
    assert not [row for row in weightless if row["step"].startswith("learned")], "weight 0 teaches nothing"


def test_impact_is_by_rows(made):
    k, query = made

    def reached(name):
        rows = ask(query, "impact", episode_id=k.ids[name])
        return {(row["asset"], row["partition"]): (row["how"], row["rows"]) for row in rows}

    assert reached("r5") == {("real_rollouts", "vlaw|01"): ("rows", 1), ("real_rollouts", "other|01"): ("rows", 1)}
    started = reached("r4")  # d3 started from it: imagined and scored twice, not in a dataset
    assert started.keys() - reached("r5").keys() == {
        ("imagined_rollouts", "vlaw|01"),
        ("reward_scores", "vlaw|01"),
        ("reward_scores", "other|01"),
    }
    assert {how for how, _ in started.values()} == {"rows"}
    member = reached("r3")
    assert member["training_set", "vlaw|01"] == ("rows", 1)
    assert member["policy", "vlaw|01"] == member["policy_evaluation", "vlaw|01"] == ("whole", None)
    assert reached("r0")["training_set", "vlaw|01"] == ("rows", 2), "itself and d4, imagined from it"
    weights = ask(query, "impact", episode_id=k.ids["r0"])
    assert {(r["partition"], r["weight_as_member"]) for r in weights if r["asset"] == "training_set"} == {
        ("vlaw|01", 1.0),
        ("vlaw|02", 2.0),
    }


def test_impact_agrees_with_the_command(made):
    k, query = made
    for name, episode_id in k.ids.items():
        wanted = {(r.ref.artifact_id, r.how, None if r.how == "whole" else r.rows) for r in impact(k.lake, episode_id)}
        rows = ask(query, "impact", episode_id=episode_id)
        holders = {
            row[0]
            for row in query.execute(
                "SELECT artifact_id FROM episodes WHERE episode_id = $id", {"id": episode_id}
            ).fetchall()
        }
        assert {(r["artifact_id"], r["how"], r["rows"]) for r in rows if r["artifact_id"] not in holders} == wanted, (
            name
        )


def test_closure_of_a_policy(made):
    k, query = made
    rows = ask(query, "closure", experiment="vlaw", iteration="1")
    assert picked(rows, "asset", "partition") == [
        ("base_policy", ""),
        ("world_model", "vlaw|01"),
        ("reward_model", "vlaw|01"),
        ("real_rollouts", "vlaw|01"),
        ("imagined_rollouts", "vlaw|01"),
        ("reward_scores", "vlaw|01"),
        ("training_set", "vlaw|01"),
        ("policy", "vlaw|01"),
    ]
    assert [row["artifact_id"] for row in rows][-1] == k.refs["policy 1"].artifact_id


def test_quarantined(tmp_path):
    k = known(Lake.open(tmp_path / "lake"))
    bad = k.ids["r4"]
    with connect(k.lake) as query:
        assert ask(query, "quarantined") == []
    quarantine.add(k.lake, [bad], why="the camera had slipped", by="ada")
    with connect(k.lake) as query:
        rows = ask(query, "quarantined")
        assert {(row["episode_id"], row["why"], row["by"]) for row in rows} == {(bad, "the camera had slipped", "ada")}
        reached = [row for row in ask(query, "impact", episode_id=bad) if row["is_current"]]
        assert picked(rows, "asset", "partition", "how", "artifact_id") == picked(
            reached, "asset", "partition", "how", "artifact_id"
        )
        assert len(rows) == 5
        assert ask(query, "quarantined", episode_id="nobody") == []
    without = made_after(k, "world_model", excluded=(bad, k.ids["d3"]))
    naive = made_after(k, "reward_model", excluded=())
    with connect(k.lake) as query:
        found = {row["artifact_id"] for row in ask(query, "quarantined")}
        assert naive in found, "it read every rollout"
        assert without not in found, "it left the episode out"
        wanted = {r.ref.artifact_id for r in impact(k.lake, bad)}
        assert found - wanted == {k.refs["real_rollouts 1"].artifact_id}
        assert wanted <= found | {r["artifact_id"] for r in ask(query, "impact", episode_id=bad) if not r["is_current"]}
    quarantine.release(k.lake, [bad], why="it had not", by="ada")
    with connect(k.lake) as query:
        assert ask(query, "quarantined") == []


def made_after(k, asset, excluded):
    """An artifact of iteration 2 that read all rollouts of iteration 1, but for those excluded; its id."""

    def write(draft):
        if excluded:
            draft.leave_out(quarantine.latest(k.lake))
        write_checkpoint(draft.checkpoint_dir())

    real = {"real": k.refs["real_rollouts 1"]}
    return commit(k.lake, asset, "vlaw|02", real, write, code="code-2", excluded=excluded).artifact_id


def test_import_faults(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    found = [(3, 7, "row_spacing", "excluded"), (3, 9, "row_spacing", "excluded"), (4, None, "no_label", "keep")]

    def write(draft):
        draft.write_findings(
            [
                {"episode": episode, "row": row, "rule": rule, "value": f"row {row}", "decision": decision}
                for episode, row, rule, decision in found
            ]
        )

    commit(lake, "recorded_episodes", "cups|00", write=write)
    with connect(lake) as query:
        rows = ask(query, "import_faults")
        assert [tuple(row.values()) for row in rows] == [
            ("cups", "row_spacing", "excluded", 2, 1, 3, "row 7"),
            ("cups", "no_label", "keep", 1, 1, 4, "row None"),
        ]
        assert [row["rule"] for row in ask(query, "import_faults", decision="keep")] == ["no_label"]
        assert ask(query, "import_faults", dataset="plates") == []


def test_every_question_says_what_it_asks_and_which_parameters(made):
    for question in questions():
        assert question.text.endswith("?"), question.name
        explained = question.explained.replace(",", " ").replace("(", " ").replace(";", " ").replace(".", " ").split()
        assert set(question.parameters) <= set(explained), question.name
        made[1].table(question.sql)
