"""Weights as they are published, at the sizes of preset toy: written by the published classes themselves."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from golden_openpi import GOLDEN, RECORD, weights
from safetensors.torch import save_file

from vlaw_models.presets import AUTOENCODER, REWARD_MODEL, WORLD_MODEL

WORDS = ["put", "the", "marker", "in", "bowl", "cup"]
INSTRUCTIONS = ["put the marker in the bowl", "put the cup in the bowl"]


def svd(folder: Path) -> Path:
    """diffusers' folder of Stable Video Diffusion: `unet` and `vae`."""
    unet().save_pretrained(folder / "unet")
    vae().save_pretrained(folder / "vae")
    return folder


def unet():
    from diffusers import UNetSpatioTemporalConditionModel

    sizes = WORLD_MODEL["toy"]["sizes"]
    torch.manual_seed(1)
    return UNetSpatioTemporalConditionModel(
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=sizes["block_out_channels"],
        layers_per_block=sizes["layers"],
        num_attention_heads=sizes["heads"],
        cross_attention_dim=sizes["token_dim"],
        num_frames=7,
    )


def vae():
    from diffusers import AutoencoderKLTemporalDecoder

    sizes = AUTOENCODER["toy"]["sizes"]
    torch.manual_seed(2)
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=sizes["block_out_channels"],
        layers_per_block=sizes["layers_per_block"],
        latent_channels=4,
        scaling_factor=0.18215,
    )


def clip(folder: Path) -> Path:
    """transformers' folder of CLIP, both of its sides."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    begin, end = "<|startoftext|>", "<|endoftext|>"
    words = {word: number for number, word in enumerate([*WORDS, "[UNK]", begin, end])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([begin, end])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, words[begin]), (end, words[end])]
    )
    clip_model(len(words)).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def clip_model(vocabulary: int = len(WORDS) + 3):
    from transformers import CLIPConfig, CLIPModel

    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **shared,
        "vocab_size": vocabulary,
        "projection_dim": 16,
        "max_position_embeddings": 12,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }
    torch.manual_seed(3)
    picture = {**shared, "image_size": 32, "patch_size": 16, "projection_dim": 16}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=picture, projection_dim=16))


def ctrl_world_state() -> dict[str, torch.Tensor]:
    """The names of Ctrl-World's module: what SVD's pipeline has, CLIP's text tower, and its action encoder."""
    width = WORLD_MODEL["toy"]["sizes"]["token_dim"]
    torch.manual_seed(4)
    encoder = torch.nn.Sequential(
        torch.nn.Linear(7, width),
        torch.nn.SiLU(),
        torch.nn.Linear(width, width),
        torch.nn.SiLU(),
        torch.nn.Linear(width, width),
    )
    text = clip_model().state_dict()
    parts = {
        "unet": unet().state_dict(),
        "vae": vae().state_dict(),
        "image_encoder": {"vision_model.post_layernorm.weight": torch.ones(32)},
        "text_encoder": {name: value for name, value in text.items() if name.startswith("text_")},
        "action_encoder.action_encode": encoder.state_dict(),
    }
    return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}


def ctrl_world(file: Path) -> Path:
    torch.save(ctrl_world_state(), file)
    return file


def cosmos(folder: Path) -> Path:
    """diffusers' folder of Cosmos-Predict2 for video: `transformer`, `vae`, `text_encoder` and `tokenizer`."""
    from transformers import PreTrainedTokenizerFast

    cosmos_transformer().save_pretrained(folder / "transformer")
    wan_vae().save_pretrained(folder / "vae")
    t5().save_pretrained(folder / "text_encoder")
    given = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=t5_words(), **given).save_pretrained(folder / "tokenizer")
    return folder


def t5():
    """T5-11B's encoder at the width that the transformer reads."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(8)
    width = WORLD_MODEL["cosmos_toy"]["sizes"]["text_dim"]
    return T5EncoderModel(
        T5Config(vocab_size=16, d_model=width, d_kv=4, d_ff=16, num_layers=2, num_heads=2, initializer_factor=4.0)
    )


def t5_words():
    """Words with T5's own first three, and an end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<pad>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def cosmos_transformer():
    from diffusers import CosmosTransformer3DModel

    sizes = WORLD_MODEL["cosmos_toy"]["sizes"]
    torch.manual_seed(6)
    return CosmosTransformer3DModel(
        in_channels=sizes["latent_channels"] + 1,
        out_channels=sizes["latent_channels"],
        num_attention_heads=sizes["heads"],
        attention_head_dim=sizes["head_dim"],
        num_layers=sizes["layers"],
        text_embed_dim=sizes["text_dim"],
        adaln_lora_dim=sizes["adaln_dim"],
        rope_scale=(1.0, 3.0, 3.0),
        extra_pos_embed_type=None,
    )


def wan_vae():
    from diffusers import AutoencoderKLWan

    sizes = AUTOENCODER["cosmos_toy"]["sizes"]
    torch.manual_seed(7)
    numbers = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.0, 2.0, 0.5, 1.5]}
    return AutoencoderKLWan(**{**sizes, "dim_mult": list(sizes["dim_mult"])}, **numbers)


def qwen3_vl(folder: Path) -> Path:
    """transformers' folder of a Qwen3-VL."""
    from transformers import PreTrainedTokenizerFast

    from vlaw_models.reward_models.qwen_judge import QwenJudge, QwenJudgeConfig

    config = QwenJudgeConfig(cameras=("exterior_1", "wrist"), num_frames=4, image_size=(48, 80), view_size=32)
    judge = QwenJudge.build(config, REWARD_MODEL["toy"]["network"], INSTRUCTIONS, seed=5)
    judge.model.bfloat16().save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=judge.tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(
        folder
    )
    return folder


def openpi(kind: str, folder: Path) -> Path:
    """openpi's converted folder: config.json, model.safetensors, assets; the tokenizer, which openpi has elsewhere."""
    (folder / "assets" / "droid").mkdir(parents=True)
    save_file(weights(kind), str(folder / "model.safetensors"))
    stats = {name: {**values, "mean": [0.1] * 7, "std": [0.5] * 7} for name, values in RECORD["statistics"].items()}
    (folder / "assets" / "droid" / "norm_stats.json").write_text(json.dumps({"norm_stats": stats}))
    (folder / "config.json").write_text(json.dumps({"action_dim": 8, "action_horizon": 8, "precision": "float32"}))
    (folder / "tokenizer.json").write_text((GOLDEN / "tokenizer.json").read_text())
    return folder


def in_joints(folder: Path) -> Path:
    """The same, as pi0.5-DROID has it: statistics of seven joints and the gripper."""
    (file,) = folder.rglob("norm_stats.json")
    statistics = json.loads(file.read_text())
    for feature in statistics["norm_stats"].values():
        for numbers in feature.values():
            numbers.append(numbers[-1])
    file.write_text(json.dumps(statistics))
    return folder


def lerobot(kind: str, folder: Path) -> Path:
    """LeRobot's folder: every name begins with "model.", statistics in the normalizer's state."""
    folder.mkdir(parents=True)
    save_file({f"model.{name}": value for name, value in weights(kind).items()}, str(folder / "model.safetensors"))
    modes = dict.fromkeys(("STATE", "ACTION"), "QUANTILES" if kind == "pi05" else "MEAN_STD")
    config = {"type": kind, "chunk_size": 8, "num_inference_steps": 4, "normalization_mapping": modes}
    (folder / "config.json").write_text(json.dumps(config))
    state = {
        f"{feature}.{name}": torch.tensor(values)
        for feature, key in (("observation.state", "state"), ("action", "actions"))
        for name, values in {**RECORD["statistics"][key], "mean": [0.1] * 7, "std": [0.5] * 7}.items()
    }
    save_file(state, str(folder / "policy_preprocessor_step_5_normalizer_processor.safetensors"))
    (folder / "tokenizer.json").write_text((GOLDEN / "tokenizer.json").read_text())
    return folder
