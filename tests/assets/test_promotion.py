"""The promotion gate: what replaces a model, what does not, and what the ledger says about it."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from asking import ask
from gate_evidence import outcomes, shown, stops
from one_stage import Bench
from small_loop import checkpoint, commit, episodes, foundation

from vlaw_assets.assets import loop_state
from vlaw_assets.assets.making import STAGES
from vlaw_assets.cli.status import collect
from vlaw_assets.lake import ArtifactRef
from vlaw_assets.query import connect
from vlaw_assets.rebuild.staleness import ask as would_make


@pytest.fixture(scope="module", autouse=True)
def _founded(tmp_path_factory):
    """Every loop begins with the same foundation: made once, copied."""
    lake = Bench(tmp_path_factory.mktemp("founded")).lake
    Loop.founded = lake.paths.root, foundation(lake)


class Loop(Bench):
    """Iterations of the experiment 'gate' up to what the gate reads, made of noise."""

    founded: ClassVar[tuple[Path, dict[str, ArtifactRef]]]

    def __init__(self, root, **promotion):
        lake, base = self.founded
        shutil.copytree(lake, root / "lake")
        super().__init__(root)
        self.gate(**promotion)
        self.base = dict(base)

    def gate(self, **promotion):
        """The recipe, with these values of the gate."""
        self.recipe("gate", score={"alpha": 0.8}, promotion=promotion)

    def iterate(self, number: int, *, rows=None, negatives=None, start=None, policy: str = "", evaluated=None):
        """loop_state by the real stage, the rest by hand. `rows` are the policy's evaluations, `negatives` (fp, n)."""
        key = f"gate|{number:02d}"
        state = self.make("loop_state", key)
        edges = dict(self.lake.ledger.edges(state.owner))

        def make(asset, parents, write, kind=""):
            return commit(self.lake, asset, key, kind or asset, parents, write, recipe={"iteration": number})

        make(
            "real_rollouts",
            {"policy": edges["policy"]},
            lambda draft: draft.write_episodes(episodes(2, seed=number), purpose="rollout", world="tabletop"),
        )
        make("reward_model", {"reward_model": edges["reward_model"]}, checkpoint(f"judge {number}"))
        world = make(
            "world_model",
            {"world_model": edges["world_model"]},
            checkpoint(f"world {number}" if negatives else "pretrained_world_model"),
        )
        make(
            "world_model_metrics",
            {"world_model": world},
            lambda draft: draft.write_evaluations(shown(world.content_digest, *negatives) if negatives else []),
        )

        def learn(draft):
            checkpoint(policy or f"policy {number}")(draft)
            draft.write_evaluations(rows or [])

        made = make("policy", {"policy": start or edges["policy"]}, learn)
        if evaluated:
            make("policy_evaluation", {"policy": made}, lambda draft: draft.write_evaluations(evaluated), "evaluation")
        return made, world

    def state(self, number: int):
        """(state's artifact, role -> artifact) of an iteration."""
        ref = self.make("loop_state", f"gate|{number:02d}")
        return ref, dict(self.lake.ledger.edges(ref.owner))


def test_a_worse_policy_is_refused_and_the_loop_goes_on_with_the_old_one(tmp_path, caplog, monkeypatch):
    loop = Loop(tmp_path)
    worse, world = loop.iterate(1, rows=stops(outcomes(20, 40), outcomes(8, 40)), negatives=(1, 10))
    with caplog.at_level(logging.WARNING):
        state, roles = loop.state(2)
    assert roles["policy"].artifact_id == loop.base["base_policy"].artifact_id
    assert roles["judged_policy"].artifact_id == worse.artifact_id, "why: the candidate is in the closure of the state"
    assert roles["world_model"].artifact_id == world.artifact_id, "each model by itself"
    said = state.metrics["promotion"]
    assert (said["policy"]["promoted"], said["world_model"]["promoted"]) == (False, True)
    assert said["policy"]["numbers"]["new"] == 0.2
    assert said["policy"]["numbers"]["starts"] == 40
    assert "keeps base_policy" in caplog.text
    finding = loop.findings["promoted"]
    assert (finding.passed, finding.blocking) == (False, False)
    folder = loop.lake.read(state).checkpoint()
    assert json.loads((folder / "promotion.json").read_text()) == said
    assert json.loads((folder / "state.json").read_text())["policy"] == loop.base["base_policy"].content_digest
    monkeypatch.setattr("vlaw_assets.cli.status.running_partitions", set)
    shown = {row["partition"]: row["refused"] for row in collect(loop.lake)}
    assert (shown["gate|01"], shown["gate|02"]) == ({}, {"policy": said["policy"]["reason"]})
    # The next one is judged against what was kept, and its iteration begins where the first one began.
    better, _ = loop.iterate(2, rows=stops(outcomes(20, 40), outcomes(30, 40)))
    assert dict(loop.lake.ledger.edges(better.owner))["policy"].artifact_id == loop.base["base_policy"].artifact_id
    _, third = loop.state(3)
    assert third["policy"].artifact_id == better.artifact_id
    assert {"real_rollouts_01", "real_rollouts_02"} <= set(third), "the data of both iterations go on"


def test_better_and_equal_policies_are_promoted(tmp_path):
    for name, new in (("better", 30), ("equal", 20)):
        loop = Loop(tmp_path / name)
        candidate, _ = loop.iterate(1, rows=stops(outcomes(20, 40), outcomes(new, 40)))
        state, roles = loop.state(2)
        assert roles["policy"].artifact_id == roles["judged_policy"].artifact_id == candidate.artifact_id
        assert state.metrics["promotion"]["policy"]["measured"]
        assert loop.findings["promoted"].passed


def test_switched_off_everything_is_promoted_and_nothing_is_read(tmp_path):
    loop = Loop(tmp_path, enabled=False)
    worse, world = loop.iterate(1, rows=stops(outcomes(20, 40), outcomes(0, 40)), negatives=(10, 10))
    state, roles = loop.state(2)
    assert (roles["policy"].artifact_id, roles["world_model"].artifact_id) == (worse.artifact_id, world.artifact_id)
    assert not [role for role in roles if role.startswith("judged")]
    assert "promotion" not in state.metrics


def test_a_world_model_that_shows_success_where_the_robot_failed_is_refused(tmp_path):
    loop = Loop(tmp_path)
    policy, world = loop.iterate(1, rows=stops(outcomes(20, 40), outcomes(25, 40)), negatives=(6, 10))
    state, roles = loop.state(2)
    assert roles["world_model"].artifact_id == loop.base["pretrained_world_model"].artifact_id
    assert roles["judged_world_model"].artifact_id == world.artifact_id
    assert roles["world_model_metrics"].asset == "world_model_metrics"
    assert roles["policy"].artifact_id == policy.artifact_id
    assert "6 of 10 real failures" in state.metrics["promotion"]["world_model"]["reason"]
    again = Loop(tmp_path / "lenient", max_false_positive_rate=0.6)
    _, kept = again.iterate(1, negatives=(6, 10))
    assert again.state(2)[1]["world_model"].artifact_id == kept.artifact_id


def test_only_measurements_of_this_very_world_model_count(tmp_path):
    loop = Loop(tmp_path)
    _, world = loop.iterate(1, negatives=(0, 10))
    commit(
        loop.lake,
        "world_model_metrics",
        "gate|01",
        "world_model_metrics",
        {"world_model": world},
        lambda draft: draft.write_evaluations(
            [*shown("another one", 10, 10), *shown(world.content_digest, 10, 10, alpha=0.5)]
        ),
        force=True,
    )
    state, roles = loop.state(2)
    assert roles["world_model"].artifact_id == world.artifact_id
    assert state.metrics["promotion"]["world_model"]["measured"] is False


def test_what_nobody_measured_is_promoted_and_said_so(tmp_path):
    loop = Loop(tmp_path)
    # Failing on every start of the evaluation decides nothing: only validation starts do.
    bad = [{"task": "all", "metric": "success_rate", "trials": 40, "successes": 0, "value": 0.0}]
    candidate, _ = loop.iterate(1, evaluated=bad, rows=bad)
    state, roles = loop.state(2)
    assert roles["policy"].artifact_id == candidate.artifact_id
    said = state.metrics["promotion"]
    assert said["policy"]["measured"] is False
    assert "not measured" in said["policy"]["reason"]
    assert "passed on" in said["world_model"]["reason"], "the same weights under a new name"
    assert "judged_world_model" not in roles


def test_a_policy_passed_on_unchanged_needs_no_measurement(tmp_path):
    loop = Loop(tmp_path)
    loop.iterate(1, policy="base_policy", rows=stops(outcomes(20, 40), outcomes(0, 40)))
    state, roles = loop.state(2)
    assert "passed on" in state.metrics["promotion"]["policy"]["reason"]
    assert roles["policy"].location == loop.base["base_policy"].location


def test_a_policy_restarted_from_the_base_is_compared_with_the_one_it_would_replace(tmp_path):
    loop = Loop(tmp_path)
    good, _ = loop.iterate(1, rows=stops(outcomes(10, 40), outcomes(30, 40)))
    loop.iterate(2, rows=stops(outcomes(10, 40), outcomes(20, 40)), start=loop.base["base_policy"])
    state, roles = loop.state(3)
    assert roles["policy"].artifact_id == good.artifact_id, "better than the base, and worse than what there is"
    assert roles["incumbent_policy"].artifact_id == good.artifact_id
    assert state.metrics["promotion"]["policy"]["numbers"]["old"] == 0.75


def test_the_same_evidence_gives_the_same_state(tmp_path):
    loop = Loop(tmp_path)
    loop.iterate(1, rows=stops(outcomes(20, 40), outcomes(8, 40)), negatives=(6, 10))
    first, _ = loop.state(2)
    assert loop.make("loop_state", "gate|02").artifact_id == first.artifact_id
    assert loop.findings["promoted"].passed is False, "said again where it is reused"
    forced = loop.make("loop_state", "gate|02", force=True)
    assert forced.artifact_id != first.artifact_id
    assert forced.content_digest == first.content_digest
    assert would_make(loop.lake, "loop_state", "gate|02", recipes=loop.recipes).identity.digest == first.identity_digest
    loop.gate(margin=0.9)
    assert loop.state(2)[1]["policy"].asset == "policy", "another margin, another verdict"


def test_a_verdict_is_read_again_only_where_what_it_follows_from_has_changed(tmp_path, monkeypatch):
    loop, read = Loop(tmp_path), []
    rows, real = stops(outcomes(20, 40), outcomes(8, 40)), loop_state.evaluations
    monkeypatch.setattr(loop_state, "evaluations", lambda lake, ref: read.append(ref.asset) or real(lake, ref))

    def asked():
        read.clear()
        found = would_make(loop.lake, "loop_state", "gate|02", recipes=loop.recipes)
        return found.parents["policy"].asset, read

    loop.iterate(1, rows=rows, negatives=(6, 10))
    assert asked() == ("base_policy", ["policy", "world_model_metrics"]), "there is no state yet"
    made, _ = loop.state(2)
    assert asked() == ("base_policy", [])
    loop.make("loop_state", "gate|02", force=True)
    assert read, "force: all of it again"
    loop.gate(margin=0.9)
    assert asked() == ("policy", ["policy", "world_model_metrics"]), "another margin"
    loop.gate()
    assert asked() == ("base_policy", [])
    loop.iterate(1, rows=rows, start=loop.lake.ledger.require("policy", "gate|01"), negatives=(6, 10))
    assert asked() == ("policy", ["policy", "base_policy", "world_model_metrics"]), (
        "another policy, not trained from the base"
    )
    assert loop.make("loop_state", "gate|02").artifact_id != made.artifact_id
    assert asked() == ("policy", [])
    with monkeypatch.context() as patch:
        patch.setitem(STAGES, "loop_state", replace(STAGES["loop_state"], code="other code"))
        assert asked() == ("policy", ["policy", "base_policy", "world_model_metrics"]), "other code"


def test_the_question_in_sql(tmp_path):
    loop = Loop(tmp_path)
    worse, world = loop.iterate(1, rows=stops(outcomes(20, 40), outcomes(8, 40)), negatives=(2, 10))
    loop.iterate(2)
    loop.state(3)
    with connect(loop.lake) as query:
        rows = ask(query, "promotions", experiment="gate")
        assert [(r["iteration"], r["model"], r["promoted"], r["measured"]) for r in rows] == [
            (2, "policy", False, True),
            (2, "world_model", True, True),
            (3, "policy", True, False),
            (3, "world_model", True, False),
        ]
        policy, model = rows[:2]
        assert (policy["candidate"], policy["passed_on"]) == (
            worse.content_digest,
            loop.base["base_policy"].content_digest,
        )
        assert (policy["value"], policy["trials"], policy["high"]) == (pytest.approx(-0.3), 40, None)
        assert policy["low"] < -0.3
        assert (model["candidate"], model["passed_on"], model["trials"]) == (
            world.content_digest,
            world.content_digest,
            10,
        )
        assert model["low"] < model["value"] == 0.2 < model["high"]
        assert ask(query, "promotions", experiment="other") == []
        assert len(ask(query, "promotions", model="policy")) == 2
