"""Every answer about what was read is what the raw tables say: on random ledgers, on lakes known by construction, on
smoke runs."""

from __future__ import annotations

import html
import re
from collections import Counter

import numpy as np
import pytest
from asking import at, vlaw
from every_answer import check_every_answer
from factories import checkpoint, commit, write_toml
from random_ledgers import closed, random_ledger
from small_loop import loop
from smoke_place import new_place, smoke_copy, smoke_place

from vlaw_assets.lake import Lake, labels, quarantine
from vlaw_assets.lake.artifact import CHOSEN_BY
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lake.reads import rows_read
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.lineage.differences import difference
from vlaw_assets.recipes import document_of, recipe_files

# ---- the one rule, against following every row


def by_hand(lake, child):
    """{(parent, role, episode): weight} of a random ledger's artifact (see random_ledgers.py)."""
    edges = lake.edges_of[child]
    gone = {name for edge in edges if edge.role == "quarantine" for name in closed(lake, lake.lists[edge.parent])}
    sets = [
        edge.parent
        for edge in edges
        if edge.role != "quarantine" and any(row[0] == "members" for row in lake.rows[edge.parent])
    ]
    found = {}
    for edge in edges:
        for table, _, key, _ in lake.rows[edge.parent] if edge.role != "quarantine" else ():
            if table != "episodes" or key[1] in gone:
                continue
            if edge.scope == "rows":
                taken = any(
                    named and named[1] == key[1] and named[0] in (None, key[0]) for _, named, _, _ in lake.rows[child]
                )
            elif edge.selection == "members":
                taken = any(named == key and weight > 0 for _, named, _, weight in lake.rows[edge.selection_id])
            else:
                taken = edge.selection == "all" or (edge.parent, key[1]) in lake.listed[child]
            if taken:
                weights = [weight for name in sets for _, named, _, weight in lake.rows[name] if named == key]
                found[edge.parent, edge.role, key[1]] = max(weights, default=0.0) if sets else 1.0
    return found


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_random_ledgers_agree_with_following_every_row(tmp_path, count):
    answers = Counter()
    for seed in range(count):
        folder = tmp_path / str(seed)
        folder.mkdir()
        lake = random_ledger(np.random.default_rng(1000 + seed), folder)
        for ref in lake.refs:
            if ref.source_artifact_id:
                continue
            found = {
                (row["parent_id"], row["role"], row["episode_id"]): row["weight"] for row in rows_read(lake, [ref])
            }
            assert found == by_hand(lake, ref.artifact_id), (seed, ref.artifact_id)
            answers[ref.asset] += bool(found)
    assert min(answers[asset] for asset in ("imagined", "scores", "dataset", "model")) > count / 7


# ---- every door, against the raw tables


@pytest.fixture
def small(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    loop(lake)
    return lake


@pytest.mark.slow
def test_a_small_loop(small):
    """The last iteration, which reads the one before, and a part of the foundation."""
    for ref in small.ledger.artifacts():
        if ref.partition == "vlaw|02" or ref.asset == "co_training_data":
            check_every_answer(small, ref.asset, ref.partition)


def test_what_was_made_by_labels(small):
    """A judge that learned from rollouts and an imagined episode by what people said, and a policy on top of it."""
    parents = {asset: small.ledger.require(asset, "vlaw|02") for asset in ("real_rollouts", "imagined_rollouts")}
    names = {asset: small.read(ref).table("episodes").to_pylist() for asset, ref in parents.items()}
    won = next(row for row in names["real_rollouts"] if row["success"])["episode_id"]
    dream = names["imagined_rollouts"][0]["episode_id"]
    label_episodes(small, [(won, "success", "ann", "x"), (won, "near_success", "bob", "y")])
    label_episodes(small, [(dream, "success", "bob", "z")])

    def learn(draft):
        draft.label_by(labels.latest(small))
        for role, ref in parents.items():
            held = {e.episode_id: e.success for e in draft.read(ref, role).episodes(frames=False)}
            assert {name: held[name] for name in (won, dream) if name in held} in ({won: False}, {dream: True})
        checkpoint("by labels")(draft)

    said = {won: False, dream: True}
    judge = commit(small, "reward_model", "vlaw|03", parents, learn, labels=said, reads=())
    commit(small, "policy", "vlaw|03", {"reward_model": judge}, checkpoint("on it"))
    label_episodes(small, [(won, "success", "ann", "and back again")])
    for asset in ("reward_model", "policy"):
        found = check_every_answer(small, asset, "vlaw|03")
        learned = [row for row in found["learned"] if row["learner"] == judge.name and row["outcome"] == "success"]
        assert [row["count"] for row in learned if row["dataset"] == "imagined_rollouts[vlaw|02]"] == [1]
        made_with = {row["episode_id"]: row["made_with"] for row in found["labels"] if judge.name in row["read_by"]}
        assert made_with == {won: "near_success", dream: "success"}


def test_the_page_and_the_text_have_the_same_numbers(small, monkeypatch, tmp_path):
    monkeypatch.setenv("VLAW_LAKE", str(small.paths.root))
    result = vlaw("audit", "policy", "vlaw", "2", "--html", str(tmp_path / "page.html"))
    page = html.unescape((tmp_path / "page.html").read_text())
    for row in audit_of(small, small.ledger.require("policy", "vlaw|02"))["learned"]:
        assert re.search(rf"{re.escape(row['learner'])} +{re.escape(row['dataset'])}", result.output)
        assert (
            f"<td>{row['learner']}</td><td>{row['dataset']}</td><td>{row['through']}</td><td>{row['source']}</td>"
            in page
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    smoke_place(tmp_path_factory)
    return smoke_copy(tmp_path_factory.mktemp("answers") / "place")


@pytest.mark.slow
def test_a_smoke_run_and_what_is_left_after_quarantine_and_rebuild(place, monkeypatch, tmp_path):
    at(monkeypatch, tmp_path, place.environment())
    before = check_every_answer(place.lake, "policy", "smoke|01")
    for asset in (
        "world_model",
        "reward_model",
        "training_set",
        "real_rollouts",
        "iteration_report",
        "episode_embeddings",
    ):
        check_every_answer(place.lake, asset, "smoke|01")
    success = next(
        row
        for row in place.lake.read(place.lake.ledger.require("real_rollouts", "smoke|01")).table("episodes").to_pylist()
        if row["success"]
    )["episode_id"]
    quarantine.add(place.lake, [success], why="test", by="me")
    assert {row["in_closure"] for row in check_every_answer(place.lake, "policy", "smoke|01")["quarantine"]} == {True}
    assert vlaw("run", "--rebuild-stale").exit_code == 0
    after = check_every_answer(place.lake, "policy", "smoke|01")
    assert {row["in_closure"] for row in after["quarantine"]} == {False}
    for asset in ("world_model", "reward_model"):
        check_every_answer(place.lake, asset, "smoke|01")
    counted = [
        sum(
            row["count"]
            for row in found["learned"]
            if row["source"] == "real" and row["learner"] == "world_model[smoke|01]"
        )
        for found in (before, after)
    ]
    assert counted[1] == counted[0] - 1
    changed = difference(place.lake, place.lake.ledger.get(before["owner"]), place.lake.ledger.get(after["owner"]))
    assert success in changed["episodes"]["removed"]["ids"]


def test_every_artifact_that_took_a_model_says_which_state_chose_it(place):
    lake = place.lake
    takers = (
        "real_rollouts",
        "reward_model",
        "world_model",
        "imagined_rollouts",
        "policy",
        "start_evaluation",
        "start_evaluation_low_noise",
        "validation_rollouts",
        "start_world_model_metrics",
    )
    for asset in takers:
        edges = [
            edge
            for edge in lake.ledger.edge_rows(lake.ledger.require(asset, "smoke|01").artifact_id)
            if edge.role == CHOSEN_BY
        ]
        assert [lake.ledger.get(edge.parent).asset for edge in edges] == ["loop_state"], asset
        assert edges[0].scope == "whole"


# ---- every shipped recipe at smoke size (long)

SIZES = {
    "rollouts": {"episodes_per_task": 2},
    "world_model": {"steps": 2, "batch_size": 2, "expert_per_task": 1},
    "reward_model": {"steps": 2, "batch_size": 2},
    "imagine": {"episodes_per_task": 2, "num_steps": 8, "batch_size": 4},
    "score": {"alpha": 0.000001},
    "policy": {"steps": 2, "stops": [1], "batch_size": 4, "validation_per_task": 1},
    "evaluation": {"episodes_per_task": 2},
    "world_model_metrics": {"clips_per_task": 1, "num_steps": 8},
    "promotion": {"margin": 1.0, "max_false_positive_rate": 1.0},
    "dsrl": {"steps": 2},
}


def small_recipe(name):
    """A shipped recipe with its own choices and the sizes of a smoke run."""
    document = document_of(recipe_files()[name])
    for table, values in SIZES.items():
        kept = document.setdefault(table, {})
        nothing = {key for key in ("episodes_per_task", "steps", "count") if kept.get(key) == 0}
        kept |= {key: value for key, value in values.items() if key not in nothing}
    return document | {"tasks": ["stack", "erase"], "iterations": 2}


@pytest.fixture(scope="module")
def all_recipes(tmp_path_factory):
    place = new_place(tmp_path_factory.mktemp("recipes") / "place")
    counts = ("demonstrations", "co_training", "near_success")
    write_toml(place.recipes / "foundation.toml", {f"{name}_per_task": 1 for name in counts})
    place.run("foundation")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(recipe_files()) - {"smoke"}))
def test_every_shipped_recipe_at_smoke_size(all_recipes, name):
    write_toml(all_recipes.recipes / f"{name}.toml", small_recipe(name))
    for iteration in (1, 2):
        all_recipes.run("iteration", f"{name}|{iteration:02d}")
    lake = all_recipes.lake
    for iteration in (1, 2):
        for asset in ("policy", "world_model", "reward_model", "training_set", "iteration_report"):
            found = check_every_answer(lake, asset, f"{name}|{iteration:02d}")
            if asset == "policy" and name == "vlaw_no_real_in_policy":
                assert not [
                    row for row in found["learned"] if row["learner"].startswith("policy") and row["source"] == "real"
                ]
            if asset == "world_model" and name.startswith("vlaw_expert"):
                # Of either iteration and recipe: where two would train on the same, the second stands on the first
                # one's artifact.
                read = {row["dataset"] for row in found["learned"] if row["learner"].startswith("world_model[")}
                assert read == {"expert_demonstrations", "co_training_data"}
