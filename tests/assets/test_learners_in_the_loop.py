"""What the training set and the policy of an iteration hand to its learner, and what they keep of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import small_loop
from one_stage import Bench

from vlaw_models.learners import policy as policy_update
from vlaw_models.learners.base import LEARNERS


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Iteration 01 of one experiment per update, up to the scores: 4 real episodes per task, half of them successes."""
    made = Bench(tmp_path_factory.mktemp("place"))
    base = small_loop.foundation(made.lake)
    for kind in LEARNERS.names():
        more = {
            "recap": {"score": {"alpha": 0.65}},
            "awr": {"awr": {"beta": 0.5}},
            "grpo": {"world_model": {"reward_weight": 1.0}},
        }.get(kind, {})
        made.recipe(kind, **more, policy={"learner": kind, "stops": [1, 2], "validation_per_task": 2})
        small_loop.iteration(made.lake, base, {}, f"{kind}|01")
        made.make("loop_state", f"{kind}|01")
    return made


def members(bench, kind) -> list[dict]:
    return bench.lake.read(bench.make("training_set", f"{kind}|01")).members().to_pylist()


def test_the_training_set_weighs_and_marks_episodes_as_the_update_wants_them(bench):
    scores = np.tile(np.arange(1, 9) / 10, 2)
    awr = members(bench, "awr")
    real = sorted(row["weight"] for row in awr if row["source"] == "real")
    # V is 0.5 in both tasks, beta 0.5: e and 1/e, of mean 1.543.
    np.testing.assert_allclose(real, [0.238406] * 4 + [1.761594] * 4, rtol=1e-5)
    raw = np.exp((scores - 0.5) / 0.5)
    imagined = sorted(row["weight"] for row in awr if row["source"] == "imagined")
    np.testing.assert_allclose(imagined, np.sort(raw / raw.mean()), rtol=1e-6)
    recap = members(bench, "recap")
    counts = {source: sum(row["source"] == source for row in recap) for source in {row["source"] for row in recap}}
    assert counts == {
        "real": 4,
        "real_negative": 4,
        "imagined": 4,
        "imagined_negative": 12,
    }  # P = 0.7, 0.8 are above alpha; 0.6 only above V
    assert {row["weight"] for row in recap} == {1.0}
    filtered = members(bench, "filtered")  # alpha is 0.8: nothing imagined is above
    assert [(row["source"], row["weight"]) for row in filtered] == [("real", 1.0)] * 4
    dsrl = members(bench, "dsrl")  # every real rollout, and nothing that was imagined
    assert [(row["source"], row["weight"]) for row in dsrl] == [("real", 1.0)] * 8
    roles = set(dict(bench.lake.ledger.edges(bench.lake.ledger.require("training_set", "dsrl|01").owner)))
    assert roles == {"real_rollouts_01"}
    # What begins groups is not learned from.
    assert [(row["source"], row["weight"]) for row in members(bench, "grpo")] == [("real", 0.0)] * 8
    # The judge's word is an imagined episode's outcome, and alpha is 0.8.
    tried = members(bench, "dsrl_imagined")
    assert [row["source"] for row in tried] == ["real"] * 8 + ["imagined_negative"] * 16


@pytest.mark.parametrize("kind", ["awr", "recap", "dsrl", "dsrl_imagined"])
def test_the_policy_asset_hands_over_what_the_update_needs_and_keeps_the_outcomes(bench, monkeypatch, kind):
    asked = {}

    def update(start_dir, learner, real, imagined, settings, out_dir, **more):
        asked.update(more, learner=learner, real=real, imagined=imagined)
        (out_dir / "config.json").write_text("{}")
        outcomes = {
            0: {"stack": [False, True], "book": [False, False]},
            1: {"stack": [True, True], "book": [True, False]},
            2: {"stack": [True, False], "book": [False, False]},
        }
        return {"losses": [0.5, 0.4], "seconds": 0.1, "stop": 1, "outcomes": outcomes}

    monkeypatch.setattr(policy_update, "update_policy", update)
    bench.make("training_set", f"{kind}|01")
    made = bench.make("policy", f"{kind}|01")
    assert asked["evaluate"] is not None
    assert isinstance(asked["learner"], LEARNERS.load(kind, where="a test"))
    real, imagined = asked["real"], asked["imagined"]
    assert len(real.episodes) == 8
    successes = [bool(episode.success) for episode in real.episodes]
    assert set(successes) == {True, False}
    assert len(imagined.episodes) == (0 if kind == "dsrl" else 16)
    assert real.positive == (successes if kind == "recap" else [True] * 8)
    assert [weight > 1 for weight in real.weights] == (successes if kind == "awr" else [False] * 8)
    rows = bench.lake.read(made).table("evaluations").to_pylist()
    details = [json.loads(row["detail_json"]) for row in rows]
    counted = {
        (row["task"], detail["stop"]): (row["successes"], detail["chosen"], detail["outcomes"])
        for row, detail in zip(rows, details, strict=True)
    }
    assert {row["metric"] for row in rows} == {"validation_success"}
    assert len(counted) == 6
    assert counted["stack", 1] == (2, True, [1, 1])
    assert counted["book", 0] == (0, False, [0, 0])
    assert made.metrics["stop"] == 1
    assert "outcomes" not in made.metrics
    assert ("dsrl" in json.loads(made.recipe_json)) == (kind == "dsrl")
