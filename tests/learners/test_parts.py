"""A batch in parts, on one process or several, teaches what the whole would; activations may be computed twice."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_worker
from small_trainings import BATCH, KINDS
from toy_world_models import TOY

from vlaw_models.errors import VlawError
from vlaw_models.learners.parts import Draws, parted, samples
from vlaw_models.learners.recompute import layers_of, recomputing
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition
from vlaw_models.world_models.ctrl_world import CtrlWorld

DEAR = {"warp", "ctrl", "flow", "pi0", "pi05", "clip", "qwen", "clip_features"}
kinds = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind in DEAR else []) for kind in KINDS]
)


def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((here.double() - there.double()).abs().max()) for here, there in pairs if here.numel())


@pytest.mark.parametrize(
    ("size", "processes", "most"), [(6, 1, 0), (6, 2, 0), (7, 2, 2), (64, 8, 3), (5, 2, 2), (4, 4, 1)]
)
def test_every_sample_is_in_one_part(size, processes, most):
    parts = parted(size, processes, most)
    flat = [part for own in parts for part in own]
    assert [edge for part in flat for edge in part] == sorted(edge for part in flat for edge in part)
    assert [row for begin, end in flat for row in range(begin, end)] == list(range(size))
    assert len({len(own) for own in parts}) == 1, "processes compute in step"
    assert all(0 < end - begin <= (most or size) for begin, end in flat)


@pytest.mark.parametrize(("size", "processes", "most"), [(1, 2, 0), (5, 2, 1), (0, 1, 0)])
def test_a_batch_that_leaves_a_process_without_work_is_refused(size, processes, most):
    with pytest.raises(VlawError, match=f"a batch of {size} cannot be parted"):
        parted(size, processes, most)


def test_a_part_is_counted_through_all_groups():
    groups = [np.arange(3), np.arange(10, 12), np.arange(20, 21)]
    assert [group.tolist() for group in samples(groups, (2, 5))] == [[2], [10, 11], []]
    assert [group.tolist() for group in samples(groups, (0, 6))] == [group.tolist() for group in groups]


def test_noise_is_that_of_the_sample_and_of_nothing_else():
    def drawn(generator: torch.Generator, rows: int) -> torch.Tensor:
        flat = torch.rand(rows, generator=generator)
        blocks = torch.randn((2 * rows, 3), generator=generator).unflatten(0, (2, rows)).sum(0)
        moves = torch.randint(-4, 5, (rows, 2), generator=generator)
        return torch.cat([flat[:, None], blocks, moves, torch.randint(9, size=(rows, 1), generator=generator)], dim=1)

    one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    whole, draws, parts = drawn(one, 5), Draws(other, 5), []
    for begin, end in ((0, 2), (2, 3), (3, 5)):
        with draws.of((begin, end)):
            parts.append(drawn(other, end - begin))
            torch.rand(3)  # of nobody's generator: as ever
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(one.get_state(), other.get_state()), "the next batch begins alike"
    with draws.of((0, 2)), pytest.raises(VlawError, match="Draw with the samples first"):
        torch.rand(3, 2, generator=other)


@kinds
def test_samples_at_once_in_memory_change_nothing_but_rounding(kind):
    losses, model = KINDS[kind](steps=2)
    for most in (2, BATCH - 1):
        again, parts = KINDS[kind](steps=2, micro_batch=most)
        np.testing.assert_allclose(again, losses, atol=1e-6, rtol=1e-6)
        # Adam makes steps of a weight whose gradient is nothing but rounding.
        assert apart(model, parts) < (1e-12 if kind == "mlp" else 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_two_processes_learn_what_one_does(kind, tmp_path):
    """Losses, and after three steps of 1e-3 all weights."""
    options = {"dropout": 0.0} if kind == "mlp" else {}
    run = {"kind": kind, "steps": 3, "options": options}
    runs = [{**run, "ranks": 1}, {**run, "ranks": 2}, {**run, "ranks": 2, "options": {**options, "micro_batch": 2}}]
    for number, one in enumerate(runs):
        one["weights"] = str(tmp_path / str(number))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    worker = [sys.executable, str(Path(training_worker.__file__))]
    said = subprocess.run(worker, input=json.dumps(runs), text=True, capture_output=True, env=environment, check=True)
    (alone,), *together = [json.loads(line) for line in said.stdout.splitlines()]
    whole, *shared = (torch.load(one["weights"], weights_only=True) for one in runs)
    for two, weights in zip(together, shared, strict=True):
        assert two[0]["digest"] == two[1]["digest"]
        np.testing.assert_allclose(two[0]["losses"], alone["losses"], atol=1e-6, rtol=1e-6)
        off = torch.cat([(weights[name].double() - value.double()).flatten() for name, value in whole.items()])
        if kind == "mlp":  # in double precision
            assert off.abs().max() < 1e-12
        # In single precision Adam makes steps of a gradient that is nothing but rounding, as that of a bias whose
        # effect a norm or a softmax takes away: a few weights are off by parts of a step, the rest by next to nothing.
        assert off.square().mean().sqrt() < 1e-5
        assert off.abs().max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "oft", "ctrl", "pi0", "qwen"])
def test_sharded_weights_learn_what_whole_ones_do(kind, tmp_path):
    """FSDP 2 on two processes; also from a state that each has its part of."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        environment |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    command = [sys.executable, str(Path(training_worker.__file__).with_name("sharded_worker.py")), kind, str(tmp_path)]
    ranks = [
        subprocess.Popen(command, env={**environment, "RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE)
        for rank in "01"
    ]
    said = [json.loads(rank.communicate()[0]) for rank in ranks]
    assert said[0] == said[1]
    assert said[0]["whole"] == said[0]["again"]
    assert min(said[0]["sharded"]) > (kind != "mlp"), "the layers that the class names, and the rest"
    losses, _ = KINDS[kind](steps=3, **({"dropout": 0.0} if kind == "mlp" else {}))
    np.testing.assert_allclose(said[0]["losses"], losses, atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(said[0]["in_parts"], losses, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "kind", ["oft", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("ctrl", "pi0", "qwen"))]
)
def test_activations_that_are_computed_again_change_nothing(kind):
    losses, model = KINDS[kind](steps=2)
    assert layers_of(model)
    again, twice = KINDS[kind](steps=2, recompute=True)
    assert again == losses
    assert apart(model, twice) == 0
    assert all("forward" not in vars(layer) for layer in layers_of(twice))


def test_a_model_without_layers_cannot_compute_them_again():
    with pytest.raises(VlawError, match="names no layers"):
        KINDS["mlp"](steps=1, recompute=True)


def test_ctrl_world_keeps_no_activation_inside_a_block_along_space_or_time():
    model = CtrlWorld(TOY)
    shape = (2, model.chunk, *model.latent_shape)
    context = torch.zeros(2, TOY.history + 1, *model.latent_shape)
    condition = Condition(context, torch.zeros(2, TOY.history + 1 + model.chunk, model.pose_dim))

    def kept(recompute: bool) -> int:
        with recomputing(model) if recompute else nullcontext(), counting(model) as sizes:
            edm.loss(model, torch.zeros(shape), condition, torch.Generator().manual_seed(0))
        return sum(sizes.values())

    native = CtrlWorld(TOY)
    native.unet.enable_gradient_checkpointing()
    native.train()
    with counting(native) as sizes:
        edm.loss(native, torch.zeros(shape), condition, torch.Generator().manual_seed(0))
    assert kept(recompute=True) < 0.5 * sum(sizes.values()), "diffusers leaves the blocks along time out"
    assert kept(recompute=True) < 0.2 * kept(recompute=False)


@contextmanager
def counting(model: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Bytes that are kept for the backward pass, by where they lie; of weights none."""
    found: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found
