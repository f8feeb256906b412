"""The policy updates: AWR's weights, RECAP's condition, stopping points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from walker import (
    BOTH,
    DSRL,
    ends,
    examples,
    observation,
    share_right,
    update,
    walks,
)

from vlaw_models.checkpoint import load_config, load_tensors
from vlaw_models.errors import VlawError
from vlaw_models.learners import advantages
from vlaw_models.learners.dsrl import Dsrl
from vlaw_models.learners.flow_matching import batch_shares
from vlaw_models.learners.stopping import Stops
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.pi0 import Pi0Policy


def test_values_advantages_and_weights_are_those_of_a_calculation_by_hand():
    value = advantages.values(
        [("stack", True), ("stack", False), ("stack", False), ("stack", False), ("book", True)],
        [("stack", True), ("erase", False)],
    )
    assert value == {"stack": 0.25, "book": 1.0, "erase": 0.0}
    advantage = advantages.advantages([1.0, 0.0, 0.75, 1.0], ["stack", "stack", "stack", "book"], value)
    np.testing.assert_allclose(advantage, [0.75, -0.25, 0.5, 0.0])
    # beta 0.5: e^1.5, e^-0.5, e^1, e^0, of mean 2.20149...
    by_hand = np.array([4.481689, 0.606531, 2.718282, 1.0])
    np.testing.assert_allclose(advantages.awr_weights(advantage, 0.5), by_hand / 2.2016255, rtol=1e-6)
    # beta 0.1: e^7.5 = 1808 is cut off at 20, and so is e^5 = 148.
    np.testing.assert_allclose(
        advantages.awr_weights(advantage, 0.1), np.array([20, 0.082085, 20, 1]) / 10.27052125, rtol=1e-5
    )
    assert advantages.awr_weights(advantage, 0.3).mean() == pytest.approx(1)
    assert advantages.positive([1.0, 0.0, 0.75, 1.0], advantage).tolist() == [True, False, True, True]
    assert advantages.positive([0.2, 0.9], np.array([-0.05, 0.0])).tolist() == [False, False]


def test_what_cannot_be_an_advantage_is_refused():
    with pytest.raises(VlawError, match="no real rollout of erase"):
        advantages.advantages([1.0], ["erase"], {"stack": 0.5})
    with pytest.raises(VlawError, match="not between 0 and 1"):
        advantages.advantages([1.5], ["stack"], {"stack": 0.5})
    with pytest.raises(VlawError, match="not between 0 and 1"):
        advantages.advantages([float("nan")], ["stack"], {"stack": 0.5})
    with pytest.raises(VlawError, match="beta"):
        advantages.awr_weights(np.array([0.5]), 0.0)


def test_weights_change_what_is_imitated(start, tmp_path):
    shares = {}
    for name, weights in (("equal", [1.0, 1.0]), ("right", [1.9, 0.1]), ("left", [0.1, 1.9])):
        update(start, tmp_path / name, examples(walks(BOTH), weights * 30), learner="awr")
        shares[name] = share_right(load_policy(tmp_path / name))
    assert shares["left"] < 0.25 < shares["equal"] < 0.75 < shares["right"]


def test_weights_of_imagined_episodes_count_too(start, tmp_path):
    imagined = examples(walks(BOTH, seed=1) * 9, [1.9, 0.1] * 270)
    update(start, tmp_path / "new", walks(BOTH), imagined=imagined, learner="awr", imagined_fraction=0.9)
    assert share_right(load_policy(tmp_path / "new")) > share_right(load_policy(start)) + 0.1


def test_a_few_imagined_successes_fill_neither_the_batches_nor_their_own_task():
    real, imagined = {"stack": 20, "book": 30, "erase": 5}, {"stack": 5, "book": 270, "draw": 2}
    shares = batch_shares(real, imagined, {}, imagined_fraction=0.75, rehearsal=0.5)
    assert shares == pytest.approx(
        {
            ("stack", 0): 0.2,
            ("stack", 1): 0.05,
            ("book", 0): 0.0625,
            ("book", 1): 0.1875,
            ("erase", 0): 0.25,
            ("draw", 1): 0.25,
        }
    )
    assert batch_shares({"stack": 3}, {}, {}, imagined_fraction=0.75, rehearsal=0.5) == {("stack", 0): 1.0}
    assert batch_shares({}, {"stack": 3}, {}, imagined_fraction=0.75, rehearsal=0.5) == {("stack", 1): 1.0}


def test_what_is_rehearsed_has_its_share_of_every_task_and_all_of_one_without_a_success():
    shares = batch_shares(
        {"stack": 6, "book": 5}, {"book": 15}, {"stack": 50, "draw": 50}, imagined_fraction=0.75, rehearsal=0.25
    )
    assert shares == pytest.approx(
        {
            ("stack", 0): 0.25,
            ("stack", 2): 0.25 / 3,
            ("book", 0): 0.25 / 3,
            ("book", 1): 0.25,
            ("draw", 2): 1 / 3,
        }
    )
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("frozen_encoder", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_what_is_rehearsed_is_not_forgotten(start, tmp_path, frozen_encoder):
    right = [episode for episode in walks(BOTH) if episode.actions[-1, 0] > 0]
    for name, options in (("new", {}), ("again", {"rehearsed": walks(BOTH), "rehearsal": 0.9})):
        update(start, tmp_path / name, right, frozen_encoder=frozen_encoder, **options)
    assert share_right(load_policy(tmp_path / "new")) > 0.9
    assert share_right(load_policy(tmp_path / "again")) < 0.75


@pytest.mark.parametrize("frozen_encoder", [True, False])
def test_a_policy_conditioned_on_a_positive_advantage_does_what_had_one(start, tmp_path, frozen_encoder):
    real = examples(walks(BOTH), positive=[True, False] * 30)
    update(start, tmp_path / "new", real, learner="recap", frozen_encoder=frozen_encoder)
    policy = load_policy(tmp_path / "new")
    assert policy.conditioned
    assert share_right(policy) > 0.8  # `sample` asks for positive
    seen = observation(100)
    state = torch.from_numpy(seen.state)
    context = policy.encode(
        torch.from_numpy(seen.images), policy.normalization.state(state), policy.tokenizer(["go"] * 100)
    )
    noise = policy.draw_noise(100, torch.Generator().manual_seed(2))
    with torch.no_grad():
        right = {
            sign: float(
                (ends(policy.chunk(policy.condition(context, torch.full((100,), sign)), noise, state), seen) > 0).mean()
            )
            for sign in (1, 0, -1)
        }
    assert right[1] > 0.9
    assert right[0] < 0.1
    assert 0.2 < right[-1] < 0.8  # given nothing: both, as in the data


def test_conditioning_changes_nothing_until_it_has_learned_and_old_checkpoints_load(start, tmp_path):
    plain, conditioned = load_policy(start), load_policy(start)
    assert not plain.conditioned
    assert "advantage" not in load_config(start)["sizes"]
    conditioned.condition_on_advantage()
    seen = observation(8)
    chunks = [p.sample(seen, ["go"] * 8, torch.Generator().manual_seed(0)) for p in (plain, conditioned)]
    assert np.array_equal(*chunks)
    with torch.no_grad():
        conditioned.advantage.weight.add_(0.3)
    conditioned.save(tmp_path / "conditioned")
    again = load_policy(tmp_path / "conditioned")
    assert torch.equal(again.advantage.weight, conditioned.advantage.weight)
    assert not np.array_equal(again.sample(seen, ["go"] * 8, torch.Generator().manual_seed(0)), chunks[0])


def test_a_policy_that_cannot_be_conditioned_says_so():
    with pytest.raises(VlawError, match="Pi0Policy cannot be conditioned"):
        Pi0Policy.condition_on_advantage(Pi0Policy.__new__(Pi0Policy))


class Evaluator:
    """An evaluator that gives out marks in turn and remembers whom it saw."""

    def __init__(self, *marks: int):
        self.marks, self.seen = marks, []

    def __call__(self, policy) -> dict[str, list[bool]]:
        mark = self.marks[len(self.seen)]
        self.seen.append({name: tensor.clone() for name, tensor in policy.state_dict().items()})
        return {"walk": [trial < mark for trial in range(4)], "run": [False]}


@pytest.mark.parametrize("kind", ["filtered", "awr", "recap", "dsrl"])
def test_the_best_stop_on_validation_is_kept_and_every_outcome_is_noted(start, played, tmp_path, kind):
    # In the order of training (the stops) and then, or before it, the start policy: see the first assertion.
    evaluator = Evaluator(4, 1, 3, 3)
    learner = DSRL if kind == "dsrl" else kind
    log = update(start, tmp_path / "new", played, learner=learner, evaluate=evaluator, stops=(6, 2, 4), steps=99)
    assert all(torch.equal(evaluator.seen[0][name], tensor) for name, tensor in load_tensors(start).items())
    assert len(log["losses"]) == 6
    assert log["stop"] == 4  # better than 2, as good as 6, earlier; the start policy is never chosen
    assert {stop: sum(found["walk"]) for stop, found in log["outcomes"].items()} == {0: 4, 2: 1, 4: 3, 6: 3}
    written = load_tensors(tmp_path / "new")
    assert all(torch.equal(written[name], tensor) for name, tensor in evaluator.seen[2].items())
    for other in (1, 3):
        assert any(not torch.equal(written[name], tensor) for name, tensor in evaluator.seen[other].items())


def test_without_stops_the_end_is_measured(start, played, tmp_path):
    log = update(start, tmp_path / "new", played, steps=3, evaluate=Evaluator(0, 0))
    assert log["stop"] == 3
    assert list(log["outcomes"]) == [0, 3]


def test_measuring_does_not_change_the_policy(start, played, tmp_path):
    update(start, tmp_path / "unseen", played, steps=5)
    update(
        start,
        tmp_path / "seen",
        played,
        steps=5,
        evaluate=lambda policy: {"walk": [share_right(policy, 3) > 0.5]},
    )
    assert (tmp_path / "seen" / "model.safetensors").read_bytes() == (
        tmp_path / "unseen" / "model.safetensors"
    ).read_bytes()


def test_stops_that_make_no_sense_are_refused(start, played, tmp_path):
    with pytest.raises(VlawError, match="nothing to choose"):
        update(start, tmp_path / "new", played, stops=(2, 4))
    with pytest.raises(VlawError, match="stopping point of 0"):
        Stops((0, 4), 9)
    with pytest.raises(VlawError, match="no validation trial"):
        update(start, tmp_path / "new", played, stops=(1,), evaluate=lambda _policy: {"walk": []})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["awr", "recap", "dsrl"])
def test_the_same_seed_gives_the_same_checkpoint_and_another_another(start, played, tmp_path, kind):
    real = examples(played, [1.5, 0.5] * 100, [True, False] * 100)
    learner = Dsrl(steps=4, batch_size=8) if kind == "dsrl" else kind
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        update(start, tmp_path / name, real, learner=learner, steps=4, seed=seed)
    one, two, three = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three
    assert (tmp_path / "one" / "config.json").read_bytes() == (tmp_path / "two" / "config.json").read_bytes()
