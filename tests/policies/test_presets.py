"""Presets: every entry names a class of its kind and builds; the paper's have the published sizes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from vlaw_models.autoencoders.base import build_autoencoder, load_autoencoder
from vlaw_models.autoencoders.folded_pixels import FoldedPixelsConfig
from vlaw_models.autoencoders.registry import AUTOENCODERS
from vlaw_models.checkpoint import load_checkpoint, preset_class
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.policies.registry import POLICIES
from vlaw_models.presets import AUTOENCODER, BACKBONES, POLICY, PRESETS, REWARD_MODEL, WORLD_MODEL, foundation
from vlaw_models.reward_models.base import build_reward_model, load_reward_model
from vlaw_models.reward_models.qwen_judge import QwenJudge, QwenJudgeConfig
from vlaw_models.reward_models.registry import REWARD_MODELS
from vlaw_models.robots.droid import SPEC as DROID
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.world_models.base import Condition, build_world_model, load_world_model
from vlaw_models.world_models.chunk_warp import ChunkWarp, ChunkWarpConfig
from vlaw_models.world_models.ctrl_world import CtrlWorld, CtrlWorldConfig
from vlaw_models.world_models.registry import WORLD_MODELS

INSTRUCTIONS = ["stack the red block", "erase all marks"]
SEEN = {"cameras": SPEC.camera_names}
TABLES = [
    (POLICIES, POLICY),
    (WORLD_MODELS, WORLD_MODEL),
    (AUTOENCODERS, AUTOENCODER),
    (REWARD_MODELS, REWARD_MODEL),
]
REGISTRIES = [models for models, _ in TABLES]


def count(model: torch.nn.Module) -> float:
    """Millions of parameters, counting tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def judged(images: np.ndarray, *, instruction: str = INSTRUCTIONS[0], pose: int = 5) -> Episode:
    """An episode with these images (T+1, V, height, width, 3), for a judge: `pose` numbers a step, all zero."""
    poses = np.zeros((len(images), pose), dtype=np.float32)
    return Episode(
        task="stack",
        instruction=instruction,
        seed=0,
        images=images,
        states=poses,
        actions=poses[1:],
        cameras=SPEC.camera_names,
    )


@pytest.mark.parametrize(("models", "presets"), TABLES, ids=lambda value: getattr(value, "kind", ""))
def test_every_preset_names_a_class_of_its_kind(models, presets):
    assert tuple(presets) in (PRESETS, (*PRESETS, *BACKBONES))
    assert {entry["class"] for entry in presets.values()} <= set(models.names())


def test_every_class_can_be_loaded_by_its_name():
    assert {models.kind: len(models.names()) for models in REGISTRIES} == {
        "policy": 6,
        "world model": 4,
        "autoencoder": 4,
        "reward model": 2,
    }
    for models in REGISTRIES:
        for name in models.names():
            model = models.load(name, where="a test")
            assert model.__name__ == name
            assert callable(model.load)
            assert models is POLICIES or dataclasses.is_dataclass(model.config_class)


def test_a_preset_of_another_kind_is_refused():
    with pytest.raises(VlawError, match="'FoldedPixels' cannot be used as a world model"):
        build_world_model(AUTOENCODER["tiny"], robot=SPEC, seed=0)
    with pytest.raises(VlawError, match="'Unheard' cannot be used as an autoencoder"):
        build_autoencoder({"class": "Unheard", "sizes": {}}, seed=0)


def test_tiny_presets_are_the_classes_defaults():
    # What is shipped was made from the defaults: the table must say the same.
    own = ChunkWarp.of_robot(SPEC)
    assert ChunkWarpConfig(**{**WORLD_MODEL["tiny"]["sizes"], **own}) == ChunkWarpConfig(**own)
    assert FoldedPixelsConfig(**AUTOENCODER["tiny"]["sizes"]) == FoldedPixelsConfig()
    own = CtrlWorld.of_robot(DROID)
    assert CtrlWorldConfig(**{**WORLD_MODEL["paper"]["sizes"], **own}) == CtrlWorldConfig(**own)
    model = preset_class(REWARD_MODEL["tiny"], REWARD_MODELS)
    assert model.__name__ == "ClipJudge"
    own = model.of_robot(SPEC)
    assert model.config_class(**REWARD_MODEL["tiny"]["sizes"], **own) == model.config_class(**own)


def test_tiny_models_are_seeded_and_survive_a_checkpoint(tmp_path):
    for build, load, entry, extra in (
        (build_world_model, load_world_model, WORLD_MODEL["tiny"], {"robot": SPEC}),
        (build_autoencoder, load_autoencoder, AUTOENCODER["small"], {}),
        (build_reward_model, load_reward_model, REWARD_MODEL["tiny"], {"robot": SPEC, "instructions": INSTRUCTIONS}),
    ):
        before = torch.get_rng_state()
        model = build(entry, seed=3, **extra)
        assert torch.equal(torch.get_rng_state(), before)
        assert type(model).__name__ == entry["class"]
        assert count(model) < 6
        assert same(model, build(entry, seed=3, **extra))
        assert not same(model, build(entry, seed=4, **extra))
        folder = model.save(tmp_path / entry["class"])
        assert same(model, load(folder))
        with pytest.raises(VlawError, match="cannot be used as a policy"):
            load_checkpoint(folder, POLICIES)


@pytest.mark.parametrize(
    ("preset", "millions"), [("tiny", (2.51, 0.0)), pytest.param("small", (64.9, 4.8), marks=pytest.mark.slow)]
)
def test_world_model_and_autoencoder_fit_together_on_64_pixels(preset, millions):
    autoencoder = build_autoencoder(AUTOENCODER[preset], seed=0)
    model = build_world_model(WORLD_MODEL[preset], robot=SPEC, seed=0).eval()
    assert (count(model), count(autoencoder)) == pytest.approx(millions, abs=0.06)
    images = np.random.default_rng(0).integers(0, 256, (1, len(SPEC.cameras), 64, 64, 3), dtype=np.uint8)
    latents = autoencoder.encode(images)
    assert tuple(latents.shape[1:]) == model.latent_shape
    assert autoencoder.decode(latents, model.views).shape == images.shape
    context = latents[:, None].expand(-1, len(model.offsets()[0]), -1, -1, -1)
    frames = latents[:, None].expand(-1, model.num_denoised, -1, -1, -1)
    condition = Condition(context, torch.zeros(1, context.shape[1] + model.chunk, model.pose_dim))
    assert model.pose_dim == 5  # the embedded robot's
    with torch.inference_mode():
        out = model(frames, torch.ones(1), condition)
    assert out.shape == frames.shape
    assert out.isfinite().all()


def test_small_judge_answers_about_an_episode():
    judge = build_reward_model(REWARD_MODEL["small"], robot=SPEC, instructions=INSTRUCTIONS, seed=0).eval()
    assert isinstance(judge, QwenJudge)
    assert 15 < count(judge) < 40
    images = np.random.default_rng(0).integers(0, 256, (33, len(SPEC.cameras), 64, 64, 3), dtype=np.uint8)
    episode = judged(images)
    with torch.inference_mode():
        chance = judge.p_yes(judge.clips([episode])[0], [episode.instruction])
    assert 0 < float(chance) < 1


def test_paper_sizes_are_the_published_ones():
    with torch.device("meta"):
        model, autoencoder = (
            build_world_model(WORLD_MODEL["paper"], robot=DROID, seed=0),
            build_autoencoder(AUTOENCODER["paper"], seed=0),
        )
    assert 1520 < count(model.unet) < 1530  # Stable Video Diffusion: 1,524.6 M
    assert 97 < count(autoencoder) < 98.5  # Stable Video Diffusion: 97.7 M
    assert model.latent_shape == (4, 3 * 192 // autoencoder.factor, 320 // autoencoder.factor)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder as Qwen3-VL is published, small: config.json, safetensors, tokenizer."""
    folder = tmp_path_factory.mktemp("qwen")
    network = REWARD_MODEL["small"]["network"]
    text = {**network["text_config"], "num_hidden_layers": 2, "max_position_embeddings": 2048}
    vision = {**network["vision_config"], "depth": 2, "patch_size": 16, "deepstack_visual_indexes": [0]}
    config = QwenJudgeConfig(cameras=("exterior_1",), image_size=64, view_size=64)
    judge = QwenJudge.build(config, {"text_config": text, "vision_config": vision}, INSTRUCTIONS, seed=1)
    judge.model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=judge.tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(
        folder
    )
    return folder, judge


def test_paper_judge_comes_from_published_weights_and_wide_frames(published, tmp_path):
    folder, source = published
    judge = build_reward_model(REWARD_MODEL["paper"], robot=DROID, weights=folder)
    assert torch.equal(judge.model.lm_head.weight, source.model.lm_head.weight.bfloat16())
    images = np.zeros((17, len(SPEC.cameras), 192, 320, 3), dtype=np.uint8)
    episode = judged(images, pose=7)
    again = load_reward_model(judge.save(tmp_path / "judge"))
    for one in (judge, again):
        assert one.clips([episode])[0].shape == (1, 16, 2, 192, 320, 3)
    square = judged(images[..., :192, :], instruction="", pose=7)
    with pytest.raises(VlawError, match="192x192 pixels, this judge was made for 320x192"):
        again.clips([square])


def test_weights_that_cannot_be_had_are_refused(tmp_path):
    assert REWARD_MODEL["paper"]["weights"] == "Qwen/Qwen3-VL-4B-Instruct"
    with pytest.raises(VlawError, match="cannot be loaded"):
        build_reward_model(REWARD_MODEL["paper"], robot=DROID, weights=tmp_path)
    with pytest.raises(VlawError, match="ClipJudge takes no published weights"):
        build_reward_model(REWARD_MODEL["tiny"], robot=SPEC, instructions=INSTRUCTIONS, weights=tmp_path)


@pytest.mark.parametrize("kind", ["world_model", "reward_model", "autoencoder"])
def test_weights_that_are_not_shipped_say_where_to_name_them(kind):
    with pytest.raises(VlawError, match=r"foundation\.toml \[weights\]"):
        foundation("small", kind)
