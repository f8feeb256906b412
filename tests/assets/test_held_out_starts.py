"""Evaluation on held-out starts only, at two noises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from one_stage import Bench
from small_loop import episodes, foundation, iteration
from wanderer import Wanderer

from vlaw_assets.assets import evaluation
from vlaw_assets.assets.evaluation import held_out, starts_trained_on
from vlaw_assets.rebuild.staleness import ask
from vlaw_models.config import EvaluationConfig
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts import collect
from vlaw_models.rollouts.collect import evaluate_policy
from vlaw_models.rollouts.seeds import start_seeds


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

    def robot(_folder, tasks, config, *, noise_seed, robot, progress=None, seen=None, spread=None):
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


def test_what_a_policy_was_made_from_is_looked_up_once_and_other_trials_than_those_are_refused(tmp_path, monkeypatch):
    bench, _, _ = evaluable(tmp_path, monkeypatch, None)
    looked = []

    def look(lake, policy, robot):
        looked.append(policy.artifact_id)
        return starts_trained_on(lake, policy, robot)

    monkeypatch.setattr(evaluation, "starts_trained_on", look)
    bench.make("policy_evaluation", "loop|01", force=True)
    assert len(looked) == 1
    evaluate = collect.evaluate_policy

    def elsewhere(*args, **options):
        found = evaluate(*args, **options)
        found[0].seed += 1000
        return found

    monkeypatch.setattr(collect, "evaluate_policy", elsewhere)
    with pytest.raises(VlawError, match="trials that were not planned: "):
        bench.make("policy_evaluation", "loop|01", force=True)


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
