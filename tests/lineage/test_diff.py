"""What differs between two closures, on lakes where the differences were put in by hand."""

from __future__ import annotations

import json

import factories
import pytest
from factories import write_checkpoint
from small_loop import IMAGINED, REAL, TASKS, commit, episodes, foundation, iteration, loop

from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.lineage.differences import difference


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(lake, foundation, vlaw|01, vlaw|02, changed|01): `changed` has another alpha, more steps and other policy
    code."""
    lake = Lake.open(tmp_path_factory.mktemp("diff") / "lake")
    base, first, second = loop(lake)
    changed = iteration(lake, base, {}, "changed|01", alpha=0.75, steps=3, policy_code="code-2")
    return lake, base, first, second, changed


def counts(group):
    return {(row["source"], row["task"], row["outcome"]): row["count"] for row in group["counts"]}


def test_an_artifact_does_not_differ_from_itself_nor_from_a_pointer_to_it(made, vlaw):
    lake, base, first, second, _ = made
    twin = iteration(lake, base, {}, "twin|01")
    assert twin["policy"].source_artifact_id
    for a, b in ((second["policy"], second["policy"]), (first["policy"], twin["policy"])):
        assert difference(lake, a, b)["same"]
    assert "no difference" in vlaw("diff", "policy", "vlaw/01", "twin/1").stdout


def test_recipe_code_threshold_and_members(made):
    lake, _, first, _, changed = made
    found = difference(lake, first["policy"], changed["policy"])
    assert not found["same"]
    assert {(row["key"], row["a"], row["b"]) for row in found["recipe"]} == {
        ("training_set.score.alpha", 0.65, 0.75),
        ("policy.policy.steps", 2, 3),
    }
    assert [(row["asset"], row["a"], row["b"]) for row in found["code"]] == [("policy", "code-1", "code-2")]
    assert [(row["judge_sha256"], row["alpha"]) for row in found["judge"]["a"]] == [
        (first["reward_model"].content_digest, 0.65)
    ]
    assert [(row["judge_sha256"], row["alpha"]) for row in found["judge"]["b"]] == [
        (first["reward_model"].content_digest, 0.75)
    ]
    assert found["world_model"] == {"a": [], "b": []}
    # The score 0.7 is above 0.65 and not above 0.75: one imagined episode per task less. The same episodes were read.
    assert counts(found["members"]["removed"]) == {("imagined", task, "not judged"): 1 for task in TASKS}
    taken = {row["episode_id"] for row in lake.read(first["training_set"]).members().to_pylist()}
    kept = {row["episode_id"] for row in lake.read(changed["training_set"]).members().to_pylist()}
    assert set(found["members"]["removed"]["ids"]) == taken - kept
    assert not found["members"]["added"]["ids"]
    assert not any(group["ids"] for group in found["episodes"].values())
    assert {row["name"] for row in found["artifacts"]["only_b"]} == {"training_set[changed|01]", "policy[changed|01]"}


def test_the_next_iteration_adds_data_and_the_other_way_round_removes_it(made):
    lake, _, first, second, _ = made
    found, back = (
        difference(lake, first["policy"], second["policy"]),
        difference(lake, second["policy"], first["policy"]),
    )
    assert counts(found["episodes"]["added"]) == {
        **{("real", task, outcome): REAL // 2 for task in TASKS for outcome in ("success", "failure")},
        **{("imagined", task, "not judged"): IMAGINED for task in TASKS},
    }
    ids = {
        row["episode_id"]
        for name in ("real_rollouts", "imagined_rollouts")
        for row in lake.read(second[name]).table("episodes").to_pylist()
    }
    assert set(found["episodes"]["added"]["ids"]) == ids == set(back["episodes"]["removed"]["ids"])
    assert not found["episodes"]["removed"]["ids"]
    assert ("policy.seed", 1, 2) in {(row["key"], row["a"], row["b"]) for row in found["recipe"]}, (
        "against its counterpart"
    )
    assert [row["content_sha256"] for row in found["world_model"]["b"]] == [second["world_model"].content_digest]
    assert found["world_model"]["a"] == []
    assert back["members"]["removed"]["counts"] == found["members"]["added"]["counts"]


def test_an_episode_made_again_otherwise_and_another_weight_count_as_changed(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    base = foundation(lake)

    def policy(name, seed, weight):
        real = commit(
            lake,
            "real_rollouts",
            f"{name}|01",
            "real_rollouts",
            {"policy": base["base_policy"]},
            lambda draft: draft.write_episodes(episodes(1, seed=seed), purpose="rollout"),
            force=True,
        )
        rows = [
            {"episode_id": row["episode_id"], "owner": real.owner, "weight": weight, "source": "real"}
            for row in lake.read(real).table("episodes").to_pylist()
        ]
        return commit(
            lake,
            "training_set",
            f"{name}|01",
            "training_set",
            {"real_rollouts": real},
            lambda draft: draft.write_members(rows),
            force=True,
        )

    a, same, b = policy("a", 1, 1.0), policy("same", 1, 1.0), policy("b", 2, 0.5)
    assert difference(lake, a, same)["same"], "made twice, alike"
    found = difference(lake, a, b)
    assert counts(found["episodes"]["changed"]) == {("real", task, "failure"): 1 for task in TASKS}
    assert len(found["members"]["changed"]["ids"]) == len(TASKS)
    assert not found["episodes"]["added"]["ids"]
    assert not found["members"]["removed"]["ids"]


def test_what_a_quarantine_left_out_was_not_read(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    _, first = loop(lake, iterations=1)
    real = first["real_rollouts"]
    ids = lake.read(real).table("episodes")["episode_id"].to_pylist()

    def judge(name, excluded=()):
        def write(draft):
            if excluded:
                draft.leave_out(quarantine.latest(lake))
            count = len(draft.read(real, role="real_rollouts").episodes(frames=False))
            write_checkpoint(draft.checkpoint_dir(), str(count))

        return factories.commit(
            lake, "reward_model", f"{name}|01", {"real_rollouts": real}, write, excluded=excluded, reads=()
        )

    before = judge("before")
    quarantine.add(lake, [ids[0]], why="slipped", by="ada")
    after = judge("after", (ids[0],))
    found = difference(lake, before, after)
    assert found["episodes"]["removed"]["ids"] == [ids[0]]
    assert not found["episodes"]["added"]["ids"]


def test_the_command_names_by_partition_or_id_in_text_and_json(vlaw, made):
    _, base, first, _, changed = made
    shown = vlaw("diff", "policy", "vlaw|01", changed["policy"].artifact_id).stdout
    for text in ("training_set.score.alpha  0.65  0.75", "policy.policy.steps", "code-1", "removed"):
        assert text in shown
    found = json.loads(vlaw("diff", "policy", first["policy"].artifact_id[:20], "changed/01", "--json").stdout)
    assert len(found["members"]["removed"]["ids"]) == len(TASKS)
    other = json.loads(vlaw("diff", "world_model", "pretrained_world_model", "vlaw/1", "--json").stdout)
    assert other["a"]["artifact"] == base["pretrained_world_model"].artifact_id
    result = vlaw("diff", "policy", "vlaw/01", "vlaw/02", "--as-of", "vlaw/01")
    assert result.exit_code == 2, "there is no policy of iteration 02 then"


@pytest.mark.parametrize(
    ("name", "what"),
    [("vlaw/07", "not in the ledger"), ("nothing", "there is no policy 'nothing'"), ("", "there is no policy ''")],
)
def test_unknown_names(vlaw, name, what):
    result = vlaw("diff", "policy", "vlaw/01", name)
    assert result.exit_code == 2
    assert what in result.stderr
