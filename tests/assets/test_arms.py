"""What the arms of a study are made of: starts, oracle, true labels, expert-only world model, held-out evaluation."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from factories import write_recipe
from one_stage import Bench
from small_loop import commit, episodes, foundation, iteration
from smoke_place import smoke_copy, smoke_place

from vlaw_assets.assets.evaluation import held_out, starts_trained_on
from vlaw_assets.assets.imagined_outcomes import Try, label_rows
from vlaw_assets.assets.imagined_rollouts import starts_from
from vlaw_assets.assets.world_model import first_of_each
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.lineage.staleness import ask
from vlaw_assets.recipes import find_recipe
from vlaw_models.config import EvaluationConfig, ImagineConfig
from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.world import TabletopWorld
from vlaw_models.rollouts import collect
from vlaw_models.rollouts.collect import evaluate_policy
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.rollouts.privileged import rollouts_from_starts, true_outcomes
from vlaw_models.rollouts.seeds import start_seeds

ORACLE = {
    "imagine": {"episodes_per_task": 3, "num_steps": 8, "batch_size": 4, "starts": "real", "world": "simulator"},
    "score": {"alpha": 0.000001, "labels": "simulator"},
}


# ---- the simulator's own word (privileged)


@pytest.fixture(scope="module")
def played():
    """Scripted episodes, some that succeed and some that do not, as if each had been imagined from itself."""
    found = list(iterate_demonstrations(["book", "draw"], 6, robot=SPEC, purpose="co_training", seed=3, image_size=8))
    for number, episode in enumerate(found):
        episode.episode_id = episode.start_episode_id = f"e{number}"
    return found


def test_true_outcomes_are_what_happened_on_the_robot(played):
    origins = {e.episode_id: Start(e.task, e.seed) for e in played}
    truth = [e.success for e in played]
    assert 0 < sum(truth) < len(truth)
    blind = [dataclasses.replace(e, images=e.images[:0], success=None) for e in played]
    assert true_outcomes(blind, origins, robot=SPEC).tolist() == truth
    assert true_outcomes(blind[::-1], origins, robot=SPEC, threads=1).tolist() == truth[::-1]
    elsewhere = {e.episode_id: Start(e.task, e.seed + 1) for e in played}
    assert true_outcomes(blind, elsewhere, robot=SPEC).tolist() != truth, "the same actions from another layout"


def test_a_start_that_the_simulator_does_not_know_is_refused(played):
    for origins in ({}, {"e0": Start("stack", 1)}):
        with pytest.raises(VlawError, match="cannot be reset to the start 'e0'"):
            true_outcomes(played[:1], origins, robot=SPEC)
        with pytest.raises(VlawError, match="no episode that it recorded"):
            rollouts_from_starts(
                "nowhere", [Start(played[0].task, 0, episode_id="e0")], origins, ImagineConfig(), robot=SPEC, seed=0
            )


class Wanderer:
    """A policy of noise."""

    execute_steps, image_size = 4, 16

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        import torch

        noise = torch.randn(len(observation), 4, 5, generator=generator).numpy()
        return (observation.state[:, None] + 0.03 * noise_scale * noise).astype(np.float32)


def test_the_oracle_starts_in_the_recorded_frame_and_tries_anew(played, monkeypatch):
    monkeypatch.setattr("vlaw_models.policies.base.load_policy", lambda folder: Wanderer())
    real = [dataclasses.replace(e, images=e.images[:1]) for e in played]
    world = TabletopWorld(16)
    first = dict(
        zip((e.episode_id for e in real), world.reset([Start(e.task, e.seed) for e in real]).images, strict=True)
    )
    origins = {e.episode_id: Start(e.task, e.seed) for e in real}
    starts = starts_from(real, ("book", "draw"), 8)
    config = ImagineConfig(num_steps=5, batch_size=5)
    batches = list(rollouts_from_starts("anywhere", starts, origins, config, robot=SPEC, seed=7))
    assert [len(batch) for batch in batches] == [5, 5, 5, 1]
    done = [e for batch in batches for e in batch]
    assert [(e.task, e.seed, e.start_episode_id) for e in done] == [(s.task, s.seed, s.episode_id) for s in starts]
    assert {(e.success, e.event) for e in done} == {(None, "")}
    assert all(np.array_equal(e.images[0], first[e.start_episode_id]) for e in done)
    assert all(len(e.images) == 6 for e in done)
    one, again = (next(e for e in done if (e.start_episode_id, e.seed) == (real[0].episode_id, n)) for n in (0, 6))
    assert not np.array_equal(one.actions, again.actions), "other noise for the second try"
    repeated = [
        e for batch in rollouts_from_starts("anywhere", starts, origins, config, robot=SPEC, seed=7) for e in batch
    ]
    assert all(np.array_equal(a.images, b.images) for a, b in zip(done, repeated, strict=True))
    assert not np.array_equal(
        next(rollouts_from_starts("anywhere", starts, origins, config, robot=SPEC, seed=8))[0].actions, one.actions
    )


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
    told = {row["episode_id"]: row for row in rows_of(place, "imagined_outcomes", "reward_scores")}
    assert {row["judge"] for row in told.values()} == {"simulator"}
    origins = {name: Start(row["task"], row["seed"]) for name, row in real.items()}
    assert [told[e.episode_id]["p_success"] for e in imagined] == [
        float(t) for t in true_outcomes(imagined, origins, robot=SPEC)
    ]
    success = {(r["task"], r["metric"]): r for r in rows_of(place, "imagined_outcomes", "evaluations")}[
        "all", "imagined_success"
    ]
    assert (success["trials"], success["successes"]) == (len(imagined), sum(row["p_success"] for row in told.values()))
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
    assert [len(pool & {r["start_episode_id"] for r in rows}) for pool in pools] == [4, 2, 0], (
        "3 starts of each of 2 tasks"
    )
    # The actions were really executed, so the truth is what the same actions do again, and it is what is learned from.
    told = rows_of(ceiling, "imagined_outcomes", "reward_scores", key)
    assert len(told) == len(rows)
    members = lake.read(lake.ledger.require("training_set", key)).members().to_pylist()
    assert {m["episode_id"] for m in members if m["source"] == "imagined"} == {
        t["episode_id"] for t in told if t["p_success"] == 1.0
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


# ---- evaluation on held-out starts only


@pytest.mark.parametrize("purpose", ["rollout", "demonstration", "co_training", "pretraining"])
def test_evaluating_on_layouts_for_training_is_refused(purpose):
    with pytest.raises(VlawError, match=f"evaluation on training starts: .*'{purpose}'"):
        collect.evaluate_loaded(
            Wanderer(), ["stack"], EvaluationConfig(episodes_per_task=1), robot=SPEC, purpose=purpose
        )


def test_held_out_names_what_is_shared():
    trained = {("stack", 5): "rollout-1", ("book", 6): "rollout-2"}
    assert held_out([("stack", 6), ("book", 5)], trained).passed
    finding = held_out([("stack", 6), ("book", 6)], trained)
    assert (finding.passed, finding.blocking) == (False, True)
    assert "book, seed 6 is the start of rollout-2" in finding.text
    assert "vlaw quarantine" in finding.remedy


def evaluable(tmp_path, monkeypatch, seed: int | None):
    """A small loop whose policy comes from rollouts of which one has this seed, and stand-ins for evaluation on the
    robot."""
    import small_loop

    def forged(count, **options):
        found = episodes(count, **options)
        if seed is not None and options.get("judged", True):
            found[2].seed = seed
        return found

    bench = Bench(tmp_path)
    bench.recipe("loop", evaluation={"episodes_per_task": 3})
    with monkeypatch.context() as patch:
        patch.setattr(small_loop, "episodes", forged)
        base = foundation(bench.lake)
        made = iteration(bench.lake, base, {}, "loop|01")
    calls = []

    def robot(_folder, tasks, config, *, noise_seed, robot, progress=None):
        calls.append((config.noise_scale, noise_seed))
        arrays = {
            "images": np.zeros((3, len(robot.cameras), 8, 8, 3), np.uint8),
            "states": np.zeros((3, len(robot.state)), np.float32),
            "actions": np.zeros((2, len(robot.action)), np.float32),
            "control_hz": robot.control_hz,
        }
        found = [dataclasses.replace(e, **arrays) for e in episodes(3, seed=noise_seed) if e.task in tasks]
        for e in found:
            e.seed = start_seeds("evaluation", e.task, 0, 0, 3)[e.seed]
        return found

    monkeypatch.setattr(collect, "evaluate_policy", robot)
    return bench, made, calls


def test_a_policy_trained_on_an_evaluation_start_is_not_evaluated(tmp_path, monkeypatch):
    wrong = start_seeds("evaluation", "stack", 0, 0, 3)[2]
    bench, made, calls = evaluable(tmp_path, monkeypatch, wrong)
    before = len(bench.lake.ledger.artifacts())
    for asset in ("policy_evaluation", "policy_evaluation_low_noise"):
        with pytest.raises(VlawError, match=rf"evaluation on training starts: stack, seed {wrong} is the start of"):
            bench.make(asset, "loop|01", force=True)
    assert calls == [], "refused before the work"
    assert len(bench.lake.ledger.artifacts()) == before
    assert ("stack", wrong) in starts_trained_on(bench.lake, made["policy"], SPEC)


def test_evaluation_at_two_noises_seeded_by_the_recipe(tmp_path, monkeypatch):
    bench, _, calls = evaluable(tmp_path, monkeypatch, None)

    def recipe(seed=4, scale=0.25):
        bench.recipe("loop", seed=seed, evaluation={"episodes_per_task": 3, "low_noise_scale": scale})

    recipe()
    full, low = (
        bench.make(asset, "loop|01", force=True) for asset in ("policy_evaluation", "policy_evaluation_low_noise")
    )
    assert calls == [(1.0, 4), (0.25, 4)]
    assert bench.findings["starts_held_out"].passed
    assert (full.kind, low.kind) == ("evaluation", "evaluation_low_noise"), (
        "what averages over evaluations must not mix them"
    )
    assert low.metrics["noise_scale"] == 0.25

    def identity(asset, **changes):
        recipe(**changes)
        return ask(bench.lake, asset, "loop|01", recipes=bench.recipes).identity.digest

    assert identity("policy_evaluation") == full.identity_digest
    assert identity("policy_evaluation", scale=0.5) == full.identity_digest
    assert identity("policy_evaluation_low_noise", scale=0.5) != low.identity_digest
    assert identity("policy_evaluation", seed=5) != full.identity_digest


def test_the_noise_seed_moves_the_noise_and_not_the_starts(monkeypatch):
    config = EvaluationConfig(episodes_per_task=2, num_steps=4)
    monkeypatch.setattr("vlaw_models.policies.base.load_policy", lambda folder: Wanderer())
    first, same, other = (
        evaluate_policy("anywhere", ["book"], config, robot=SPEC, noise_seed=seed) for seed in (0, 0, 1)
    )
    assert [e.seed for e in first] == [e.seed for e in other] == start_seeds("evaluation", "book", 0, 0, 2)
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(first, same, strict=True))
    assert not any(np.array_equal(a.actions, b.actions) for a, b in zip(first, other, strict=True))
