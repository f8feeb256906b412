"""Near-success data in the lake: made, learned from, and found again by audit, impact and staleness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from asking import ask as question
from one_stage import Bench
from small_loop import LAMBDA, commit, episodes, foundation, iteration, no_latents

from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.lineage.impact import impact
from vlaw_assets.pipeline import driver
from vlaw_assets.pipeline.resources import Workplace
from vlaw_assets.query import connect
from vlaw_assets.rebuild.staleness import ask
from vlaw_assets.recipes import load_foundation
from vlaw_assets.recipes.fit import check_foundation
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop import near_success as pairs
from vlaw_models.robots.tabletop.spec import SPEC


def of_foundation(bench: Bench, text: str) -> None:
    (bench.recipes / "foundation.toml").write_text(text)


def test_pairs_of_every_task_with_their_nearness(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "SIZES", (0.12,))
    monkeypatch.setattr(pairs, "TOLERANCE", 1.0)
    monkeypatch.setattr("vlaw_models.robots.tabletop.world.IMAGE_SIZE", 16)
    bench = Bench(tmp_path)
    of_foundation(bench, "near_success_per_task = 1")
    ref = bench.make("near_success", "")
    assert ref.num_rows == 2 * len(SPEC.tasks)
    assert ref.metrics["successes"] == len(SPEC.tasks)
    with connect(bench.lake) as query:
        rows = query.execute(
            "SELECT task, success, nearness, extra_json ->> '$.quality' FROM episodes "
            "WHERE purpose = 'near_success' ORDER BY episode_index"
        ).fetchall()
    assert [(task, quality) for task, _, _, quality in rows] == [
        (task, quality) for task in SPEC.tasks for quality in ("success", "near_success")
    ]
    assert all(nearness == 1 if success else 0 <= nearness < 1 for _, success, nearness, _ in rows)
    assert [success for _, success, _, _ in rows] == [True, False] * len(SPEC.tasks)


@pytest.mark.parametrize("robot", ["tabletop", "droid"])
def test_nobody_wants_any(tmp_path, robot):
    bench = Bench(tmp_path)
    of_foundation(bench, f'robot = "{robot}"\npreset = "toy"\nnear_success_per_task = 0')
    assert bench.make("near_success", "").num_rows == 0


def test_a_recipe_that_needs_some_is_told_the_key(tmp_path):
    bench = Bench(tmp_path)
    bench.recipe("loop", world_model={"near_success": True})
    of_foundation(bench, "near_success_per_task = 0")
    place = Workplace(lake=str(bench.lake.paths.root), recipes=str(bench.recipes))
    recipe = place.recipe("loop")
    with pytest.raises(VlawError, match="key 'near_success_per_task' is 0"):
        check_foundation(recipe, load_foundation(bench.recipes))
    assert driver.on_demand([recipe]) == ["near_success"]
    bench.recipe("loop")
    assert driver.on_demand([Workplace(lake="", recipes=str(bench.recipes)).recipe("loop")]) == []
    bench.recipe("none", world_model={"near_success": True, "co_training_weight": 0.0})
    with pytest.raises(VlawError, match=r"key 'world_model\.near_success' is true and"):
        place.recipe("none")


def test_the_world_model_learns_from_them_in_the_co_training_half(tmp_path, monkeypatch):
    bench = Bench(tmp_path)
    base = foundation(bench.lake)
    no_latents(bench.lake)
    iteration(bench.lake, base, {}, "loop|01")
    models = {
        "policy": "base_policy",
        "world_model": "pretrained_world_model",
        "reward_model": "pretrained_reward_model",
    }
    commit(bench.lake, "loop_state", "loop|01", "loop_state", {role: base[name] for role, name in models.items()}, held)
    bench.recipe("loop")
    before = ask(bench.lake, "world_model", "loop|01", recipes=bench.recipes)
    assert "near_success" not in before.identity.recipe, "present recipes keep their identity"

    bench.recipe("loop", world_model={"near_success": True, "co_training_weight": LAMBDA})
    with pytest.raises(VlawError, match="the foundation is missing: near_success"):
        ask(bench.lake, "world_model", "loop|01", recipes=bench.recipes)
    near = commit(
        bench.lake,
        "near_success",
        "",
        "scripted_episodes",
        {},
        lambda draft: draft.write_episodes(episodes(1, seed=5), purpose="near_success", world="tabletop"),
        recipe={"seed": 5},
    )
    given = {}

    def learn(_start, _autoencoder, real, co_training, config, out, **_options):
        given.update(real=len(real), co_training=len(co_training), near=config.near_success)
        Path(out).mkdir(parents=True, exist_ok=True)
        (out / "model.safetensors").write_bytes(b"0")
        (out / "config.json").write_text("{}")
        return {"losses": [0.0], "steps": 1, "seconds": 0.0}

    monkeypatch.setattr("vlaw_models.learners.world_model.finetune_world_model", learn)
    made = bench.make("world_model", "loop|01")
    held_before = bench.lake.ledger.require("co_training_data", "").num_rows
    assert given == {"real": 8, "co_training": held_before + near.num_rows, "near": True}
    found = audit_of(bench.lake, made)
    learned = {(row["dataset"], row["weight"]) for row in found["learned"] if row["artifact"] == made.artifact_id}
    assert ("near_success", LAMBDA) in learned
    name = bench.lake.read(near).table("episodes")["episode_id"][0].as_py()
    assert "world_model" in {one.ref.asset for one in impact(bench.lake, name)}
    commit(
        bench.lake,
        "near_success",
        "",
        "scripted_episodes",
        {},
        lambda draft: draft.write_episodes(episodes(2, seed=6), purpose="near_success", world="tabletop"),
        recipe={"seed": 6},
    )
    again = ask(bench.lake, "world_model", "loop|01", recipes=bench.recipes)
    assert again.identity.digest != bench.lake.ledger.get(made.owner).identity_digest, "stale"


def held(draft) -> None:
    draft.set_metrics({})


def test_near_misses_go_by_nearness_where_it_was_measured(tmp_path):
    bench = Bench(tmp_path)
    near = [0.2, 0.9, None, None]
    given = [
        replace(one, success=False, nearness=value, event=event)
        for one, value, event in zip(episodes(2, seed=1), near, ("toppled", "missed", "toppled", "missed"), strict=True)
    ]
    commit(
        bench.lake,
        "real_rollouts",
        "loop|01",
        "real_rollouts",
        {},
        lambda draft: draft.write_episodes(given, purpose="rollout", world="tabletop"),
    )
    with connect(bench.lake) as query:
        rows = question(query, "near_misses", experiment="loop")
        assert {(row["nearness"], row["event"], row["why"]) for row in rows} == {
            (0.9, "missed", "nearness"),
            (None, "toppled", "event"),
        }
        assert {row["nearness"] for row in question(query, "near_misses", nearness="0.1")} == {0.2, 0.9, None}
