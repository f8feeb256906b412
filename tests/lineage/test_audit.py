"""The audit: counts against a lake whose answers are known, that it opens no data file, the tree, the page,
verification."""

from __future__ import annotations

import json
import re

import asking
import pytest
from small_loop import ACCEPTED, ALPHA, EXPERT, IMAGINED, LAMBDA, REAL, TASKS, commit, episodes, iteration, loop

from vlaw_assets.lake import Lake
from vlaw_assets.lake import contents as counting
from vlaw_assets.lineage.closure import audit_of, short, subject
from vlaw_models.errors import VlawError

# ---- contents


def test_contents_are_counted_at_the_commit_and_the_same_when_counted_again(made):
    lake, (_, first, _) = made
    for ref in lake.ledger.artifacts():
        assert json.loads(ref.contents_json) == counting.recounted(lake, ref), ref.name
    held = {
        name: counting.contents_of(lake, first[name])
        for name in ("real_rollouts", "training_set", "reward_scores", "policy")
    }
    assert {name: set(found) for name, found in held.items()} == {
        "policy": {"reads"},
        "real_rollouts": {"episodes"},
        "training_set": {"members", "reads"},
        "reward_scores": {"scores", "reads"},
    }
    assert held["real_rollouts"]["episodes"] == [
        {"purpose": "rollout", "task": task, "outcome": outcome, "count": REAL // 2, "steps": REAL // 2 * 2}
        for task in sorted(TASKS)
        for outcome in ("failure", "success")
    ]
    assert held["training_set"]["members"] == [
        *(
            {"source": "imagined", "task": task, "outcome": "not judged", "count": ACCEPTED, "weight": 1.0}
            for task in sorted(TASKS)
        ),
        *(
            {"source": "real", "task": task, "outcome": "success", "count": REAL // 2, "weight": 1.0}
            for task in sorted(TASKS)
        ),
    ]
    read = [
        (row["role"], row["source"], row["task"], row["outcome"], row["weight"], row["count"])
        for row in held["policy"]["reads"]
    ]
    assert sorted(read) == sorted(
        [
            *(("imagined_rollouts", "imagined", task, "not judged", 1.0, ACCEPTED) for task in TASKS),
            *(
                ("imagined_rollouts", "", task, "not judged", 0.0, IMAGINED - ACCEPTED) for task in TASKS
            ),  # read, and no members
            *(("real_rollouts_01", "real", task, "success", 1.0, REAL // 2) for task in TASKS),
            *(("real_rollouts_01", "", task, "failure", 0.0, REAL // 2) for task in TASKS),
        ]
    )
    (scores,) = held["reward_scores"]["scores"]
    assert (scores["count"], scores["judge"]) == (IMAGINED * len(TASKS), first["reward_model"].content_digest)
    assert scores["mean"] == pytest.approx(sum((n + 1) / 10 for n in range(IMAGINED)) / IMAGINED)


def test_weights_and_members_nobody_knows_are_counted_apart(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    real = commit(
        lake,
        "real_rollouts",
        "vlaw|01",
        "real_rollouts",
        {},
        lambda draft: draft.write_episodes(episodes(1, seed=0), purpose="rollout"),
    )
    ids = lake.read(real).table("episodes")["episode_id"].to_pylist()
    members = [
        {"episode_id": name, "owner": real.owner, "weight": weight, "source": "real"}
        for name, weight in ((ids[0], 0.5), (ids[1], 0.0), ("elsewhere", 1.0))
    ]
    ref = commit(
        lake,
        "training_set",
        "vlaw|01",
        "training_set",
        {"real_rollouts": real},
        lambda draft: draft.write_members(members),
    )
    rows = [
        (row["task"], row["outcome"], row["weight"], row["count"]) for row in counting.contents_of(lake, ref)["members"]
    ]
    assert rows == [("?", "not judged", 1.0, 1), ("book", "failure", 0.0, 1), ("stack", "failure", 0.5, 1)]


# ---- the closure


def test_the_closure_has_every_digest_and_count(made):
    lake, (base, first, second) = made
    found = audit_of(lake, second["policy"])
    expected = {
        ref.artifact_id: ref
        for ref in (*base.values(), *first.values(), *second.values())
        if ref.asset not in ("world_model_metrics", "policy_evaluation")
    }
    assert {item["artifact"] for item in found["artifacts"]} == set(expected)
    for item in found["artifacts"]:
        ref = expected[item["artifact"]]
        assert (item["content_sha256"], item["code_sha256"], item["recipe_sha256"], item["parents_sha256"]) == (
            ref.content_digest,
            ref.code_digest,
            ref.recipe_digest,
            ref.parents_digest,
        )
        assert (item["run_id"], item["code_revision"], item["created_at"]) == (
            ref.run_id,
            "abc123",
            ref.created_at.isoformat(),
        )
        assert item["versions"] == {
            name: {
                "version": entry["version"],
                "rows": entry["rows"],
                "files": len(entry["files"]),
                "bytes": sum(file["size"] for file in entry["files"]),
            }
            for name, entry in ref.versions.items()
        }
    assert found["run_id"] == "run-2"
    by_source = {}
    for row in found["episodes"]:
        by_source[row["source"]] = by_source.get(row["source"], 0) + row["count"]
    assert by_source == {"expert": EXPERT * 2, "real": 2 * REAL * 2, "imagined": 2 * IMAGINED * 2}
    place = {item["artifact"]: number for number, item in enumerate(found["artifacts"])}
    assert all(
        place[edge["artifact"]] < place[item["artifact"]] for item in found["artifacts"] for edge in item["parents"]
    )
    assert "stands on 18 artifacts" in short(found)


def test_what_each_model_learned_from_has_sources_and_weights(made):
    lake, (_, _, second) = made
    found = audit_of(lake, second["policy"])
    learned = {}
    for row in found["learned"]:
        key = row["learner"], row["source"], row["weight"]
        learned[key] = learned.get(key, 0) + row["count"]
    assert learned == {
        **{(f"world_model[vlaw|0{n}]", "expert", LAMBDA): EXPERT * 2 for n in (1, 2)},
        **{(f"world_model[vlaw|0{n}]", "real", 1.0): REAL * 2 for n in (1, 2)},
        **{(f"reward_model[vlaw|0{n}]", "real", 1.0): REAL * 2 for n in (1, 2)},
        **{(f"policy[vlaw|0{n}]", "real", 1.0): REAL // 2 * 2 for n in (1, 2)},
        **{(f"policy[vlaw|0{n}]", "imagined", 1.0): ACCEPTED * 2 for n in (1, 2)},
    }


def test_judge_threshold_and_metrics_known_at_the_time(made):
    lake, (_, first, second) = made
    found = audit_of(lake, second["policy"])
    assert [
        (row["training_set"], row["judge_artifact"], row["judge_sha256"], row["alpha"], row["accepted"])
        for row in found["judges"]
    ] == [
        (
            f"training_set[vlaw|0{n}]",
            it["reward_model"].artifact_id,
            it["reward_model"].content_digest,
            ALPHA,
            ACCEPTED * 2,
        )
        for n, it in ((1, first), (2, second))
    ]
    assert [(row["asset"], row["partition"], row["measures"], row["figures"]) for row in found["metrics"]] == [
        row
        for n in (1, 2)
        for row in (
            ("policy_evaluation", f"vlaw|0{n}", [f"policy[vlaw|0{n}]"], {"success stack": 0.5, "success all": 0.25}),
            ("world_model_metrics", f"vlaw|0{n}", [f"world_model[vlaw|0{n}]"], {"psnr": 20.0 + n}),
        )
    ]
    # Of the first policy nothing later was known; its own evaluation counts, being of its iteration.
    assert {row["artifact"] for row in audit_of(lake, first["policy"])["metrics"]} == {
        first["world_model_metrics"].artifact_id,
        first["policy_evaluation"].artifact_id,
    }


def test_no_data_file_is_opened(made, monkeypatch):
    lake, (_, _, second) = made
    fresh = Lake.open(lake.paths.root, create=False)
    fresh.ledger.artifacts()
    fresh.ledger.edge_rows(second["policy"].artifact_id)
    monkeypatch.setattr(type(fresh.tables), "read", lambda *_: pytest.fail("a data file was read"))
    assert audit_of(fresh, second["policy"])["artifacts"]


def test_quarantine_in_force_says_what_touches_the_closure(tmp_path):
    from vlaw_assets.lake import quarantine

    lake = Lake.open(tmp_path / "lake")
    made = loop(lake, iterations=1)
    other = commit(
        lake,
        "real_rollouts",
        "other|01",
        "real_rollouts",
        {},
        lambda draft: draft.write_episodes(episodes(1, seed=99), purpose="rollout"),
        recipe={"other": 1},
    )
    inside, outside = (
        lake.read(ref).table("episodes")["episode_id"][0].as_py() for ref in (made[1]["real_rollouts"], other)
    )
    assert audit_of(lake, made[1]["policy"])["quarantine"] == []
    quarantine.add(lake, [inside, outside], why="the camera slipped", by="ada")
    rows = audit_of(lake, made[1]["policy"])["quarantine"]
    assert {row["episode_id"]: (row["in_closure"], row["why"], row["by"]) for row in rows} == {
        inside: (True, "the camera slipped", "ada"),
        outside: (False, "the camera slipped", "ada"),
    }


# ---- the command


def test_the_tree_has_a_level_per_iteration_and_expands_each_artifact_once(vlaw, made):
    shown = vlaw("audit", "policy", "vlaw", "2").stdout
    tree = shown.partition("\n\n")[0]
    assert re.findall(r"^[├└]── (.*)$", tree, re.MULTILINE) == [
        "vlaw, iteration 02",
        "vlaw, iteration 01",
        "foundation",
    ]
    lake, (_, _, second) = made
    for item in audit_of(lake, second["policy"])["artifacts"]:
        nodes = [line for line in tree.splitlines()[1:] if item["content_sha256"][:12] in line]
        assert len(nodes) == 1, item["asset"]
    assert re.search(
        r"policy\[vlaw\|02\] +imagined_rollouts\[vlaw\|02\] +training_set\[vlaw\|02\] +imagined +1 +2 +2 +4\b", shown
    )
    assert re.search(r"world_model\[vlaw\|01\] +co_training_data +expert +0\.5 +1/2 +1/2 +2/4", shown)
    assert re.search(r"training_set\[vlaw\|01\] +reward_model\[vlaw\|01\] +\w{12} +0\.65 +16 +0\.450 +4", shown)


def test_any_asset_also_of_the_foundation_and_as_of_a_moment(vlaw, made):
    _, (base, first, _) = made
    assert json.loads(vlaw("audit", "autoencoder", "--json").stdout)["artifact"] == base["autoencoder"].artifact_id
    assert (
        json.loads(vlaw("audit", "world_model", "vlaw", "1", "--json").stdout)["artifact"]
        == first["world_model"].artifact_id
    )
    result = vlaw("audit", "policy", "vlaw", "2", "--as-of", "vlaw|01")
    assert result.exit_code == 2
    assert "not in the ledger" in result.stderr
    then = json.loads(
        vlaw("audit", "world_model", "vlaw", "1", "--as-of", first["world_model"].artifact_id, "--json").stdout
    )
    assert then["metrics"] == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("policy", "vlaw"), "needs both names"),
        (("polici", "vlaw", "1"), "not in the ledger"),
        (("policy", "vlaw", "9"), "use one of: policy[vlaw|01], policy[vlaw|02]"),
        (("policy", "nobody", "1"), "there is no experiment 'nobody'"),
        (("policy", "vlaw", "11"), "there is no iteration 11"),
        (("policy",), "not in the ledger"),
    ],
)
def test_unknown_names_are_said(vlaw, arguments, what):
    result = vlaw("audit", *arguments)
    assert result.exit_code == 2
    assert what in result.stderr.replace("\n", " ")


def test_verify_counts_what_it_hashed_and_names_every_damage(tmp_path, monkeypatch):
    lake = Lake.open(tmp_path / "lake")
    made = loop(lake, iterations=1)
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    result = asking.vlaw("audit", "policy", "vlaw", "1", "--verify", "--json")
    assert result.exit_code == 0, result.output
    verified = json.loads(result.stdout)["verified"]
    assert verified["problems"] == []
    assert verified["files"] > 40
    assert verified["bytes"] > 10_000
    scores = lake.paths.root / made[1]["reward_scores"].versions["reward_scores"]["files"][0]["path"]
    data = scores.read_bytes()
    scores.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (lake.paths.root / made[0]["base_policy"].location / "config.json").unlink()
    result = asking.vlaw("audit", "policy", "vlaw", "1", "--verify")
    assert result.exit_code == 2
    assert scores.name in result.output
    assert "config.json" in result.output


def test_a_pointer_is_audited_as_what_it_points_at(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    base, first = loop(lake, iterations=1)
    twin = iteration(lake, base, {}, "twin|01")
    assert twin["policy"].source_artifact_id == first["policy"].artifact_id
    found = audit_of(lake, subject(lake, "policy", "twin", 1))
    assert (found["partition"], found["owner"]) == ("twin|01", first["policy"].artifact_id)
    assert found["artifacts"] == audit_of(lake, first["policy"])["artifacts"]
    with pytest.raises(VlawError):
        subject(lake, "policy", "twin", 2)


def test_a_damaged_ledger_is_named_before_anything_is_believed(tmp_path, monkeypatch):
    lake = Lake.open(tmp_path / "lake")
    ref = commit(
        lake,
        "base_policy",
        "",
        "policy",
        {},
        lambda draft: draft.write_episodes(episodes(1, seed=0), purpose="rollout"),
    )
    commit(lake, "autoencoder", "", "policy", {}, lambda draft: draft.set_metrics({}), recipe={"other": 1})
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    row = min(lake.paths.table("artifacts").glob("*.parquet"))
    data = row.read_bytes()
    for damaged in (data[: len(data) // 2], data[:100] + bytes([data[100] ^ 1]) + data[101:]):
        row.write_bytes(damaged)
        result = asking.vlaw("audit", ref.asset, "--verify")
        assert result.exit_code == 2
        assert row.name in result.output.replace("\n", "")
    row.write_bytes(data)
    assert asking.vlaw("audit", ref.asset, "--verify").exit_code == 0
