"""Judges: what they see, that they learn, that LoRA, saving and scoring are reproducible, and clear refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from factories import episode

from vlaw_models.config import RewardModelConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.learners.reward_model import add_lora, finetune_reward_model, train_reward_model
from vlaw_models.reward_models.augment import augment
from vlaw_models.reward_models.base import frame_indices, load_reward_model
from vlaw_models.reward_models.clip_judge import ClipJudge, ClipJudgeConfig
from vlaw_models.reward_models.qwen_judge import QwenJudge, QwenJudgeConfig, toy_sizes
from vlaw_models.reward_models.score import score_episodes
from vlaw_models.robots.tabletop.spec import SPEC

COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220)}
INSTRUCTIONS = [f"move the {colour} block to the pad" for colour in COLOURS]
SMALL = ClipJudgeConfig(
    **ClipJudge.of_robot(SPEC), image_size=32, num_frames=8, channels=(8, 16, 24), width=32, layers=1
)


def block_episode(seed: int, *, size: int = 32, steps: int = 12) -> Episode:
    """A red and a blue square; the one the instruction names ends on the grey pad (success), or the other one does."""
    rng = np.random.default_rng(seed)
    images = np.full((steps + 1, 3, size, size, 3), 90, np.uint8)
    target, success = list(COLOURS)[seed % 2], bool((seed // 2) % 2)
    moving = target if success else next(name for name in COLOURS if name != target)
    pad, start = rng.integers(2, size - 12, 2), rng.integers(2, size // 3, 2)
    still = rng.integers(size // 2, size - 8, 2)
    for step in range(steps + 1):
        place = start + (pad - start) * step // steps
        for view in range(3):
            frame = images[step, view]
            frame[pad[0] : pad[0] + 10, pad[1] : pad[1] + 10] = 200
            for name, (row, column) in ((moving, place), (next(n for n in COLOURS if n != moving), still)):
                frame[row + 1 : row + 8, column + 1 : column + 8] = COLOURS[name]
    return episode(
        "move",
        seed,
        instruction=f"move the {target} block to the pad",
        images=images,
        success=success,
        dims=(5, 5),
        cameras=SPEC.camera_names,
    )


def toy_qwen(seed: int = 0) -> QwenJudge:
    config = QwenJudgeConfig(
        **QwenJudge.of_robot(SPEC, ("exterior", "wrist")), num_frames=4, image_size=32, view_size=32
    )
    return QwenJudge.build(config, toy_sizes(width=32, text_layers=1, vision_layers=1), INSTRUCTIONS, seed=seed)


@pytest.fixture(scope="module", params=["clip", "qwen"])
def folder(request, tmp_path_factory):
    judge = ClipJudge.build(SMALL, INSTRUCTIONS, seed=3) if request.param == "clip" else toy_qwen(3)
    return judge.save(tmp_path_factory.mktemp(request.param) / "judge")


def test_frames_are_late_weighted_and_keep_both_ends():
    picks = frame_indices(33, 16)
    assert picks[0] == 0
    assert picks[-1] == 32
    assert (np.diff(picks) >= 0).all()
    assert (picks > 16).sum() > 8, "more than half of the frames come from the second half"
    jittered = frame_indices(33, 16, np.random.default_rng(0))
    assert (jittered != picks).any()
    assert (np.diff(jittered) >= 0).all()
    assert (jittered[0], jittered[-1]) == (0, 32)
    assert frame_indices(3, 16).tolist().count(2) >= 2, "a short episode repeats frames"


@pytest.mark.slow
def test_clip_judge_learns_to_tell_success_by_the_instructed_colour():
    train, held_out = [block_episode(seed) for seed in range(240)], [block_episode(seed) for seed in range(1000, 1080)]
    judge = ClipJudge.build(SMALL, INSTRUCTIONS, seed=1)
    result = train_reward_model(
        judge, train, [e.success for e in train], steps=260, seed=1, batch_size=24, learning_rate=3e-3
    )
    assert np.mean(result["losses"][-20:]) < 0.5 * np.mean(result["losses"][:20])
    frames, states = judge.clips(held_out)
    with torch.inference_mode():
        right = (judge.p_yes(frames, [e.instruction for e in held_out], states).numpy() > 0.5) == [
            e.success for e in held_out
        ]
        swapped = [INSTRUCTIONS[1 - INSTRUCTIONS.index(e.instruction)] for e in held_out]
        flipped = (judge.p_yes(frames, swapped, states).numpy() > 0.5) != [e.success for e in held_out]
    assert right.mean() > 0.85
    assert flipped.mean() > 0.85, "the answer must depend on the instruction"


def test_qwen_judge_fits_a_small_set():
    episodes = [block_episode(seed) for seed in (0, 2, 4, 6)]
    judge = toy_qwen()
    result = train_reward_model(
        judge, episodes, [e.success for e in episodes], steps=40, seed=0, batch_size=4, learning_rate=3e-3
    )
    assert result["losses"][-1] < 0.5 * result["losses"][0]


def test_qwen_patches_are_those_of_transformers():
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    judge = toy_qwen()
    frames = torch.randint(0, 256, (2, 4, 2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows, grid = judge.patches(frames)
    processor = Qwen3VLVideoProcessor(
        patch_size=8, temporal_patch_size=2, merge_size=2, do_resize=False, do_sample_frames=False
    )
    wide = torch.cat([frames[:, :, 0], frames[:, :, 1]], dim=3).movedim(-1, 2)
    expected = processor(videos=[wide[0], wide[1]], return_tensors="pt", cap_pixels_per_frame=False)
    assert expected["video_grid_thw"].tolist() == [list(grid)] * 2
    torch.testing.assert_close(rows, expected["pixel_values_videos"].float(), atol=1e-5, rtol=0)


def test_a_clip_scores_the_same_alone_and_in_a_batch(folder):
    judge = load_reward_model(folder)
    frames, states = judge.clips([block_episode(seed) for seed in range(3)])
    questions = ["move the red block", INSTRUCTIONS[0], INSTRUCTIONS[1]]
    with torch.inference_mode():
        together = judge(frames, questions, states)
        alone = torch.cat([judge(frames[i : i + 1], questions[i : i + 1], states[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_finetuning_changes_the_judge_reproducibly_and_leaves_plain_weights(folder, tmp_path):
    episodes = [block_episode(seed) for seed in range(8)]
    cfg = RewardModelConfig(steps=4, batch_size=4, learning_rate=1e-2, lora_rank=2)
    results = [
        finetune_reward_model(folder, episodes, cfg, tmp_path / name, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1], "same seed, same bytes"
    assert weights[0] != weights[2]
    assert results[0]["losses"] == results[1]["losses"]
    assert results[0]["successes"] == 4
    before, after = load_reward_model(folder).state_dict(), load_reward_model(tmp_path / "a").state_dict()
    assert before.keys() == after.keys(), "LoRA must be merged when saved"
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    targets = load_reward_model(folder).lora_targets()
    assert changed
    assert changed <= {f"{name}.weight" for name in targets}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_merging_keeps_the_adapted_outputs(folder):
    judge = load_reward_model(folder)
    handle = add_lora(judge, 2, seed=0)
    trainable = [name for name, parameter in judge.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    with torch.no_grad():
        for name, parameter in judge.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    frames, _ = judge.clips([block_episode(0)])
    with torch.inference_mode():
        adapted = judge(frames, INSTRUCTIONS[:1])
        handle.merge_and_unload()
        torch.testing.assert_close(judge(frames, INSTRUCTIONS[:1]), adapted, atol=1e-4, rtol=1e-4)


def test_zero_steps_keep_the_judge(folder, tmp_path):
    finetune_reward_model(folder, [block_episode(0)], RewardModelConfig(steps=0), tmp_path / "same", seed=0)
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_scores_come_in_order_from_an_iterator_whatever_the_batch(folder):
    episodes = [block_episode(seed) for seed in range(5)]
    seen = []
    scores = score_episodes(
        folder, iter(episodes), batch_size=2, progress=lambda done, _total, _text: seen.append(done)
    )
    assert scores.shape == (5,)
    assert scores.dtype == np.float64
    assert ((scores > 0) & (scores < 1)).all()
    assert seen == [2, 4, 5]
    np.testing.assert_allclose(scores[::-1], score_episodes(folder, episodes[::-1], batch_size=5), atol=1e-4)
    assert score_episodes(folder, []).shape == (0,)


def test_training_leaves_torch_own_generator_alone():
    judge = ClipJudge.build(SMALL, INSTRUCTIONS, seed=0)
    before = torch.random.get_rng_state()
    train_reward_model(judge, [block_episode(0)], [True], steps=1, seed=5, batch_size=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_augmentation_is_seeded_strong_and_in_range():
    clips = torch.from_numpy(np.stack([block_episode(seed).images[:4] for seed in range(3)]))
    first, again = (augment(clips, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == clips.shape
    assert first.min() >= 0
    assert first.max() <= 255
    assert (first - clips.float()).abs().mean() > 2


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda e: setattr(e, "images", e.images[-1:]), "at least 2 frames"),
        (lambda e: setattr(e, "images", e.images[:, :2]), "the episode has 2 views"),
        (lambda e: setattr(e, "cameras", ()), "the episode has 3 views: without names"),
        (lambda e: setattr(e, "cameras", ("front", "side", "wrist")), "this judge looks at exterior_1"),
        (lambda e: setattr(e, "images", e.images.astype(np.float32)), "float32"),
        (lambda e: setattr(e, "images", e.images[:, :, :16, :16]), "16x16 pixels"),
    ],
)
def test_frames_a_judge_cannot_read(folder, spoil, words):
    episode = block_episode(0)
    spoil(episode)
    with pytest.raises(VlawError, match=words):
        score_episodes(folder, [episode])


def test_labels_are_required_before_anything_is_written(folder, tmp_path):
    episode = block_episode(0)
    episode.success = None
    for episodes, words in (([episode], "no success label"), ([], "0 episodes")):
        with pytest.raises(VlawError, match=words):
            finetune_reward_model(folder, episodes, RewardModelConfig(steps=1), tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


def test_damaged_and_foreign_checkpoints(folder, tmp_path):
    import shutil

    with pytest.raises(VlawError, match="cannot be read"):
        score_episodes(tmp_path / "nowhere", [])
    cut = shutil.copytree(folder, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(VlawError, match="weights cannot be read"):
        score_episodes(cut, [])
    config = json.loads((folder / "config.json").read_text())
    (cut / "config.json").write_text(json.dumps({**config, "class": "FlowPolicy"}))
    with pytest.raises(VlawError, match="FlowPolicy"):
        score_episodes(cut, [])


def test_finetuning_refuses_replays_of_other_rollouts(tmp_path):
    """Labels go from rollouts to their replays by position: a mix-up would teach the judge nonsense."""
    from dataclasses import replace

    judge = ClipJudge.build(ClipJudgeConfig(**ClipJudge.of_robot(SPEC)), ["stack"], seed=0)
    judge.save(tmp_path / "judge")
    rollouts = [
        episode(success=bool(i), episode_id=f"e{i}", cameras=SPEC.camera_names, size=(64, 64), dims=(5, 5))
        for i in range(2)
    ]
    swapped = [replace(e, success=None, start_episode_id=e.episode_id) for e in rollouts[::-1]]
    with pytest.raises(VlawError, match="not those of the rollouts"):
        finetune_reward_model(
            tmp_path / "judge", rollouts, RewardModelConfig(steps=1), tmp_path / "out", seed=0, replays=swapped
        )
    assert not (tmp_path / "out").exists()
    result = finetune_reward_model(
        tmp_path / "judge", rollouts, RewardModelConfig(steps=1), tmp_path / "out", seed=0, replays=swapped[::-1]
    )
    assert (result["episodes"], result["successes"]) == (4, 2)
