"""Batches of a training: the same whether it reads them itself or other processes do, of which none is left behind."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from contextlib import contextmanager
from dataclasses import astuple
from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch
from factories import commit, episode
from reading import DAMAGED, as_told, each
from toy_world_models import SMALL

from vlaw_assets.lake import Lake
from vlaw_models import presets
from vlaw_models.autoencoders.folded_pixels import FoldedPixels, FoldedPixelsConfig
from vlaw_models.config import PolicyConfig, RewardModelConfig, WorldModelConfig
from vlaw_models.errors import VlawError
from vlaw_models.learners import batches as module
from vlaw_models.learners import world_model
from vlaw_models.learners.base import Examples, load_learner
from vlaw_models.learners.batches import Batches
from vlaw_models.learners.policy import update_policy
from vlaw_models.learners.reward_model import Clips, finetune_reward_model
from vlaw_models.learners.world_model import finetune_world_model
from vlaw_models.policies.data import MixedData, StepData
from vlaw_models.pretrain.untrained import build_untrained
from vlaw_models.reward_models.base import frame_indices, load_reward_model
from vlaw_models.robots.registry import find_robot
from vlaw_models.sources import MemoryEpisodes, ScratchEpisodes, portable
from vlaw_models.threads import WORKERS, workers
from vlaw_models.world_models.chunk_unet import ChunkUNet
from vlaw_models.world_models.latents import Runs, encode_episodes

STEPS, TRAINED = 5, 3


def batches(draw, take, steps, *, portable):
    """Whole batches, whatever a choice is."""
    return Batches(1, draw, take, portable).read(steps, [(0, 1)], device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def _nobody_is_left(monkeypatch):
    monkeypatch.delenv(WORKERS, raising=False)
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture(scope="module")
def robot():
    return find_robot("droid", where="a test")


@pytest.fixture(scope="module")
def lake(tmp_path_factory, robot):
    """Two episodes of noise of the toy preset's robot."""
    lake, rng = Lake.open(tmp_path_factory.mktemp("batches") / "lake", create=True), np.random.default_rng(0)
    low, high = map(np.array, robot.state.scale)
    found = []
    for number in range(2):
        states = rng.uniform(low, high, (12, len(low))).astype(np.float32)
        found.append(
            episode(
                "move",
                number,
                success=bool(number),
                cameras=robot.camera_names,
                size=(48, 80),
                noise=rng,
                states=states,
                actions=states[1:, : len(robot.action)],
            )
        )
    commit(lake, "real_rollouts", write=lambda draft: draft.write_episodes(found, purpose="rollout", world="lab"))
    return lake


def source(lake):
    return lake.read(lake.ledger.require("real_rollouts", "")).source()


@pytest.fixture(scope="module")
def models(tmp_path_factory, lake, robot):
    """Untrained models of published classes, toy size: all of them read pictures for each batch."""
    folder = tmp_path_factory.mktemp("models")
    for kind in presets.MODELS:
        build_untrained(kind, "toy", list(source(lake)), folder / kind, robot=robot, seed=0)
    return folder


def arrays(batch) -> list:
    """All arrays of a batch, whatever holds them."""
    if isinstance(batch, np.ndarray):
        return [batch]
    if isinstance(batch, (list, tuple)):
        return list(chain.from_iterable(map(arrays, batch)))
    return arrays(astuple(batch)) if hasattr(batch, "__dataclass_fields__") else [batch]


def equal(one, other) -> bool:
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=getattr(a, "dtype", None) == np.float32) for a, b in pairs)


@contextmanager
def all_batches(lake, models):
    """Of every learner that reads for each batch: windows of a policy, of a world model, the same to be unrolled, clips
    of a reward model."""
    episodes, rng = list(source(lake)), np.random.default_rng(7)
    steps = MixedData([StepData.from_episodes(episodes), StepData.from_episodes(episodes[:1])], [0.7, 0.3])
    torch.manual_seed(0)
    world, judge = ChunkUNet(SMALL), load_reward_model(models / "reward_model")
    folded = FoldedPixels(FoldedPixelsConfig(fold=4))
    latents, clips = encode_episodes(folded, episodes, when_drawn=True), Clips(judge, episodes)

    plain, unrolled = (Runs(latents, world, 3, rng, unroll) for unroll in (0, 2))

    def draw():
        picked = rng.permutation(2).tolist()
        return [
            steps.choose(rng, 6),
            [plain()],
            [unrolled()],
            [[(index, frame_indices(12, judge.num_frames, rng)) for index in picked]],
        ]

    read = partial(world_model.read_windows, [latents.stored])
    take = partial(each, [partial(steps.at, chunk_size=4), read, read, clips.at])
    assert steps.portable
    assert latents.stored.portable
    assert clips.portable
    with batches(draw, take, STEPS, portable=True) as found:
        yield found


@pytest.mark.slow  # weights, below, are of the same batches
@pytest.mark.parametrize("count", [1, 2])
def test_batches_are_the_same_for_any_number_of_processes(lake, models, monkeypatch, count):
    with all_batches(lake, models) as found:
        expected = list(found)
    assert len(expected) == STEPS
    assert not equal(expected[0], expected[1])
    monkeypatch.setenv(WORKERS, str(count))
    with all_batches(lake, models) as found:
        first = next(found)
        assert len(multiprocessing.active_children()) == count
        rest = list(found)
    assert all(equal(one, other) for one, other in zip(expected, [first, *rest], strict=True))


def test_what_goes_wrong_in_another_process_is_told_and_ends_it(monkeypatch):
    monkeypatch.setenv(WORKERS, "1")
    choices, state = iter(["read", "damaged", "read", "killed", "read"]), torch.get_rng_state()

    def use() -> None:
        with batches(lambda: next(choices), as_told, 5, portable=True) as found:
            assert next(found) == "read"
            with pytest.raises(VlawError) as raised:
                next(found)
            assert (str(raised.value), vars(raised.value)) == (str(DAMAGED), vars(DAMAGED))
            assert next(found) == "read"
            next(found)

    with pytest.raises(VlawError, match="a process that reads batches has ended") as ended:
        use()
    assert f"{WORKERS}=0" in ended.value.remedy
    assert multiprocessing.active_children() == []
    assert torch.equal(torch.get_rng_state(), state), "dropout draws from it"


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("the step failed")])
def test_a_training_that_ends_early_leaves_no_process(monkeypatch, error):
    """Though the traceback of the error is still there, and what it holds."""
    monkeypatch.setenv(WORKERS, "2")

    def use() -> None:
        with batches(lambda: "read", as_told, 50, portable=True) as found:
            next(found)
            assert len(multiprocessing.active_children()) == 2
            raise error

    with pytest.raises(type(error)) as raised:
        use()
    assert raised.value is error
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_frames_damaged_meanwhile_are_told_as_they_are_here(lake, monkeypatch, tmp_path):
    own, episodes = Lake.open(tmp_path / "lake", create=True), [source(lake).loaded(index) for index in range(2)]
    ref = commit(
        own, "real_rollouts", write=lambda draft: draft.write_episodes(episodes, purpose="rollout", world="lab")
    )
    data, rng = StepData.from_episodes(list(own.read(ref).source())), np.random.default_rng(0)
    path = own.paths.root / ref.versions["frames"]["files"][0]["path"]
    path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setenv(WORKERS, "1")
    read = batches(lambda: data.choose(rng, 2), partial(data.at, chunk_size=2), 3, portable=data.portable)
    with read as given, pytest.raises(VlawError, match="frames cannot be read"):
        next(given)


def learned(models, episodes, out) -> dict[str, bytes]:
    """The weights of all models after a few steps."""
    data = Examples.equal(episodes)
    settings = PolicyConfig(steps=TRAINED, batch_size=4, stops=(), frozen_encoder=False)
    update_policy(
        models / "base_policy", load_learner("filtered", where="a test"), data, data, settings, out / "policy", seed=1
    )
    finetune_world_model(
        models / "world_model",
        models / "autoencoder",
        episodes,
        episodes,
        WorldModelConfig(steps=TRAINED, batch_size=4, unroll=1),
        out / "world_model",
        seed=1,
    )
    finetune_reward_model(
        models / "reward_model", episodes, RewardModelConfig(steps=TRAINED, batch_size=2), out / "reward_model", seed=1
    )
    return {path.parent.name: path.read_bytes() for path in out.glob("*/model.safetensors")}


@pytest.mark.slow
def test_nothing_but_the_choice_draws_from_its_random_numbers(lake, models, tmp_path, monkeypatch):
    """All choices are made before the first step, as other processes would have it, and read in another order."""
    episodes = list(source(lake))
    expected = learned(models, episodes, tmp_path / "one by one")
    read: list[int] = []

    @contextmanager
    def at_once(self: Batches, steps: int, *_options, **_named):
        chosen = [self.draw() for _ in range(steps)]
        found = [self.take(choice) for choice in reversed(chosen)]
        read.append(len(found))
        yield reversed(found)

    monkeypatch.setattr(Batches, "read", at_once)
    assert learned(models, episodes, tmp_path / "at once") == expected
    assert read == [TRAINED] * 3
    assert len(expected) == 3


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_weights_are_the_same_for_any_number_of_processes(lake, models, tmp_path, monkeypatch, count):
    episodes, asked = list(source(lake)), []
    expected = learned(models, episodes, tmp_path / "none")

    def counting(device: str) -> int:
        asked.append(workers(device))
        return asked[-1]

    monkeypatch.setattr(module, "workers", counting)
    monkeypatch.setenv(WORKERS, str(count))
    assert learned(models, episodes, tmp_path / "some") == expected
    assert len(asked) >= 2
    assert set(asked) == {count}


def test_what_is_in_memory_is_read_here(lake, monkeypatch):
    stored, scratch = source(lake), ScratchEpisodes()
    scratch.append(stored.loaded(index) for index in range(2))
    memory = MemoryEpisodes([stored.loaded(index) for index in range(2)])
    assert portable([found.images for found in stored])
    for other in (memory, scratch):
        assert not portable([found.images for found in other])
        assert not MixedData(
            [StepData.from_episodes(list(stored)), StepData.from_episodes(list(other))], [0.5, 0.5]
        ).portable
        assert not encode_episodes(FoldedPixels(), list(other), when_drawn=True).stored.portable
    monkeypatch.setenv(WORKERS, "2")
    with batches(lambda: 1, abs, 2, portable=False) as found:
        assert list(found) == [1, 1]
        assert multiprocessing.active_children() == []


def test_an_error_for_people_survives_pickling():
    again = pickle.loads(pickle.dumps(DAMAGED))
    assert (type(again), str(again), vars(again)) == (VlawError, str(DAMAGED), vars(DAMAGED))


def test_processes_are_a_whole_number(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(3)), raising=False)
    assert (workers("cpu"), workers("cuda")) == (0, 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(64)), raising=False)
    assert (workers("cpu"), workers("cuda")) == (0, 4)
    for text, count in (("0", 0), ("3", 3)):
        monkeypatch.setenv(WORKERS, text)
        assert (workers("cpu"), workers("cuda")) == (count, count)
    for text in ("-1", "two", "1.5", "²"):
        monkeypatch.setenv(WORKERS, text)
        with pytest.raises(VlawError, match="no number of processes") as raised:
            workers("cpu")
        assert raised.value.where == WORKERS
