"""Pi0Policy: it learns, samples as the published class does, and reads published weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_policies import FLOW, PI0, first_observation, make, sample

from vlaw_models.checkpoint import save_checkpoint
from vlaw_models.errors import VlawError
from vlaw_models.learners.flow_matching import train_policy
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.pi0 import Pi0Policy, lerobot_key
from vlaw_models.presets import POLICY
from vlaw_models.tokenize import InstructionTokenizer


def test_pi0_learns_on_a_few_samples(episodes):
    policy = make(Pi0Policy, PI0, episodes)
    losses = train_policy(
        policy, episodes[:8], LoopConfig(steps=60, learning_rate=3e-3, ema=0.9, bfloat16=False), batch_size=16, seed=0
    )
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])


def test_pi0_sampling_matches_the_class_s_own_sampler(episodes):
    policy = make(Pi0Policy, PI0, episodes, euler_steps=4)
    few = episodes[:3]
    observation, noise = first_observation(few), torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    state = torch.from_numpy(observation.state)
    tokens = policy.tokenizer([e.instruction for e in few])
    images = torch.from_numpy(observation.images)
    pictures = torch.full((3, 3 * policy.image_tokens), policy.image_token)
    ids = torch.cat([pictures, tokens], dim=1)
    theirs = policy.model.sample_actions(
        state=torch.nn.functional.pad(policy.normalization.state(state), (0, 3)),
        input_ids=ids,
        noise=noise.clone(),
        pixel_values=images.permute(0, 1, 4, 2, 3).float() / 127.5 - 1,
        attention_mask=(ids != 0).long(),
        pixel_attention_mask=torch.ones(3, 3, dtype=torch.bool),
        num_steps=4,
    )
    expected = policy.normalization.targets(theirs[..., :5], state).numpy()
    ours = policy.sample(observation, [e.instruction for e in few], torch.Generator().manual_seed(1))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_pi0_reads_published_names(episodes, tmp_path):
    """A file as `lerobot/pi0_base` has it: leading 'model.', words as lm_head only, an expert lm_head nobody uses."""
    source, target = make(Pi0Policy, PI0, episodes, seed=1), make(Pi0Policy, PI0, episodes, seed=2)
    prefix = "model.paligemma_with_expert."
    stored = {f"model.{name}": tensor for name, tensor in source.state_dict().items()}
    for published in (
        "paligemma.model.vision_tower.vision_model.encoder.layers.1.self_attn.q_proj.weight",
        "paligemma.model.vision_tower.vision_model.embeddings.patch_embedding.weight",
        "paligemma.model.multi_modal_projector.linear.weight",
        "paligemma.model.language_model.layers.0.mlp.gate_proj.weight",
        "gemma_expert.model.layers.1.self_attn.o_proj.weight",
        "gemma_expert.model.norm.weight",
    ):
        assert prefix + published in stored
    assert {
        "model.state_proj.weight",
        "model.action_in_proj.weight",
        "model.action_out_proj.bias",
        "model.action_time_mlp_in.weight",
        "model.action_time_mlp_out.weight",
    } <= set(stored)
    stored[prefix + "paligemma.lm_head.weight"] = stored.pop(
        prefix + "paligemma.model.language_model.embed_tokens.weight"
    )
    stored[prefix + "gemma_expert.lm_head.weight"] = torch.zeros(11, 32)
    path = save_checkpoint(tmp_path / "published", {"class": "pi0"}, stored) / "model.safetensors"
    assert not np.allclose(sample(source, episodes[:2]), sample(target, episodes[:2]), atol=1e-3)
    assert np.array_equal(sample(source, episodes[:2]), sample(target.load_pretrained(path), episodes[:2]))
    assert lerobot_key("model.vlm.vision_tower.vision_model.post_layernorm.bias") == lerobot_key(
        "model.vlm.vision_tower.post_layernorm.bias"
    )
    bigger = make(Pi0Policy, {**PI0, "max_dim": 9}, episodes)
    with pytest.raises(VlawError, match="not of this policy's sizes"):
        bigger.load_pretrained(path)


def test_paper_preset_has_the_published_shapes(episodes):
    preset = POLICY["paper"]
    normalization = make(FlowPolicy, FLOW, episodes).normalization
    tokenizer = InstructionTokenizer.from_instructions(["a"], length=preset["instruction_length"])
    with torch.device("meta"):
        policy = Pi0Policy(tokenizer, normalization, **preset["sizes"])
    shapes = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    prefix = "paligemma_with_expert."
    assert shapes[prefix + "paligemma.model.language_model.layers.17.self_attn.q_proj.weight"] == (2048, 2048)
    assert shapes[prefix + "gemma_expert.model.layers.17.mlp.gate_proj.weight"] == (4096, 1024)
    assert shapes[prefix + "paligemma.model.vision_tower.vision_model.embeddings.patch_embedding.weight"] == (
        1152,
        3,
        14,
        14,
    )
    assert shapes["action_in_proj.weight"] == (1024, 32)
    assert 3.1e9 < sum(np.prod(shape) for shape in shapes.values()) < 3.4e9
