"""OpenVLA-OFT's kind of policy: its slots, its tokens, its learning from actions, its published size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_policies import FLOW, OFT, first_observation, make, sample

from vlaw_models.checkpoint import load_tensors
from vlaw_models.config import PolicyConfig
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import Examples, load_learner
from vlaw_models.learners.flow_matching import train_policy
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.learners.policy import update_policy
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.openvla_oft import OpenVlaOftL1Policy, OpenVlaOftPolicy, of_bins, to_bins
from vlaw_models.presets import OPENVLA_OFT
from vlaw_models.pretrain.imitation import ImitationConfig, imitate
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.tokenize import InstructionTokenizer

BOTH = [OpenVlaOftPolicy, OpenVlaOftL1Policy]


def prompt(policy, episodes):
    seen, tokens = first_observation(episodes), policy.tokenizer([e.instruction for e in episodes])
    return policy.observed(torch.from_numpy(seen.state), images=torch.from_numpy(seen.images), tokens=tokens)


def test_every_slot_reads_every_other_and_the_prompt_but_no_padding(episodes):
    policy, seen = make(OpenVlaOftPolicy, {**OFT, "stop_token": 2}, episodes), []

    def watch(module, args, kwargs):
        kwargs["inputs_embeds"] = kwargs["inputs_embeds"].detach().requires_grad_()
        seen.append(kwargs["inputs_embeds"])
        return args, kwargs

    policy.language_model.model.register_forward_pre_hook(watch, with_kwargs=True)
    context = prompt(policy, episodes[:1])
    length = context.embeddings.shape[1]
    assert length == 3 * 4 + 1 + 8  # four patches of each picture, the state, the words
    first = policy.slots(context)[0, 0, 0]
    assert seen[0].shape[1] == length + 8 * 5 + 1
    # Of a sum the last norm would leave next to no gradient.
    told = torch.autograd.grad(first[0], seen[0])[0][0].abs().sum(-1) > 0
    padded = ~context.mask[0]
    assert padded.sum() == 3  # sentences of five words
    assert torch.equal(~told, torch.nn.functional.pad(padded, (0, 41), value=False))


def test_padding_changes_nothing(episodes):
    short, long = (make(OpenVlaOftPolicy, OFT, episodes) for _ in range(2))
    long.tokenizer = InstructionTokenizer(long.tokenizer.tokenizer, length=13)
    with torch.no_grad():
        one, two = (policy.logits(prompt(policy, episodes[:2])) for policy in (short, long))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_bins_are_openvla_s():
    values = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    values = np.concatenate([values, np.array([-1, 1], dtype=np.float32)])
    bins = to_bins(torch.from_numpy(values))
    assert np.array_equal(bins.numpy() + 1, np.digitize(values, np.linspace(-1, 1, 256)))
    assert (bins.min(), bins.max()) == (0, 255)
    assert (of_bins(bins) - torch.from_numpy(values)).abs().max() <= 1 / 255 + 1e-6


def test_tokens_are_the_last_words_backwards(episodes):
    policy = make(OpenVlaOftPolicy, {**OFT, "spare_words": 64}, episodes)
    words = policy.tokenizer.vocabulary_size
    assert policy.language_model.lm_head.weight.shape[0] == words + 256 + 64
    with torch.no_grad():
        context = prompt(policy, episodes[:1])
        every = policy.language_model.lm_head(policy.slots(context))
        torch.testing.assert_close(policy.logits(context)[..., 3], every[..., words + 256 - 1 - 3])


def test_tokens_are_drawn_as_often_as_their_probability_says(episodes):
    policy = make(OpenVlaOftPolicy, OFT, episodes)
    with torch.no_grad():
        policy.language_model.lm_head.weight.mul_(40)
        one = prompt(policy, episodes[:1])
        many = one._replace(embeddings=one.embeddings.expand(600, -1, -1), mask=one.mask.expand(600, -1))
        mass = (policy.logits(one)[0] / 1.6).softmax(-1)
        bins, log_prob = policy.draw(many, 600, torch.Generator().manual_seed(0), 1.6)
    often = torch.nn.functional.one_hot(bins, 256).float().mean(0)
    # Forty tokens of 600 draws each, so a deviation of at most .0033 of the pooled share of the likelier half.
    likelier = mass > mass.median(-1, keepdim=True).values
    assert (often * likelier).sum(-1).mean().item() == pytest.approx((mass * likelier).sum(-1).mean().item(), abs=0.015)
    assert (mass.max(-1).values > 0.02).all()
    expected = mass.log().expand(600, -1, -1, -1).gather(-1, bins[..., None])[..., 0]
    torch.testing.assert_close(log_prob, expected, atol=1e-4, rtol=1e-4)


def test_without_noise_the_likeliest_tokens_are_taken(episodes):
    policy = make(OpenVlaOftPolicy, OFT, episodes)
    still = sample(policy, episodes[:2], noise_scale=0)
    assert np.array_equal(still, sample(policy, episodes[:2], seed=9, noise_scale=0))
    assert np.array_equal(still, sample(policy, episodes[:2], noise_scale=1e-6))


@pytest.mark.parametrize("cls", BOTH)
def test_it_learns_from_a_few_samples(cls, episodes):
    policy = make(cls, {**OFT, "shift": 1}, episodes)
    loop = LoopConfig(steps=25, learning_rate=3e-3, bfloat16=False)
    losses = train_policy(policy, episodes[:8], loop, batch_size=8, seed=0)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.parametrize("cls", BOTH)
def test_the_filtered_learner_updates_it(cls, episodes, tmp_path):
    start = make(cls, OFT, episodes).save(tmp_path / "start")
    learner, data = load_learner("filtered", where="a test"), Examples.equal(episodes[:4])
    with pytest.raises(VlawError, match=r"policy\.frozen_encoder"):
        update_policy(start, learner, data, data, PolicyConfig(steps=2), tmp_path / "none", seed=0)
    settings = PolicyConfig(steps=2, batch_size=4, frozen_encoder=False)
    done = update_policy(start, learner, data, data, settings, tmp_path / "new", seed=0)
    assert len(done["losses"]) == 2
    assert not np.array_equal(
        sample(load_policy(start), episodes[:2], noise_scale=0.1),
        sample(load_policy(tmp_path / "new"), episodes[:2], noise_scale=0.1),
    )
    misfit = load_learner("dsrl", where="a test").fits(cls, settings)
    assert misfit is not None
    assert misfit.key == "policy.learner"


@pytest.mark.parametrize("cls", BOTH)
def test_lora_trains_what_openvla_oft_trains(cls, episodes, tmp_path):
    policy = make(cls, OFT, episodes)
    start, still = policy.save(tmp_path / "start"), sample(policy, episodes[:2], noise_scale=0)
    policy.adapt(2, seed=0)
    assert np.array_equal(sample(policy.eval(), episodes[:2], noise_scale=0), still), "nothing yet"
    imitate(policy, episodes[:3], ImitationConfig(steps=3, batch_size=4, learning_rate=1e-2, ema=0.0), seed=0)
    before, after = load_tensors(start), load_tensors(policy.save(tmp_path / "new"))
    assert set(before) == set(after), "LoRA layers are merged"
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    beside = {name for name in before if name.startswith(("state_projector.", "action_head."))}
    linear = {name for name in before if name.endswith((".weight",)) and before[name].ndim == 2}
    parts = ("dino.encoder.", "siglip.encoder.", "projector.", "language_model.model.layers.")
    adapted = {name for name in linear if name.startswith(parts)}
    assert changed <= adapted | beside
    assert beside <= changed
    # The towers' last layers are read before their ends, so these have no gradient there.
    assert {name for name in adapted - changed if name.startswith(("projector.", "language_model."))} == set()
    assert any(name.startswith("dino.") for name in changed)
    assert any(name.startswith("siglip.") for name in changed)


def test_towers_that_cut_pictures_differently_are_refused(episodes):
    with pytest.raises(VlawError, match=r"\(32, 16\) and \(32, 8\)"):
        make(OpenVlaOftPolicy, {**OFT, "siglip": {**OFT["siglip"], "patch_size": 8}}, episodes)


def test_the_tiny_preset_builds(episodes):
    normalization = make(FlowPolicy, FLOW, episodes).normalization
    policy = build_policy(OPENVLA_OFT["tiny"], normalization, robot=SPEC, seed=0, instructions=["push it"])
    assert 1.7e6 < sum(parameter.numel() for parameter in policy.parameters()) < 1.8e6


def test_the_paper_s_size_is_the_published_one(episodes):
    preset = OPENVLA_OFT["paper"]
    normalization = make(FlowPolicy, FLOW, episodes).normalization
    words = InstructionTokenizer.from_instructions(["a"], length=preset["instruction_length"])
    with torch.device("meta"):
        policy = OpenVlaOftPolicy(words, normalization, **preset["sizes"])
    shapes = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    assert shapes["projector.fc1.weight"] == (8704, 2176)
    assert shapes["language_model.model.layers.31.mlp.gate_proj.weight"] == (11008, 4096)
    assert shapes["language_model.lm_head.weight"] == (32064, 4096)
    # OpenVLA-7B has 7,541,237,184: also SigLIP's pooling head, which nobody reads, and not a mask token and a place of
    # the class token in DINOv2, which transformers has and timm has not.
    pooling, width = 15_238_352, 1024
    assert sum(parameter.numel() for parameter in policy.parameters()) == 7_541_237_184 - pooling + 2 * width
