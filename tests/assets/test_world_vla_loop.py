"""World-VLA-Loop at the smallest size: GRPO inside a world model with a reward head, and every answer about what it
imagined meanwhile."""

from __future__ import annotations

import json

import pytest
from every_answer import check_every_answer
from factories import write_recipe
from one_stage import Bench
from smoke_place import smoke_copy, smoke_place

from vlaw_assets.lake.quarantine import add, release
from vlaw_assets.lineage.closure import audit_of, short
from vlaw_assets.lineage.impact import impact
from vlaw_assets.rebuild.staleness import ask, differences
from vlaw_models.checkpoint import load_config
from vlaw_models.errors import VlawError

STAGES = (
    "real_rollouts",
    "reward_model",
    "world_model",
    "imagined_rollouts",
    "reward_scores",
    "training_set",
    "policy",
)
TINY = {"groups": 2, "group_size": 2, "minibatch": 8, "learning_rate": 1e-3, "least_success": 0.0, "most_success": 1.0}
SHARED = {
    "extends": "smoke",
    "iterations": 1,
    "imagine": {"share": 0.0, "num_steps": 8},
    "promotion": {"enabled": False},
}
HEADED = {**SHARED, "world_model": {"reward_weight": 1.0, "state_weight": 1.0, "steps": 2, "batch_size": 2}}
GRPO = {"learner": "grpo", "start": "base", "stops": [1, 2], "validation_per_task": 1}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    smoke_place(tmp_path_factory)
    made = Bench(smoke_copy(tmp_path_factory.mktemp("practice")).root)
    recipe(made, "loop", **HEADED, policy=GRPO, grpo={**TINY, "threshold": 0.1})
    recipe(made, "judged", **SHARED, policy=GRPO, grpo={**TINY, "reward": "judge"})
    on_robot = {**GRPO, "learner": "grpo_on_robot", "start": "previous"}
    recipe(made, "robot", **SHARED, policy=on_robot, grpo_on_robot=TINY)
    return made


def recipe(bench, name, **values):
    write_recipe(bench.recipes, name, None, **values)


def iteration(bench, name):
    return {asset: bench.make(asset, f"{name}|01") for asset in ("loop_state", *STAGES)}


def test_world_vla_loop_runs_and_its_audit_names_what_was_imagined(bench):
    made = iteration(bench, "loop")
    policy = made["policy"]
    assert "reward_heads" in load_config(bench.lake.read(made["world_model"]).checkpoint())
    assert made["imagined_rollouts"].num_rows == 0
    rows = bench.lake.read(policy).table("episodes").to_pylist()
    assert len(rows) == 2 * 2 * 2
    assert {row["purpose"] for row in rows} == {"imagined"}
    assert {row["world_model"] for row in rows} == {made["world_model"].content_digest}
    extra = [json.loads(row["extra_json"]) for row in rows]
    assert [(one["rl_step"], one["group"]) for one in extra] == [(s, g) for s in (1, 2) for g in (0, 0, 1, 1)]
    real = {row["episode_id"] for row in bench.lake.read(made["real_rollouts"]).table("episodes").to_pylist()}
    assert {row["start_episode_id"] for row in rows} <= real
    scores = bench.lake.read(policy).table("reward_scores").to_pylist()
    assert [row["p_success"] for row in scores] == [max(one["rewards"]) for one in extra]
    assert {row["owner"] for row in scores} == {policy.owner}
    assert len(policy.metrics["rl_steps"]) == 2
    assert policy.metrics["losses"]
    assert policy.metrics["stop"] in (1, 2)

    found = audit_of(bench.lake, policy)
    own = [row for row in found["learned"] if row["learner"] == "policy[loop|01]"]
    assert {(row["dataset"], row["source"]) for row in own} == {("policy[loop|01]", "imagined")}
    assert sum(row["count"] for row in own) == len(rows)
    assert short(found).endswith("its own update learned from: 8 imagined")
    assert "8 imagined" in short(found).partition(";")[2]
    check_every_answer(bench.lake, "policy", "loop|01")


def test_an_imagined_episode_reached_the_policy_that_learned_from_it_and_what_follows(bench):
    made = iteration(bench, "loop")
    name = bench.lake.read(made["policy"]).table("episodes").to_pylist()[0]["episode_id"]
    reached = {item.ref.name: item.how for item in impact(bench.lake, name)}
    assert reached["policy[loop|01]"] == "whole"
    assert "training_set[loop|01]" not in reached


def test_what_is_quarantined_of_it_is_not_learned_from_again(bench):
    made = iteration(bench, "loop")["policy"]
    name = bench.lake.read(made).table("episodes").to_pylist()[2]["episode_id"]
    add(bench.lake, [name], why="the world model broke", by="ann")
    try:
        assert any("quarantine" in why for why in asked(bench))
        again = bench.make("policy", "loop|01")
        extra = [json.loads(row["extra_json"]) for row in bench.lake.read(again).table("episodes").to_pylist()]
        assert [(one["rl_step"], one["group"]) for one in extra] == [(1, 0)] * 2 + [(2, 0)] * 2 + [(2, 1)] * 2
        assert asked(bench) == []
    finally:
        release(bench.lake, [name], why="a test", by="ann")
    assert bench.make("policy", "loop|01").content_digest == made.content_digest


def asked(bench) -> list[str]:
    current = bench.lake.ledger.require("policy", "loop|01")
    return list(differences(bench.lake, current, ask(bench.lake, "policy", "loop|01", recipes=bench.recipes)))


@pytest.mark.slow
def test_the_judge_and_the_robot_tell_rewards_too(bench):
    judged = iteration(bench, "judged")
    scores = bench.lake.read(judged["policy"]).table("reward_scores").to_pylist()
    assert {row["judge"] for row in scores} == {judged["reward_model"].content_digest}
    robot = iteration(bench, "robot")["policy"]
    rows = bench.lake.read(robot).table("episodes").to_pylist()
    assert {row["purpose"] for row in rows} == {"rollout"}
    assert all(row["success"] is not None for row in rows)
    real = bench.lake.read(bench.lake.ledger.require("real_rollouts", "robot|01")).table("episodes").to_pylist()
    assert not {(row["task"], row["seed"]) for row in rows} & {(row["task"], row["seed"]) for row in real}
    assert short(audit_of(bench.lake, robot)).endswith("learned from: 8 real")


def test_without_signal_the_policy_stays_and_a_warning_says_so(bench, caplog):
    recipe(bench, "silent", **HEADED, policy=GRPO, grpo={**TINY, "threshold": 0.99, "least_success": 0.1})
    made = iteration(bench, "silent")["policy"]
    assert made.metrics["no_signal"]
    assert "the policy stays as it is" in caplog.text
    base = bench.lake.ledger.require("base_policy", "")
    assert made.location == base.location


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({**SHARED, "policy": GRPO, "grpo": TINY}, "this one has no reward head"),
        ({**HEADED, "policy": GRPO, "grpo": {**TINY, "group_size": 1}}, "grpo.group_size"),
        ({**HEADED, "policy": GRPO, "imagine": {"world": "simulator"}}, "practises in the world model"),
        ({**HEADED, "policy": GRPO, "imagine": {"done_above": 0.5}}, "before they are successes by grpo.threshold"),
        ({**SHARED, "imagine": {"episodes_per_task": 2}, "score": {"labels": "head"}}, "score.labels"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_made(bench, values, says):
    recipe(bench, "wrong", **values)
    with pytest.raises(VlawError, match=says) as caught:
        bench.make("loop_state", "wrong|01")
    assert caught.value.remedy
    assert bench.lake.ledger.current("loop_state", "wrong|01") is None
