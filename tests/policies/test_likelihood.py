"""Policies with likelihoods: a trace is judged as it was drawn, gradients are right, the flow-SDE is the ODE's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_policies import FLOW, OFT, PI0, first_observation, make, sample

from vlaw_models.errors import VlawError
from vlaw_models.policies.flow_matching import PAIRS, FlowMatchingPolicy
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.likelihood import LikelihoodPolicy
from vlaw_models.policies.noise_policy import NoisePolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.openvla_oft import OpenVlaOftL1Policy, OpenVlaOftPolicy
from vlaw_models.policies.pi0 import Pi0Policy
from vlaw_models.tokenize import InstructionTokenizer

FLOWS = [(FlowPolicy, FLOW), (Pi0Policy, PI0)]
KINDS = [*FLOWS, (OpenVlaOftPolicy, OFT)]
JUDGED = [*((*kind, 0.5) for kind in KINDS), *((*kind, 0.0) for kind in FLOWS)]
"""With the temperature."""


def moved(cls, sizes, episodes, **settings):
    """A policy whose zero-initialised parts are not zero."""
    policy = make(cls, sizes, episodes, **settings)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9)))
    return policy


def traced(policy, episodes, temperature=0.5, seed=0):
    generators = [torch.Generator().manual_seed(seed + index) for index in range(len(episodes))]
    return policy.sample_traced(first_observation(episodes), [e.instruction for e in episodes], generators, temperature)


def again(policy, episodes, trace, temperature=0.5):
    """Its likelihood with gradients, of the same observations."""
    seen, tokens = first_observation(episodes), policy.tokenizer([e.instruction for e in episodes])
    context = policy.observed(torch.from_numpy(seen.state), images=torch.from_numpy(seen.images), tokens=tokens)
    return policy.log_prob(context, trace, temperature)


@pytest.mark.parametrize(("cls", "sizes", "temperature"), JUDGED)
def test_a_stored_trace_is_as_likely_as_when_it_was_drawn(cls, sizes, temperature, episodes):
    policy, few = moved(cls, sizes, episodes), episodes[:3]
    found = traced(policy, few, temperature)
    assert found.actions.shape == (3, 8, 5)
    assert found.log_prob.shape[:2] == (3, 8)
    assert not found.log_prob.requires_grad
    log_prob = again(policy, few, found.trace, temperature)
    torch.testing.assert_close(log_prob.detach(), found.log_prob, atol=1e-5, rtol=0)
    one = traced(policy, few[:1], temperature)
    torch.testing.assert_close(one.log_prob, found.log_prob[:1], atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(one.actions, found.actions[:1], atol=2e-5)
    assert not np.allclose(found.actions, traced(policy, few, temperature, seed=40).actions, atol=1e-3)


@pytest.mark.parametrize(("cls", "sizes", "temperature"), JUDGED)
def test_the_gradient_is_the_slope_of_the_likelihood(cls, sizes, temperature, episodes):
    policy, few = moved(cls, sizes, episodes), episodes[:2]
    trace, parameters = traced(policy, few, temperature).trace, list(policy.parameters())
    gradient = torch.autograd.grad(again(policy, few, trace, temperature).sum(), parameters, allow_unused=True)
    gradient = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradient, strict=True)]
    slope = sum(float(g.double().square().sum()) for g in gradient) ** 0.5

    @torch.no_grad()
    def after(step: float) -> float:
        torch._foreach_add_(parameters, gradient, alpha=step / slope)
        found = again(policy, few, trace, temperature).double().sum().item()
        torch._foreach_add_(parameters, gradient, alpha=-step / slope)
        return found

    assert slope > 1
    assert (after(1e-3) - after(-1e-3)) / 2e-3 == pytest.approx(slope, rel=0.02)


def test_features_give_the_likelihood_of_the_pictures_themselves(episodes):
    policy, few = moved(FlowPolicy, FLOW, episodes), episodes[:3]
    found, seen = traced(policy, few), first_observation(few)
    tokens = policy.tokenizer([e.instruction for e in few])
    with torch.no_grad():
        features = policy.picture_features(torch.from_numpy(seen.images), tokens)
    context = policy.observed(torch.from_numpy(seen.state), features=features)
    torch.testing.assert_close(policy.log_prob(context, found.trace, 0.5), found.log_prob, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("cls", "sizes"), FLOWS)
def test_without_noise_the_flow_sde_is_the_euler_ode(cls, sizes, episodes):
    policy, few = moved(cls, sizes, episodes), episodes[:3]
    np.testing.assert_allclose(traced(policy, few, 1e-7).actions, sample(policy, few), atol=1e-5)


@pytest.mark.parametrize(("cls", "sizes"), FLOWS)
def test_at_temperature_0_a_flow_policy_acts_as_in_evaluation_and_its_error_judges(cls, sizes, episodes):
    policy, few = moved(cls, sizes, episodes), episodes[:3]
    found = traced(policy, few, 0.0)
    assert np.array_equal(found.actions, sample(policy, few))
    width = policy.normalization.rows[1]
    noise, chunk = found.trace[:, :-1], found.trace[:, -1:]
    seen, tokens = first_observation(few), policy.tokenizer([e.instruction for e in few])
    expected = torch.zeros(3, chunk.shape[2])
    for pair in range(PAIRS):
        t = ((pair + 0.5) / PAIRS) ** (1 / 1.5) * 0.999 + 0.001
        context = policy.observed(torch.from_numpy(seen.state), images=torch.from_numpy(seen.images), tokens=tokens)
        with torch.no_grad():
            velocity = policy.velocity(context, t * noise[:, pair] + (1 - t) * chunk[:, 0], torch.full((3,), t))
        expected -= 0.5 * (velocity - (noise[:, pair] - chunk[:, 0]))[..., :width].square().sum(-1) / PAIRS
    torch.testing.assert_close(found.log_prob, expected.unflatten(1, (8, -1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("cls", "sizes", "temperature"),
    [(OpenVlaOftPolicy, OFT, 0.0), *((FlowPolicy, FLOW, wrong) for wrong in (-1.0, float("nan"), float("inf")))],
)
def test_a_temperature_without_chance_is_refused(cls, sizes, temperature, episodes):
    with pytest.raises(VlawError, match="nothing to chance"):
        traced(make(cls, sizes, episodes), episodes[:2], temperature)


def test_a_policy_without_likelihoods_is_known_by_its_class():
    assert all(issubclass(cls, LikelihoodPolicy) for cls, _ in KINDS)
    assert not any(issubclass(cls, LikelihoodPolicy) for cls in (NoisePolicy, OpenVlaOftL1Policy))


class Gaussian(FlowMatchingPolicy):
    """The flow of one number, N(MEAN, DEVIATION^2), known in closed form."""

    MEAN, DEVIATION, noise_dim = 0.7, 0.4, 1

    def __init__(self, steps: int):
        nothing = np.zeros((1, 1), dtype=np.float32)
        statistics = Normalization(nothing[0], nothing[0] + 1, nothing, nothing + 1, absolute=())
        words = InstructionTokenizer.from_instructions(["go"], length=1)
        super().__init__(words, statistics, execute_steps=1, euler_steps=steps)
        self.shift = torch.nn.Parameter(torch.zeros(()))

    def encode(self, images, state, tokens):
        raise NotImplementedError

    def sizes(self):
        return {}

    def moments(self, t: float) -> tuple[float, float]:
        """Mean and variance of x_t."""
        return (1 - t) * self.MEAN, t**2 + (1 - t) ** 2 * self.DEVIATION**2

    def velocity(self, context, x, t):
        time = float(t[0])
        mean, variance = self.moments(time)
        slope = (time - (1 - time) * self.DEVIATION**2) / variance
        return slope * (x - mean) - self.MEAN + self.shift


@pytest.mark.parametrize("level", [0.3, 1.0])
def test_the_flow_sde_has_the_marginals_of_the_ode(level):
    steps, count = 200, 40_000
    policy = Gaussian(steps)
    with torch.no_grad():
        path = policy.draw(None, count, torch.Generator().manual_seed(3), level)[0][:, :, 0, 0].double()
    for step in (50, 100, 150, 200):
        mean, variance = policy.moments(1 - step / steps)
        # Sampling alone: 0.5 % of a deviation for the mean, .35 % for the deviation.
        assert path[:, step].mean().item() == pytest.approx(mean, abs=0.015 * variance**0.5)
        assert path[:, step].std().item() == pytest.approx(variance**0.5, rel=0.02)


def test_a_transition_has_the_density_of_the_published_sampler():
    """Written as RLinf does: weights of the predicted data and of the predicted noise."""
    steps, level = 5, 0.5
    policy, times = Gaussian(steps), np.append(np.linspace(1, 1 / steps, steps), 0.0)
    with torch.no_grad():
        trace, log_prob = policy.draw(None, 7, torch.Generator().manual_seed(1), level)
        path = trace[:, :, 0, 0].double().numpy()
        for k in range(steps):
            t, d = times[k], times[k] - times[k + 1]
            x = path[:, k]
            velocity = policy.velocity(None, trace[:, k], torch.full((7,), t))[:, 0, 0].double().numpy()
            sigma = level * np.sqrt(t / (1 - (times[1] if k == 0 else t)))
            data, noise = x - velocity * t, x + velocity * (1 - t)
            mean = data * (1 - (t - d)) + noise * (t - d - sigma**2 * d / (2 * t))
            deviation = np.sqrt(d) * sigma
            expected = -0.5 * ((path[:, k + 1] - mean) / deviation) ** 2 - np.log(deviation * np.sqrt(2 * np.pi))
            np.testing.assert_allclose(log_prob[:, 0, k], expected, atol=1e-5)
