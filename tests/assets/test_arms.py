"""What the arms of a study are made of: starts, oracle, true labels, expert-only world model, held-out evaluation."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from factories import write_recipe
from one_stage import Bench
from small_loop import commit, episodes, foundation, no_latents
from smoke_place import smoke_copy, smoke_place

from vlaw_assets.assets.imagined_outcomes import Try, label_rows
from vlaw_assets.assets.world_model import first_of_each
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.rebuild.staleness import ask
from vlaw_assets.recipes import find_recipe
from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.world import TabletopWorld
from vlaw_models.rollouts.privileged import true_outcomes

ORACLE = {
    "imagine": {
        "episodes_per_task": 3,
        "tries_per_failure": 1,
        "num_steps": 8,
        "batch_size": 4,
        "starts": "real",
        "world": "simulator",
    },
    "score": {"alpha": 0.000001, "labels": "simulator"},
}


# ---- what the labels are worth


def test_rates_of_labels_by_hand():
    tries = [
        Try("stack", "r1", True, True),
        Try("stack", "r1", False, True),
        Try("stack", "r2", True, False),
        Try("stack", "r3", False, False),
        Try("book", "b1", False, True),
        Try("book", "b1", True, None),
    ]
    failed = [("stack", "r1"), ("stack", "r3"), ("stack", "r9"), ("book", "b2")]
    found = {(row["task"], row["metric"]): (row["successes"], row["trials"]) for row in label_rows(tries, failed, 0.8)}
    assert found == {
        ("stack", "imagined_success"): (2, 4),
        ("stack", "label_precision"): (1, 2),
        ("stack", "label_recall"): (1, 2),
        ("stack", "failed_starts_covered"): (1, 3),
        ("book", "imagined_success"): (1, 2),
        ("book", "label_precision"): (0, 1),
        ("book", "failed_starts_covered"): (0, 1),
        ("all", "imagined_success"): (3, 6),
        ("all", "label_precision"): (1, 3),
        ("all", "label_recall"): (1, 2),
        ("all", "failed_starts_covered"): (1, 4),
    }, "no recall of a task in which nothing judged was true"
    row = next(
        row for row in label_rows(tries, failed, 0.8) if (row["task"], row["metric"]) == ("all", "label_precision")
    )
    assert row["detail"] == {"alpha": 0.8, "privileged": True, "tp": 1, "fp": 2, "fn": 1, "tn": 1}
    assert row["value"] == pytest.approx(1 / 3)
    assert row["low"] < row["value"] < row["high"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    smoke_place(tmp_path_factory)
    return smoke_copy(tmp_path_factory.mktemp("arms") / "place")


def rows_of(place, asset, table, partition="smoke|01"):
    return place.lake.read(place.lake.ledger.require(asset, partition)).table(table).to_pylist()


def test_outcomes_of_an_iteration_are_those_of_its_actions(place):
    lake = place.lake
    real = {row["episode_id"]: row for row in rows_of(place, "real_rollouts", "episodes")}
    imagined = lake.read(lake.ledger.require("imagined_rollouts", "smoke|01")).episodes(frames=False)
    truth = {row["episode_id"]: row for row in rows_of(place, "imagined_outcomes", "reward_scores")}
    assert {row["judge"] for row in truth.values()} == {"simulator"}
    origins = {name: Start(row["task"], row["seed"]) for name, row in real.items()}
    assert [truth[e.episode_id]["p_success"] for e in imagined] == [
        float(t) for t in true_outcomes(imagined, origins, robot=SPEC)
    ]
    success = {(r["task"], r["metric"]): r for r in rows_of(place, "imagined_outcomes", "evaluations")}[
        "all", "imagined_success"
    ]
    assert (success["trials"], success["successes"]) == (len(imagined), sum(row["p_success"] for row in truth.values()))
    judge = lake.ledger.require("reward_model", "smoke|01").content_digest
    assert success["reward_model"] == judge
    # It is known to be privileged, and no model of this experiment stands on it.
    assert lake.ledger.require("imagined_outcomes", "smoke|01").metrics["privileged"] is True
    assert "imagined_outcomes" not in {
        ref.asset for ref in lake.ledger.closure(lake.ledger.require("policy", "smoke|01"))
    }


@pytest.fixture(scope="module")
def ceiling(place, tmp_path_factory):
    """The smoke iteration as the oracle's arm goes on with it: the same real rollouts, everything after them
    privileged."""
    bench = Bench(smoke_copy(tmp_path_factory.mktemp("ceiling") / "place", place).root)
    write_recipe(bench.recipes, "smoke", **ORACLE)
    bench.make("world_model", "smoke|01")
    imagined = bench.make("imagined_rollouts", "smoke|01")
    names = bench.lake.read(imagined).table("episodes")["episode_id"].to_pylist()
    commit(
        bench.lake,
        "reward_scores",
        "smoke|01",
        "reward_scores",
        {"imagined_rollouts": imagined},
        lambda draft: draft.write_scores(
            [{"episode_id": name, "owner": imagined.owner, "judge": "yes to all", "p_success": 0.9} for name in names]
        ),
    )
    for asset in ("imagined_outcomes", "training_set"):
        bench.make(asset, "smoke|01")
    return bench


def test_the_oracle_arm(ceiling):
    lake, key = ceiling.lake, "smoke|01"
    assert lake.ledger.require("world_model", key).metrics["passed_on"]
    ref = lake.ledger.require("imagined_rollouts", key)
    roles = {edge.role: edge.scope for edge in lake.ledger.edge_rows(ref.owner)}
    assert roles == {
        "state": "whole",
        "policy": "whole",
        "starts": "rows",
        "starts_demonstrations": "rows",
        "starts_co_training": "rows",
    }
    rows = lake.read(ref).table("episodes").to_pylist()
    assert {(r["purpose"], r["world"], r["world_model"], r["success"]) for r in rows} == {
        ("imagined", "tabletop", "", None)
    }
    pools = [
        {
            row["episode_id"]
            for row in rows_of(ceiling, asset, "episodes", part)
            if row["task"] in find_recipe("smoke").tasks
        }
        for asset, part in (("real_rollouts", key), ("expert_demonstrations", ""), ("co_training_data", ""))
    ]
    rolled, *scenes = (len(pool & {r["start_episode_id"] for r in rows}) for pool in pools)
    assert (rolled, sum(scenes)) == (4, 2), "3 starts of each of 2 tasks"
    # The actions were really executed, so the truth is what the same actions do again, and it is what is learned from.
    truth = rows_of(ceiling, "imagined_outcomes", "reward_scores", key)
    assert len(truth) == len(rows)
    members = lake.read(lake.ledger.require("training_set", key)).members().to_pylist()
    assert {m["episode_id"] for m in members if m["source"] == "imagined"} == {
        t["episode_id"] for t in truth if t["p_success"] == 1.0
    }
    closure = {item.asset for item in lake.ledger.closure(lake.ledger.require("training_set", key))}
    assert "imagined_outcomes" in closure
    (judge,) = audit_of(lake, lake.ledger.require("training_set", key))["judges"]
    assert judge["judge"] == "simulator (privileged)"
    assert ref.metrics["privileged"] is True


def test_another_renderer_than_that_of_the_recording_is_named(ceiling, monkeypatch):
    render = TabletopWorld.reset

    def darker(self, starts):
        seen = render(self, starts)
        return dataclasses.replace(seen, images=seen.images // 2)

    monkeypatch.setattr(TabletopWorld, "reset", darker)
    with pytest.raises(VlawError, match=r"starts_equal_real.*VLAW_RENDERER is now 'ray'"):
        ceiling.make("imagined_rollouts", "smoke|01", force=True)


@pytest.fixture
def imported(tmp_path):
    """Iteration 1 of 'abroad', whose real rollouts come from a robot that the simulator knows nothing of."""
    bench = Bench(tmp_path)
    bench.recipe("abroad")
    made = foundation(bench.lake)
    real = commit(
        bench.lake,
        "real_rollouts",
        "abroad|01",
        "real_rollouts",
        {},
        lambda draft: draft.write_episodes(episodes(2, seed=1), purpose="rollout", world="franka"),
    )
    bench.make("loop_state", "abroad|01")
    names = bench.lake.read(real).table("episodes")["episode_id"].to_pylist()
    imagined = commit(
        bench.lake,
        "imagined_rollouts",
        "abroad|01",
        "imagined_rollouts",
        {"starts": real},
        lambda draft: draft.write_episodes(episodes(2, seed=2, judged=False, starts=names), purpose="imagined"),
    )
    commit(
        bench.lake, "reward_scores", "abroad|01", "reward_scores", {"imagined_rollouts": imagined}, lambda draft: None
    )
    commit(
        bench.lake,
        "expert_demonstrations",
        "",
        "scripted_episodes",
        {},
        lambda draft: draft.write_episodes(episodes(3, seed=5), purpose="demonstration", world="tabletop"),
        recipe={"purpose": "demonstration"},
    )
    return SimpleNamespace(bench=bench, base=made)


def test_imported_starts_have_no_true_outcome(imported):
    bench = imported.bench
    ref = bench.make("imagined_outcomes", "abroad|01")
    finding = bench.findings["simulator_knows"]
    assert (finding.passed, finding.blocking) == (False, False)
    assert "4 imagined episodes" in finding.text
    assert ref.num_rows == 0
    before = len(bench.lake.ledger.artifacts())
    bench.recipe("abroad", score={"labels": "simulator"})
    with pytest.raises(VlawError, match="does not know their starts"):
        bench.make("imagined_outcomes", "abroad|01")
    bench.recipe("abroad", imagine={"world": "simulator", "episodes_per_task": 1})
    with pytest.raises(VlawError, match="no episode that it recorded"):
        bench.make("imagined_rollouts", "abroad|01")
    assert len(bench.lake.ledger.artifacts()) == before


def test_nothing_imagined_has_no_outcomes(tmp_path):
    bench = Bench(tmp_path)
    bench.recipe("plain", imagine={"episodes_per_task": 0})
    base = foundation(bench.lake)
    empty = commit(bench.lake, "imagined_rollouts", "plain|01", "imagined_rollouts", {}, lambda draft: None)
    commit(bench.lake, "reward_scores", "plain|01", "reward_scores", {}, lambda draft: None)
    assert base
    assert empty.num_rows == bench.make("imagined_outcomes", "plain|01").num_rows == 0


# ---- the world model of experts only


def test_the_first_demonstrations_of_every_task():
    rows = [{"episode_id": f"{task}{n}", "task": task} for task in ("stack", "book", "erase") for n in range(3)]
    assert first_of_each(rows, ("book", "stack"), 2) == {"stack0", "stack1", "book0", "book1"}
    with pytest.raises(VlawError, match=r"expert_per_task = 4.*has 3 demonstrations of book") as caught:
        first_of_each(rows, ("book", "stack"), 4)
    assert "foundation.toml" in caught.value.remedy


def experts(count):
    return {"use_rollouts": False, "expert_per_task": count}


def test_the_expert_only_world_model_learns_from_so_many_demonstrations(imported, monkeypatch):
    bench, learned = imported.bench, {}

    def finetune(model, autoencoder, found, co_training, config, folder, **_options):
        learned["from"] = [(e.task, e.seed) for e in found]
        (folder / "config.json").write_text('{"class": "world"}')
        (folder / "model.safetensors").write_bytes(b"world")
        return {"losses": [0.5]}

    monkeypatch.setattr("vlaw_models.learners.world_model.finetune_world_model", finetune)
    no_latents(bench.lake)
    bench.recipe("abroad", world_model=experts(2))
    ref = bench.make("world_model", "abroad|01")
    assert sorted(learned["from"]) == [("book", 0), ("book", 1), ("stack", 0), ("stack", 1)]
    edge = next(edge for edge in bench.lake.ledger.edge_rows(ref.artifact_id) if edge.role == "expert_demonstrations")
    assert edge.selection == "listed", "the lineage says which"
    bench.recipe("abroad", world_model=experts(9))
    with pytest.raises(VlawError, match="expert_per_task = 9"):
        bench.make("world_model", "abroad|01")

    def identity(world_model):
        bench.recipe("abroad", world_model=world_model)
        return ask(bench.lake, "world_model", "abroad|01", recipes=bench.recipes).identity.digest

    assert identity({"expert_per_task": 9}) == identity({}), "no key of an arm that learns from rollouts"
    assert identity(experts(2)) != identity(experts(3))
