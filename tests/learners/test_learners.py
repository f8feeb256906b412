"""The policy updates: AWR's weights, RECAP's condition, DSRL's noise, stopping points. A toy robot that goes left or
right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from vlaw_models.checkpoint import load_config, load_tensors
from vlaw_models.config import PolicyConfig
from vlaw_models.episodes import Episode, Observation
from vlaw_models.errors import VlawError
from vlaw_models.learners import advantages
from vlaw_models.learners import policy as policy_update
from vlaw_models.learners.base import Examples, load_learner
from vlaw_models.learners.dsrl import Dsrl, Transitions
from vlaw_models.learners.flow_matching import batch_shares, train_policy
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.learners.stopping import Stops
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.noise_policy import NoisePolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.pi0 import Pi0Policy
from vlaw_models.policies.tokenize import InstructionTokenizer

SIZES = {
    "image_size": 16,
    "cameras": 1,
    "channels": [8, 8, 4],
    "camera_features": 16,
    "text_features": 16,
    "context": 48,
    "head_width": 64,
    "head_blocks": 2,
    "shift": 0,
    "regression": 0.0,
}
STEPS, STRIDE = 4, 0.05
PICTURE = np.full((STEPS + 1, 1, 16, 16, 3), 120, dtype=np.uint8)
FAST = {"batch_size": 64, "learning_rate": 3e-3, "ema": 0.95}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def walk(side: int, start: float, number: int = 0) -> Episode:
    """STEPS steps to the left (-1) or to the right (1)."""
    x = start + side * STRIDE * np.arange(STEPS + 1)
    states = np.stack([x, np.zeros_like(x)], axis=1).astype(np.float32)
    return Episode(
        task="walk", instruction="go", seed=number, images=PICTURE, states=states, actions=states[1:], success=side > 0
    )


def walks(sides: Sequence[int], seed: int = 0) -> list[Episode]:
    starts = np.random.default_rng(seed).uniform(-0.1, 0.1, size=len(sides))
    return [walk(side, start, number) for number, (side, start) in enumerate(zip(sides, starts, strict=True))]


BOTH = [1, -1] * 30


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint that goes either way, as its noise will have it."""
    data = walks(BOTH)
    statistics = Normalization.fit([e.states for e in data], [e.actions for e in data], chunk_size=STEPS, absolute=())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = FlowPolicy(
            InstructionTokenizer.from_instructions(["go"], length=2), statistics, execute_steps=STEPS, **SIZES
        )
    train_policy(
        policy, data, LoopConfig(steps=200, learning_rate=3e-3, ema=0.97, bfloat16=False), batch_size=64, seed=1
    )
    return policy.save(tmp_path_factory.mktemp("walker") / "start")


def observation(count: int) -> Observation:
    x = np.linspace(-0.1, 0.1, count)
    return Observation(PICTURE[:1].repeat(count, axis=0), np.stack([x, 0 * x], axis=1).astype(np.float32))


def ends(chunks: np.ndarray, seen: Observation) -> np.ndarray:
    """How far each chunk went, in strides to the right."""
    return (chunks[:, -1, 0] - seen.state[:, 0]) / STRIDE


def share_right(policy, count: int = 200, noise_scale: float = 1.0) -> float:
    seen = observation(count)
    chunks = policy.sample(seen, ["go"] * count, torch.Generator().manual_seed(5), noise_scale)
    return float((ends(chunks, seen) > 2).mean())


def examples(episodes, weights=None, positive=None) -> Examples:
    equal = Examples.equal(list(episodes))
    return Examples(equal.episodes, weights or equal.weights, positive or equal.positive)


def update(start, out, real, *, imagined=(), learner="filtered", evaluate=None, seed=3, **settings) -> dict:
    learner = load_learner(learner, where="a test") if isinstance(learner, str) else learner
    cfg = PolicyConfig(**{"steps": 80, **FAST, **settings})
    real, imagined = (e if isinstance(e, Examples) else examples(e) for e in (real, imagined))
    return policy_update.update_policy(start, learner, real, imagined, cfg, out, seed=seed, evaluate=evaluate)


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
    shares = batch_shares({"stack": 20, "book": 30, "erase": 5}, {"stack": 5, "book": 270, "draw": 2}, 0.75)
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
    assert batch_shares({"stack": 3}, {}, 0.75) == {("stack", 0): 1.0}
    assert batch_shares({}, {"stack": 3}, 0.75) == {("stack", 1): 1.0}


@pytest.mark.parametrize("frozen_encoder", [True, False])
def test_a_policy_told_that_its_advantage_is_positive_does_what_had_one(start, tmp_path, frozen_encoder):
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
            told: float(
                (ends(policy.chunk(policy.condition(context, torch.full((100,), told)), noise, state), seen) > 0).mean()
            )
            for told in (1, 0, -1)
        }
    assert right[1] > 0.9
    assert right[0] < 0.1
    assert 0.2 < right[-1] < 0.8  # told nothing: both, as in the data


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


@pytest.fixture(scope="module")
def played(start) -> list[Episode]:
    """What the start policy does from 200 places: going right is a success."""
    policy, seen = load_policy(start), observation(200)
    chunks = policy.sample(seen, ["go"] * 200, torch.Generator().manual_seed(9))
    episodes = []
    for number, (state, chunk) in enumerate(zip(seen.state, chunks, strict=True)):
        states = np.concatenate([state[None], chunk]).astype(np.float32)
        episodes.append(
            Episode(
                task="walk",
                instruction="go",
                seed=number,
                images=PICTURE,
                states=states,
                actions=states[1:],
                success=bool(chunk[-1, 0] - state[0] > 2 * STRIDE),
            )
        )
    assert 0.25 < np.mean([e.success for e in episodes]) < 0.75
    return episodes


DSRL = Dsrl(steps=120, batch_size=64, learning_rate=3e-3)


def dsrl(start, out, episodes, learner=DSRL) -> dict:
    return update(start, out, episodes, learner=learner, seed=4)


@pytest.fixture(scope="module")
def steered(start, played, tmp_path_factory):
    out = tmp_path_factory.mktemp("steered") / "new"
    dsrl(start, out, played)
    return out


def test_dsrl_finds_the_noise_that_succeeds_and_leaves_the_policy_as_it_was(start, steered):
    policy = load_policy(steered)
    assert isinstance(policy, NoisePolicy)
    assert share_right(load_policy(start)) < 0.75
    assert share_right(policy) > 0.9
    before, after = load_tensors(start), load_tensors(steered)
    assert all(torch.equal(after[f"base.{name}"], tensor) for name, tensor in before.items())
    # noise_scale 0 takes the chance out of it; the mean stays within its bound.
    seen = observation(50)
    still = [policy.sample(seen, ["go"] * 50, torch.Generator().manual_seed(seed), 0.0) for seed in (1, 2)]
    assert np.array_equal(*still)
    mean, _ = policy.noise(torch.randn(64, SIZES["context"], generator=torch.Generator().manual_seed(0)))
    assert mean.abs().max() <= DSRL.noise_bound


def test_every_transition_leads_to_an_outcome(start):
    """Chunks of 2 in episodes of 4: behind those from step 1 and 2 there is no whole chunk, so they get the outcome."""
    base = load_policy(start)
    base.execute_steps = 2
    data = Transitions.of(base, [walk(1, 0.0), walk(-1, 0.0)])
    assert data.begin.tolist() == [0, 1, 2, 4, 5, 6]
    assert data.ended.tolist() == [False, True, True] * 2
    assert data.reward.tolist() == [0, 1, 1, 0, 0, 0]
    assert set(data.following[~data.ended].tolist()) <= set(data.begin.tolist()), (
        "no value is asked for that is never learned"
    )


def test_it_is_the_outcome_that_decides_which_noise_that_is(start, played, tmp_path):
    flipped = [dataclasses.replace(episode, success=not episode.success) for episode in played]
    dsrl(start, tmp_path / "left", flipped)
    assert share_right(load_policy(tmp_path / "left")) < 0.15


def test_an_untrained_noise_policy_is_the_policy_it_wraps(start, tmp_path):
    base = load_policy(start)
    wrapped = NoisePolicy(load_policy(start), noise_bound=1.5)
    wrapped.save(tmp_path / "wrapped")
    seen = observation(8)
    for scale in (1.0, 0.5):
        chunks = [
            p.sample(seen, ["go"] * 8, torch.Generator().manual_seed(0), scale)
            for p in (base, wrapped, load_policy(tmp_path / "wrapped"))
        ]
        assert np.array_equal(chunks[0], chunks[1])
        assert np.array_equal(chunks[1], chunks[2])


def test_dsrl_learns_on_from_a_noise_policy_and_no_other_update_does(steered, played, tmp_path):
    dsrl(steered, tmp_path / "two", played, dataclasses.replace(DSRL, steps=10))
    one, two = load_tensors(steered), load_tensors(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) == name.startswith("base.") for name in one)
    assert share_right(load_policy(tmp_path / "two")) > 0.9
    with pytest.raises(VlawError, match=r"policy\.learner does not fit NoisePolicy"):
        update(steered, tmp_path / "three", played, steps=2)
    assert not (tmp_path / "three").exists()


def test_dsrl_refuses_what_it_cannot_learn_from(start, played, tmp_path):
    unjudged = walk(1, 0.0)
    unjudged.success = None
    with pytest.raises(VlawError, match="no outcome"):
        dsrl(start, tmp_path / "new", [unjudged])
    short = walk(1, 0.0)
    short.images, short.states, short.actions = short.images[:3], short.states[:3], short.actions[:2]
    with pytest.raises(VlawError, match="steps of a chunk"):
        dsrl(start, tmp_path / "new", [short])
    assert not (tmp_path / "new").exists()


class Evaluator:
    """An evaluator that gives out marks in turn and remembers whom it saw."""

    def __init__(self, *marks: int):
        self.marks, self.seen = marks, []

    def __call__(self, policy) -> dict[str, list[bool]]:
        mark = self.marks[len(self.seen)]
        self.seen.append({name: tensor.clone() for name, tensor in policy.state_dict().items()})
        return {"walk": [trial < mark for trial in range(4)], "run": [False]}


@pytest.mark.parametrize("kind", ["filtered", "awr", "recap", "dsrl"])
def test_the_best_stop_on_validation_is_kept_and_every_outcome_told(start, played, tmp_path, kind):
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
