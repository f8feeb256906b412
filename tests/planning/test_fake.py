"""What fake weights say of a step's memory is what a real step takes, to the byte."""

from __future__ import annotations

from functools import cached_property

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from vlaw_models import presets
from vlaw_models.errors import VlawError
from vlaw_models.learners.recompute import recomputing
from vlaw_models.learners.reward_model import add_lora
from vlaw_models.planning import needs
from vlaw_models.planning.fake import as_on_cuda, call, take_step
from vlaw_models.planning.needs import Models
from vlaw_models.robots.registry import find_robot
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import build_world_model

ROBOT = find_robot("droid")


class Real(Models):
    """The same models with weights."""

    @cached_property
    def world_model(self):
        return build_world_model(presets.WORLD_MODEL[self.preset], robot=self.robot, seed=0)


def steps_of_world_model(models, batch=1):
    model = models.world_model
    model.train()
    future, condition = needs.window(model)
    future, context, poses = (
        value.repeat(batch, *[1] * (value.ndim - 1)) for value in (future, condition.context, condition.poses)
    )
    condition = type(condition)(context, poses)
    generator = torch.Generator().manual_seed(0)

    def loss():
        return edm.loss(model, future, condition, generator)[0].mean()

    return model, loss


def saved_by_autograd(model, loss) -> int:
    """Bytes of the storages that autograd is given to keep, each once, without parameters."""
    parameters = {value.untyped_storage().data_ptr() for value in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(value):
        if value.untyped_storage().data_ptr() not in parameters:
            kept[value.untyped_storage().data_ptr()] = value
        return value

    with as_on_cuda(model), saved_tensors_hooks(keep, lambda value: value):
        result = loss()
        del result
    return sum(value.untyped_storage().nbytes() for value in kept.values())


def test_activations_are_those_that_autograd_really_saves():
    def made() -> torch.nn.Module:
        first = [torch.nn.Conv2d(3, 8, 3), torch.nn.GroupNorm(2, 8), torch.nn.SiLU(), torch.nn.Flatten()]
        return torch.nn.Sequential(*first, torch.nn.Linear(8 * 36, 16), torch.nn.LayerNorm(16), torch.nn.GELU())

    with needs.faking():
        fake = made()
    real, given = made(), torch.ones(2, 3, 8, 8)
    found = take_step(fake, lambda: fake(given).square().mean())
    assert found.saved == saved_by_autograd(real, lambda: real(given).square().mean()) > given.nbytes
    assert found.peak > 0


@pytest.mark.slow
def test_activations_of_a_world_model_are_those_that_autograd_really_saves():
    fake = take_step(*steps_of_world_model(Models("toy", ROBOT)))
    assert fake.saved == saved_by_autograd(*steps_of_world_model(Real("toy", ROBOT)))
    assert fake.saved < fake.peak < 1.1 * fake.saved


@pytest.mark.slow
def test_more_samples_take_more_memory_in_proportion_but_for_copies_of_weights():
    one, three = (take_step(*steps_of_world_model(Models("toy", ROBOT), batch)) for batch in (1, 3))
    assert one.copies == three.copies > 0
    assert (three.peak - three.copies) / (one.peak - one.copies) == pytest.approx(3, rel=0.02)
    assert three.flop == pytest.approx(3 * one.flop, rel=0.02)


@pytest.mark.slow
def test_more_samples_take_more_memory_in_proportion_where_activations_are_computed_again():
    found = []
    for batch in (1, 3):
        model, loss = steps_of_world_model(Models("toy", ROBOT), batch)
        with recomputing(model):
            found.append(take_step(model, loss))
    one, three = (run.peak - run.copies for run in found)
    assert three / one == pytest.approx(3, rel=0.1)


@pytest.mark.slow
def test_what_is_computed_again_is_not_kept():
    model, loss = steps_of_world_model(Models("toy", ROBOT))
    kept = take_step(model, loss)
    with recomputing(model):
        again = take_step(model, loss)
    assert again.peak < 0.6 * kept.peak
    assert 1.2 < again.flop / kept.flop < 1.4  # a third forward pass beside one and a backward pass of two


def test_no_memory_is_taken_for_weights_and_the_gradient_reaches_what_is_trained():
    models = Models("toy", ROBOT)
    judge = models.new_judge()
    with needs.faking():
        add_lora(judge, 4, seed=0)
    trained = [value for value in judge.parameters() if value.requires_grad]
    frames, states = needs.clip(models, judge)
    found = needs.training(judge, trained, lambda: judge(frames, [needs.WORDS], states).sum())
    assert 0 < found.trained < 0.2 * found.weights
    assert found.recomputed is not None
    assert found.recomputed.saved < 0.3 * found.kept.saved
    assert all(value.grad is not None for value in trained)
    assert all(value.grad is None for value in judge.parameters() if not value.requires_grad)


def test_whole_at_once_are_the_largest_layer_and_what_is_in_none():
    class Layered(torch.nn.Sequential):
        def recomputed(self):
            return [self[1], self[2]]

    with needs.faking():
        model = Layered(*(torch.nn.Linear(4, 4 * wide, bias=False) for wide in (1, 1, 2)))
    found = needs.training(model, list(model.parameters()), lambda: sum(part(torch.ones(1, 4)).sum() for part in model))
    assert found.weights == 4 * 16 * (1 + 1 + 2)
    assert found.whole == 4 * 16 * (2 + 1)


def test_a_model_that_asks_for_numbers_is_named():
    class Asking(torch.nn.Linear):
        def forward(self, given):
            found = super().forward(given)
            return found if found.sum().item() > 0 else -found

    with needs.faking():
        model = Asking(3, 2)
    given = torch.ones(1, 3)
    for run in (lambda: call(model, lambda: model(given)), lambda: take_step(model, lambda: model(given).sum())):
        with pytest.raises(VlawError, match="the class Asking cannot be planned"):
            run()


@pytest.mark.slow
def test_a_call_keeps_nothing_and_takes_a_third_of_a_step():
    model, loss = steps_of_world_model(Models("toy", ROBOT))
    step, passed = take_step(model, loss), call(model, loss)
    assert passed.saved == 0
    assert passed.peak < 0.5 * step.peak
    assert step.flop / passed.flop == pytest.approx(3, rel=0.05)


def test_a_policy_that_is_commanded_in_joints_is_planned_with_all_its_commands():
    policy = Models("toy", find_robot("droid_joint_velocity")).policy
    assert policy.normalization.rows == (3 * policy.chunk_size, 8)
