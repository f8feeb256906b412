"""What a policy update rehearses: which episodes, whose, and that every answer about the policy covers them."""

from __future__ import annotations

from collections import Counter

import pytest
import small_loop
from every_answer import check_every_answer
from one_stage import Bench
from small_loop import ACCEPTED, EXPERT, REAL, TASKS, commit, episodes

from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lake.quarantine import add
from vlaw_assets.lineage.impact import impact
from vlaw_assets.rebuild.staleness import ask, differences
from vlaw_models.learners import policy as policy_update

FIRST, SECOND = "again|01", "again|02"
WON = REAL // 2 * len(TASKS)
"""Real successes of an iteration."""


REHEARSES = {
    "policy": {"rehearsal": 0.25, "steps": 2, "validation_per_task": 0},
    "score": {"alpha": small_loop.ALPHA},
    "promotion": {"enabled": False},
}


@pytest.fixture(scope="module")
def lake_of_two(tmp_path_factory):
    """Iteration 01 of a recipe that rehearses, and 02 up to its scores."""
    made = Bench(tmp_path_factory.mktemp("place"))
    base = small_loop.foundation(made.lake)
    commit(
        made.lake,
        "expert_demonstrations",
        "",
        "scripted_episodes",
        {},
        lambda draft: draft.write_episodes(episodes(EXPERT, seed=7), purpose="demonstration", world="tabletop"),
        recipe={"purpose": "demonstration"},
    )
    made.recipe("again", **REHEARSES)
    before = small_loop.iteration(made.lake, base, {}, FIRST)
    commit(made.lake, "loop_state", FIRST, "loop_state", {"policy": base["base_policy"]}, lambda draft: None)
    made.make("loop_state", SECOND)
    small_loop.iteration(made.lake, base, before, SECOND)
    return made


@pytest.fixture
def asked(monkeypatch):
    """What the policy's update was last asked."""
    found = {}

    def update(start_dir, learner, real, imagined, settings, out_dir, **more):
        found.update(more, real=real, imagined=imagined, settings=settings)
        (out_dir / "config.json").write_text("{}")
        return {"losses": [0.5, 0.4], "seconds": 0.1}

    monkeypatch.setattr(policy_update, "update_policy", update)
    return found


@pytest.fixture
def bench(lake_of_two):
    """With the recipe that rehearses, whatever a test before has made of it."""
    lake_of_two.recipe("again", **REHEARSES)
    return lake_of_two


def members(bench) -> list[dict]:
    return bench.lake.read(bench.make("training_set", SECOND)).members().to_pylist()


def test_demonstrations_and_earlier_imagined_successes_are_rehearsed_and_every_answer_has_them(bench, asked):
    found = members(bench)
    assert Counter(row["source"] for row in found) == {
        "real": 2 * WON,
        "imagined": ACCEPTED * len(TASKS),
        "rehearsed": (ACCEPTED + EXPERT // 2) * len(TASKS),
    }
    owners = {row["owner"] for row in found if row["source"] == "rehearsed"}
    assert {bench.lake.ledger.get(owner).name for owner in owners} == {
        "expert_demonstrations",
        "imagined_rollouts[again|01]",
    }
    assert {row["weight"] for row in found} == {1.0}
    made = bench.make("policy", SECOND)
    assert len(asked["rehearsed"].episodes) == (ACCEPTED + EXPERT // 2) * len(TASKS)
    assert len(asked["real"].episodes) == 2 * WON
    assert made.metrics["rehearsed"] == (ACCEPTED + EXPERT // 2) * len(TASKS)
    assert {role for role, _ in bench.lake.ledger.edges(made.owner) if role.startswith("rehearsed")} == {
        "rehearsed_demonstrations",
        "rehearsed_imagined_rollouts_01",
    }
    check_every_answer(bench.lake, "policy", SECOND)


def reached(bench, name) -> dict[str, str]:
    return {item.ref.name: item.how for item in impact(bench.lake, name)}


@pytest.mark.parametrize(
    ("policy", "roles"),
    [
        ({"rehearsal": 0.0}, set()),
        ({"rehearse": "imagined"}, {"rehearsed_imagined_rollouts_01", "rehearsed_reward_scores_01"}),
        ({"learner": "dsrl"}, set()),  # it fits no flow: there is nothing to draw from
        ({"start": "base"}, {"rehearsed_demonstrations"}),  # which has learned from nothing imagined
    ],
)
def test_what_is_not_rehearsed_is_not_read(bench, policy, roles):
    bench.recipe("again", policy={"rehearsal": 0.25, **policy}, promotion={"enabled": False})
    made = bench.make("training_set", SECOND)
    found = {role for role, _ in bench.lake.ledger.edges(made.owner) if role.startswith("rehearsed")}
    assert found == roles


def test_what_was_imagined_for_a_refused_policy_is_not_rehearsed(bench):
    kept = bench.lake.ledger.require("loop_state", SECOND)
    parents = {**dict(bench.lake.ledger.edges(kept.owner)), "policy": bench.lake.ledger.require("base_policy", "")}
    commit(bench.lake, "loop_state", SECOND, "loop_state", parents, lambda draft: None)
    assert {row["owner"] for row in members(bench) if row["source"] == "rehearsed"} == {
        bench.lake.ledger.require("expert_demonstrations", "").owner
    }
    bench.make("loop_state", SECOND)


def test_rehearsal_alone_is_no_update(bench, asked):
    bench.recipe("again", policy={"rehearsal": 0.25, "use_real": False}, score={"alpha": 0.85})
    members(bench)
    made = bench.make("policy", SECOND)
    assert made.metrics["passed_on"]
    assert not asked


def test_what_is_quarantined_or_called_a_failure_is_not_rehearsed_and_what_had_it_is_stale(bench, asked):
    rehearsed = [row for row in members(bench) if row["source"] == "rehearsed"]
    bench.make("policy", SECOND)
    shown, dreamt = rehearsed[-1]["episode_id"], rehearsed[0]["episode_id"]
    assert {"training_set[again|02]": "rows", "policy[again|02]": "whole"}.items() <= reached(bench, shown).items()
    assert {"training_set[again|02]", "policy[again|02]"} <= reached(bench, dreamt).keys()
    add(bench.lake, [shown], why="spilled", by="ann")
    label_episodes(bench.lake, [(dreamt, "failure", "ann", "slid")])
    current = bench.lake.ledger.require("training_set", SECOND)
    reasons = " ".join(differences(bench.lake, current, ask(bench.lake, "training_set", SECOND, recipes=bench.recipes)))
    assert "quarantine" in reasons
    assert "label" in reasons
    assert {row["episode_id"] for row in rehearsed} - {row["episode_id"] for row in members(bench)} == {shown, dreamt}
