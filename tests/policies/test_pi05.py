"""pi0.5 and pi0 learn: whole, with a frozen encoder, by LoRA; and presets say which pictures and words they get."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_policies import FLOW, PI0, first_observation, make, sample

from vlaw_models.checkpoint import load_tensors
from vlaw_models.config import PolicyConfig
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import NOTHING, Examples
from vlaw_models.learners.flow_matching import train_policy
from vlaw_models.learners.imitation import Filtered
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.learners.policy import update_policy
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.data import FeatureData, StepData
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.pi0 import Pi0Policy
from vlaw_models.policies.pi05 import Pi05Policy
from vlaw_models.presets import PI05, POLICY
from vlaw_models.robots.droid import SPEC as DROID
from vlaw_models.tokenize import InstructionTokenizer

BOTH = pytest.mark.parametrize("cls", [Pi0Policy, Pi05Policy])
LOOP = {"learning_rate": 3e-3, "ema": 0.9, "bfloat16": False}


def opened(policy):
    """With gates that let something through, as those of a trained pi0.5: they are 0 at first."""
    for name, parameter in policy.named_parameters():
        if name.endswith("dense.weight"):
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    return policy


def test_pi05_learns_on_a_few_samples(episodes):
    policy = make(Pi05Policy, PI0, episodes)
    losses = train_policy(policy, episodes[:8], LoopConfig(steps=40, **LOOP), batch_size=8, seed=0)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


def test_the_state_is_in_the_prompt_and_a_checkpoint_keeps_all(episodes, tmp_path):
    policy = opened(make(Pi05Policy, PI0, episodes))
    low, high = policy.normalization.state_low, policy.normalization.state_high
    words = policy.tokenizer
    seen = [low - 1, low, (low + high) / 2, high]
    read = policy.read(["go"] * 4, np.stack(seen))
    assert torch.equal(read, words([f"go, State: {' '.join([number] * 5)}" for number in ("-1", "0", "128", "255")]))
    again = load_policy(policy.save(tmp_path / "saved"))
    assert type(again) is Pi05Policy
    assert np.array_equal(sample(policy, episodes[:2]), sample(again, episodes[:2]))


@BOTH
def test_pictures_seen_once_give_the_context_of_the_pictures_themselves(cls, episodes):
    policy = make(cls, PI0, episodes, views=(2, 0))
    data = StepData.from_episodes(episodes[:2])
    steps = np.array([0, 5, len(data) - 1])
    batch, seen = data.at(steps, policy.chunk_size), FeatureData(policy, data)
    state = torch.from_numpy(batch.states)
    noise, time = torch.randn(3, 8, 8), torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        whole = policy.observed(
            state, images=torch.from_numpy(batch.images), tokens=policy.read(batch.instructions, batch.states)
        )
        part = policy.observed(state, features=seen.features[steps])
        assert torch.equal(part.mask, whole.mask)
        a, b = (policy.velocity(context, noise, time) for context in (whole, part))
    assert torch.allclose(a, b, atol=0.05)


@BOTH
def test_a_frozen_encoder_stays_and_lora_changes_what_it_adapts(cls, episodes, tmp_path):
    start = opened(make(cls, PI0, episodes)).save(tmp_path / "start")
    real = Examples.equal(episodes[:3])

    def updated(name: str, **settings) -> set[str]:
        options = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "stops": (), **settings}
        update_policy(start, Filtered(), real, NOTHING, PolicyConfig(**options), tmp_path / name, seed=0)
        before, after = load_tensors(start), load_tensors(tmp_path / name)
        assert set(before) == set(after), "LoRA layers are merged"
        load_policy(tmp_path / name)
        return {key for key in before if not torch.equal(before[key], after[key])}

    whole = updated("whole", frozen_encoder=False)
    frozen = updated("frozen", frozen_encoder=True)
    lora = updated("lora", frozen_encoder=False, lora_rank=2)
    both = updated("both", frozen_encoder=True, lora_rank=2)

    def of(names: set[str], *parts: str) -> set[str]:
        return {name for name in names if any(part in name for part in parts)}

    assert of(whole, "vision_tower")
    assert of(whole, "layers.0.self_attn")
    assert not of(frozen, "vision_tower", "embed_tokens")
    assert of(frozen, "multi_modal_projector")
    assert of(frozen, "language_model.layers")
    assert of(lora, "vision_tower"), "what LoRA does not adapt is trained as it is, as in openpi"
    assert not of(lora, "norm", "embed_tokens") - of(lora, "vision_tower")
    assert of(lora, "gemma_expert.model.layers.1.mlp.up_proj", "gemma_expert.model.layers.0.self_attn.q_proj")
    assert both == lora - of(lora, "vision_tower")


def test_lora_changes_nothing_before_it_learns_and_other_policies_have_none(episodes):
    policy = make(Pi0Policy, PI0, episodes)
    before = sample(policy, episodes[:2])
    policy.adapt(4, seed=0)
    assert np.array_equal(sample(policy.eval(), episodes[:2]), before)
    with pytest.raises(VlawError, match="a FlowPolicy has no layers for LoRA"):
        make(FlowPolicy, FLOW, episodes).adapt(4, seed=0)


def test_presets_say_the_order_of_the_cameras_and_how_a_prompt_is_written(episodes):
    statistics = make(FlowPolicy, FLOW, episodes).normalization
    said = [" pick_up\nthe cup "]
    policy = build_policy(PI05["toy"], statistics, robot=DROID, seed=0, instructions=said)
    assert policy.views == [0, 2], "exterior, wrist"
    assert policy.tokenizer.template == "<bos>Task: {};\nAction: "
    state = (statistics.state_low + statistics.state_high)[None] / 2
    read = policy.read(said, state)
    assert torch.equal(read, policy.tokenizer(["pick up the cup, State: 128 128 128 128 128"]))
    assert policy.tokenizer.unknown("pick up the cup") == []
    words = InstructionTokenizer.from_instructions(["a cup"], length=3)
    given = build_policy(
        {**PI05["toy"], "instruction_length": 9}, statistics, robot=DROID, seed=0, tokenizer=words
    ).tokenizer
    assert (given.length, given.template) == (9, PI05["paper"]["instruction_template"])
    assert POLICY["paper"]["roles"] == PI05["paper"]["roles"] == ("exterior", "wrist")


def test_a_view_that_the_robot_does_not_have_is_told(episodes):
    policy = make(Pi0Policy, PI0, episodes, views=(0, 5))
    with pytest.raises(VlawError, match=r"looks at views \[0, 5\], the observation has 3"):
        policy.sample(first_observation(episodes[:1]), ["go"], torch.Generator())


def test_the_paper_preset_has_the_published_shapes_and_names(episodes):
    preset = PI05["paper"]
    statistics = make(FlowPolicy, FLOW, episodes).normalization
    tokenizer = InstructionTokenizer.from_instructions(["a"], length=preset["instruction_length"])
    with torch.device("meta"):
        policy = build_policy(preset, statistics, robot=DROID, seed=0, tokenizer=tokenizer)
    shapes = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    expert = "paligemma_with_expert.gemma_expert.model."
    assert shapes[expert + "layers.17.input_layernorm.dense.weight"] == (3072, 1024)
    assert shapes[expert + "layers.17.post_attention_layernorm.dense.bias"] == (3072,)
    assert shapes[expert + "norm.dense.weight"] == (3072, 1024)
    assert shapes["time_mlp_in.weight"] == shapes["time_mlp_out.weight"] == (1024, 1024)
    assert not [name for name in shapes if name.startswith(("state_proj", "action_time_mlp"))]
    assert 3.2e9 < sum(np.prod(shape) for shape in shapes.values()) < 3.5e9
