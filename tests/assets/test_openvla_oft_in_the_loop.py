"""An OpenVLA-OFT policy in World-VLA-Loop at the smallest size: it imitates the lake's demonstrations, is the base
policy, and learns by GRPO on its action tokens inside a world model with a reward head."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from asking import at
from documents import ROOT, blocks
from every_answer import check_every_answer
from factories import edit_toml, write_recipe
from golden_openvla import publish, weights
from one_stage import Bench
from smoke_place import UP_TO_POLICY, smoke_copy, smoke_place
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake
from vlaw_assets.lake.quarantine import add, release
from vlaw_assets.lineage.closure import audit_of, short
from vlaw_assets.recipes import find_recipe
from vlaw_assets.recipes.fit import check_learner
from vlaw_models.checkpoint import load_config
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import load_policy

SMALL = ["--steps", "4", "--batch-size", "4"]
LOOP = {
    "extends": "smoke",
    "iterations": 1,
    "imagine": {"share": 0.0, "num_steps": 8},
    "promotion": {"enabled": False},
    "world_model": {"reward_weight": 1.0, "state_weight": 1.0, "steps": 2, "batch_size": 2},
    "policy": {"learner": "grpo", "start": "base", "frozen_encoder": False, "stops": [1, 2], "validation_per_task": 1},
    "grpo": {
        "groups": 2,
        "group_size": 2,
        "minibatch": 8,
        "learning_rate": 1e-3,
        "temperature": 1.6,
        "graded": True,  # of heads that have learned nothing
        "least_success": 0.0,
        "most_success": 1.0,
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    smoke_place(tmp_path_factory)
    return smoke_copy(tmp_path_factory.mktemp("oft"))


@pytest.fixture
def asked(place, monkeypatch, tmp_path):
    """Runs a command at the place."""
    at(monkeypatch, tmp_path, place.environment())
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


def imitated(asked, *words):
    done = asked("weights", "imitate", *words, *SMALL)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_it_is_finetuned_on_the_demonstrations_and_learns_by_grpo_in_the_world_model(place, asked, tmp_path):
    said = imitated(asked, "openvla-oft")
    folder = tmp_path / "weights" / "openvla-oft"
    assert "base_policy: weights/openvla-oft\n  a OpenVlaOftPolicy; 5 episodes of expert_demonstrations" in said
    demonstrations = place.lake.ledger.require("expert_demonstrations", "")
    record = json.loads((folder / "training.json").read_text())
    assert (record["demonstrations"], record["episodes"]) == (demonstrations.content_digest, 5)

    bench = Bench(place.root)
    edit_toml(bench.recipes / "foundation.toml", weights={"base_policy": str(folder)})
    write_recipe(bench.recipes, "oft", None, **LOOP)
    base = bench.make("base_policy", "")
    made = {asset: bench.make(asset, "oft|01") for asset in UP_TO_POLICY}["policy"]
    assert dict(bench.lake.ledger.edges(made.owner))["policy"] == base
    before, after = (load_policy(bench.lake.read(ref).checkpoint()) for ref in (base, made))
    assert type(after).__name__ == load_config(folder)["class"] == "OpenVlaOftPolicy"
    words = "language_model.model.layers.0.self_attn.q_proj.weight"
    assert made.metrics["stop"] in (1, 2)
    assert not torch.equal(before.state_dict()[words], after.state_dict()[words])
    assert len(made.metrics["rl_steps"]) == 2
    assert any(loss != 0 for loss in made.metrics["losses"])
    rows = bench.lake.read(made).table("episodes").to_pylist()
    assert {row["policy"] for row in rows} == {base.content_digest}
    assert short(audit_of(bench.lake, made)).endswith("its own update learned from: 8 imagined")
    check_every_answer(bench.lake, "policy", "oft|01")


@pytest.mark.slow
def test_it_begins_with_the_published_weights(place, asked, tmp_path):
    publish(tmp_path / "openvla-7b")
    words = ("openvla-oft", "--weights", "openvla-7b", "--preset", "toy", "--steps", "2", "--batch-size", "4")
    done = asked("weights", "imitate", *words, "--out", "same", "--learning-rate", "0")
    assert done.exit_code == 0, done.output
    assert "missing: 0, unknown: 0" in done.output
    assert "new: 1 (never read)" in done.output
    record = json.loads((tmp_path / "same" / "training.json").read_text())
    assert "vision_backbone.featurizer.cls_token" in record["weights"]["renamed"]
    same, given = load_policy(tmp_path / "same").state_dict(), weights("model")
    for name in ("projector.fc1.weight", "language_model.model.norm.weight"):
        torch.testing.assert_close(same[name], given[name])
    assert asked("weights", "imitate", *words, "--out", "learned", "--lora-rank", "2", "--recompute").exit_code == 0
    learned = load_policy(tmp_path / "learned")
    assert not torch.equal(learned.state_dict()["projector.fc1.weight"], given["projector.fc1.weight"])
    (ids,) = learned.read(["Stack it"], None).tolist()
    assert ids[0] == 1, "Llama's words, of the published folder"
    assert "a OpenVlaOftPolicy" in asked("weights", "check", "learned").output


@pytest.mark.slow
def test_it_goes_on_from_a_folder_and_leaves_out_what_is_in_quarantine(place, asked, tmp_path):
    imitated(asked, "openvla-oft-l1", "--out", "first")
    name = place.lake.read(place.lake.ledger.require("expert_demonstrations", "")).table("episodes").to_pylist()[0]
    add(place.lake, [name["episode_id"]], why="a test", by="ann")
    try:
        said = imitated(asked, "first", "--out", "second", "--seed", "1")
    finally:
        release(place.lake, [name["episode_id"]], why="a test", by="ann")
    assert "a OpenVlaOftL1Policy; 4 episodes" in said
    first, second = (load_policy(tmp_path / one) for one in ("first", "second"))
    assert np.array_equal(first.normalization.action_low, second.normalization.action_low), "statistics stay"
    assert not torch.equal(first.action_head.leave[1].weight, second.action_head.leave[1].weight)


def test_the_pages_recipe_updates_such_a_policy_and_the_packaged_one_says_what_to_change(tmp_path):
    page = ROOT / "docs" / "extending.md"
    (text,) = (block.text for _, block in blocks(page) if block.text.startswith('name = "world_vla_loop_oft"'))
    (tmp_path / "world_vla_loop_oft.toml").write_text(text)
    check_learner(find_recipe("world_vla_loop_oft", tmp_path), "OpenVlaOftPolicy")
    with pytest.raises(VlawError, match=r"policy\.learner = 'grpo' has temperature 0"):
        check_learner(find_recipe("world_vla_loop"), "OpenVlaOftPolicy")


@pytest.mark.parametrize(
    ("words", "says", "remedy"),
    [
        (("openvla",), "there is no policy 'openvla'", "openvla-oft, openvla-oft-l1"),
        (("openvla-oft", "--preset", "small"), "there is no preset 'small' of openvla-oft", "tiny, paper"),
        (("flow", "--out", "full"), "there is something already", "--out"),
        (("flow", "--weights", "full"), "flow does not begin with OpenVLA's weights", "openvla-oft"),
        (("openvla-oft", "--weights", "full"), "the published configuration cannot be read", "config.json"),
    ],
)
def test_what_cannot_be_made_is_refused(asked, tmp_path, words, says, remedy):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    done = asked("weights", "imitate", *words)
    assert done.exit_code == 2
    assert says in done.output
    assert remedy in done.output
    assert not (tmp_path / "weights").exists()


@pytest.mark.slow
def test_demonstrations_that_are_not_there_are_made_first_and_nothing_else(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    imitated(asked, "flow", "--out", "mine")
    lake = Lake.open(tmp_path / "lake", create=False)
    assert {ref.asset for ref in lake.ledger.artifacts()} == {"expert_demonstrations"}
    assert load_config(tmp_path / "mine")["class"] == "FlowPolicy"
