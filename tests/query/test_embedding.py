"""The vector of an episode: of length 1, the same in any batch, from the frames that the judge sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factories import episode

from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.reward_models.clip_judge import ClipJudge, ClipJudgeConfig
from vlaw_models.reward_models.embed import embed_episodes, steps_seen
from vlaw_models.reward_models.qwen_judge import QwenJudge, QwenJudgeConfig, toy_sizes
from vlaw_models.robots.tabletop.spec import SPEC

INSTRUCTIONS = ["stack the red block", "stack the blue block"]


def clip(seed: int, steps: int = 12) -> Episode:
    instruction = INSTRUCTIONS[seed % 2]
    return episode(
        "stack",
        seed,
        instruction=instruction,
        steps=steps,
        cameras=SPEC.camera_names,
        size=(32, 32),
        dims=(5, 5),
        noise=seed,
    )


@pytest.fixture(scope="module", params=["clip", "qwen"])
def judge_dir(request, tmp_path_factory):
    if request.param == "clip":
        judge = ClipJudge.build(
            ClipJudgeConfig(
                **ClipJudge.of_robot(SPEC), image_size=32, num_frames=8, channels=(8, 16, 24), width=32, layers=1
            ),
            INSTRUCTIONS,
            seed=3,
        )
    else:
        judge = QwenJudge.build(
            QwenJudgeConfig(
                **QwenJudge.of_robot(SPEC, ("exterior", "wrist")), num_frames=4, image_size=32, view_size=32
            ),
            toy_sizes(width=32, text_layers=1, vision_layers=1),
            INSTRUCTIONS,
            seed=3,
        )
    return judge.save(tmp_path_factory.mktemp("judge") / request.param)


def test_embeddings_are_unit_vectors_the_same_whatever_the_batch(judge_dir):
    clips = [clip(seed) for seed in range(5)]
    vectors = embed_episodes(judge_dir, clips, batch_size=5)
    assert vectors.shape[0] == 5
    assert vectors.shape[1] in (32, 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(vectors, embed_episodes(judge_dir, iter(clips), batch_size=5))
    np.testing.assert_allclose(vectors, embed_episodes(judge_dir, clips, batch_size=2), atol=2e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3, "different episodes, different vectors"
    assert embed_episodes(judge_dir, []).shape == (0, 0)


def test_only_the_frames_that_the_judge_sees_are_needed(judge_dir):
    from vlaw_models.reward_models.base import load_reward_model

    whole, judge = clip(1), load_reward_model(judge_dir)
    seen = steps_seen(judge.num_frames, whole.num_steps)
    assert len(seen) < whole.num_steps + 1
    few = replace(whole, images=whole.images[seen])
    np.testing.assert_array_equal(embed_episodes(judge, [whole]), embed_episodes(judge, [few]))
    changed = replace(whole, images=255 - whole.images)
    assert not np.allclose(embed_episodes(judge, [whole]), embed_episodes(judge, [changed]), atol=1e-4)
    with pytest.raises(VlawError, match="frames for 12 steps"):
        embed_episodes(judge, [replace(whole, images=whole.images[:2])])


def test_a_video_is_near_to_itself_under_another_question():
    from vlaw_models.presets import foundation
    from vlaw_models.rollouts.demonstrate import iterate_demonstrations

    first, other, third = iterate_demonstrations(
        ("stack", "draw", "book"), 1, robot=SPEC, purpose="pretraining", seed=3
    )
    asked = replace(first, instruction="stack the blue block on the green block")
    a, b, *others = embed_episodes(foundation("tiny", "reward_model"), [first, asked, other, third])
    assert a @ b > max(a @ c for c in others)
