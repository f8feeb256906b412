"""QwenJudge gives a Qwen3-VL what its own processor would: token ids of the real vocabulary, pixels, frame times.

golden/qwen_prompts.json: what transformers 4.57.1, the first release with the model, makes of three clips.
golden/qwen_tokenizer.json: of Qwen's vocabulary and merges those that these texts are made of, with their true ids.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import episode
from tokenizers import Tokenizer
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from vlaw_models.learners.reward_model import add_lora
from vlaw_models.presets import REWARD_MODEL
from vlaw_models.reward_models.base import build_reward_model, frame_indices
from vlaw_models.reward_models.qwen_judge import QwenJudge, QwenJudgeConfig, toy_sizes, view_shape
from vlaw_models.reward_models.score import score_episodes
from vlaw_models.robots.droid import SPEC

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "qwen_prompts.json").read_text())
CAMERAS = ("exterior_1", "wrist")


@pytest.fixture(scope="module")
def judge() -> QwenJudge:
    """The paper's settings and vocabulary, on a network of a few numbers."""
    tokenizer = Tokenizer.from_str((GOLDEN / "qwen_tokenizer.json").read_text())
    sizes = toy_sizes(width=24, text_layers=1, vision_layers=1, patch=16)
    text = {**sizes["text_config"], "vocab_size": 151_936}
    ids = {"video_token_id": 151_656, "image_token_id": 151_655, "vision_start_token_id": 151_652}
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=sizes["vision_config"],
        tie_word_embeddings=True,
        vision_end_token_id=151_653,
        **ids,
    )
    torch.manual_seed(0)
    settings = QwenJudgeConfig(CAMERAS, **REWARD_MODEL["paper"]["sizes"])
    return QwenJudge(settings, tokenizer, Qwen3VLForConditionalGeneration(config)).eval()


def recorded(case: dict) -> object:
    """The clip's episode: the processor's video (16, 3, 192, 640), cut into two cameras, at the frames it is of."""
    generator = torch.Generator().manual_seed(case["length"])
    video = torch.randint(0, 256, (16, 3, 192, 640), dtype=torch.uint8, generator=generator)
    return video.unflatten(3, (2, 320)).permute(0, 3, 2, 4, 1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['length']}_frames")
def test_ids_and_pixels_are_the_processors(judge, case):
    one = episode(steps=case["length"] - 1, cameras=CAMERAS, control_hz=case["control_hz"])
    given = judge.inputs(recorded(case)[None], [case["instruction"]], **judge.clip_times([one]))
    expected = [number for number, count in case["ids"] for _ in range(count)]
    assert given["input_ids"].tolist() == [expected]
    assert given["video_grid_thw"].tolist() == [case["grid"]]
    mean, square, sums = case["pixels"]
    pixels = given["pixel_values_videos"].double()
    assert pixels.mean().item() == pytest.approx(mean, abs=1e-6)
    assert pixels.square().mean().item() == pytest.approx(square, abs=1e-6)
    assert pixels[::997].sum(0)[:8].tolist() == pytest.approx(sums, abs=1e-5)
    assert judge.answers == [9693, 2152]


def test_a_longer_episode_is_told_to_be_longer(tmp_path):
    """The same pictures at another rate are another question: a judge is told true times, in scoring too."""
    words = ["wipe the table"]
    judge = build_reward_model(REWARD_MODEL["toy"], robot=SPEC, instructions=words, seed=0)
    folder = judge.save(tmp_path / "judge")
    one = episode(
        "wipe", instruction=words[0], cameras=SPEC.camera_names, size=(48, 80), steps=11, noise=3, control_hz=5.0
    )
    slow = replace(one, control_hz=1.0)
    once, same, other = (score_episodes(folder, [each])[0] for each in (one, replace(one), slow))
    assert once == same
    assert once != other
    times = judge.clip_times([one])["times"]
    assert times[0].tolist() == pytest.approx(frame_indices(12, 4) / 5)


def test_pictures_keep_their_shape():
    assert view_shape(192, 320, 256, 32) == (192, 320), "DROID's, as they are"
    assert view_shape(64, 64, 64, 16) == (64, 64)
    assert view_shape(48, 80, 32, 16) == (32, 48)
    assert view_shape(720, 1280, 256, 32) == (192, 352)


def test_adapters_of_a_bfloat16_judge_are_float32_and_merge_truly():
    torch.manual_seed(0)
    settings = QwenJudgeConfig(CAMERAS, num_frames=4, image_size=32, view_size=32)
    judge = QwenJudge.build(settings, toy_sizes(width=32, text_layers=1, vision_layers=1), ["wipe it"], seed=0)
    judge.model.to(torch.bfloat16)
    handle = add_lora(judge, 2, seed=0)
    adapters = {name: one for name, one in judge.named_parameters() if one.requires_grad}
    assert adapters
    assert {one.dtype for one in adapters.values()} == {torch.float32}
    with torch.no_grad():
        for name, one in adapters.items():
            if "lora_B" in name:
                one.fill_(1e-3)  # a step that bfloat16 would keep three digits of
    frames = torch.randint(0, 256, (2, 4, 2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        adapted = judge.p_yes(frames, ["wipe it"] * 2)
        handle.merge_and_unload()
        merged = judge.p_yes(frames, ["wipe it"] * 2)
    assert {one.dtype for one in judge.model.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(merged, adapted, atol=5e-3, rtol=0)
