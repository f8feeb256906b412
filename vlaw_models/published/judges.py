"""Qwen3-VL, a transformers folder, as the judge that asks it."""

from __future__ import annotations

from pathlib import Path

from vlaw_models.checkpoint import TOKENIZER, read_text
from vlaw_models.errors import VlawError
from vlaw_models.presets import REWARD_MODEL
from vlaw_models.published.diffusion import ANOTHER
from vlaw_models.published.keys import match
from vlaw_models.published.part import Options, Part, preset_of, published_config, shapes_of
from vlaw_models.published.tensors import stored_tensors, weight_files

_HEAD = "lm_head.weight"


def qwen3_vl(path: Path, options: Options) -> list[Part]:
    """The judge: the network as it is, and how it looks at the robot's episodes."""
    from tokenizers import Tokenizer
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from vlaw_models.reward_models.base import judge_settings
    from vlaw_models.reward_models.qwen_judge import QwenJudge, judge_config

    settings = judge_settings(preset_of(REWARD_MODEL, options.preset, "QwenJudge"), robot=options.robot)
    given = published_config(path, needed_for="Qwen3-VL")
    if given.get("model_type") != "qwen3_vl":
        raise VlawError(
            f"this is a {given.get('model_type', 'model without a model_type')}, not qwen3_vl",
            where=str(path),
            remedy="Give the folder of Qwen/Qwen3-VL-4B-Instruct or another Qwen3-VL.",
        )
    network = Qwen3VLConfig.from_pretrained(path, local_files_only=True)
    tied = network.tie_word_embeddings
    published = stored_tensors(path)
    ours = shapes_of(lambda: Qwen3VLForConditionalGeneration(network))
    report = match(
        {key: one.shape for key, one in published.items()},
        {key: shape for key, shape in ours.items() if not (tied and key == _HEAD)},
        drop=lambda key: "a copy of the words' embedding" if tied and key == _HEAD else None,
    ).check("this Qwen3-VL", where=str(path), remedy=ANOTHER)
    vocabulary = read_text(path / TOKENIZER)
    # What the class itself asks of sizes and words, before anything is written.
    import torch

    with torch.device("meta"):
        QwenJudge(settings, Tokenizer.from_str(vocabulary), Qwen3VLForConditionalGeneration(network))
    kinds = {one.dtype for one in published.values()}
    dtype = "bfloat16" if kinds == {"BF16"} else "float16" if kinds == {"F16"} else "float32"
    return [
        Part(
            "reward_model",
            judge_config(settings, network.to_dict(), dtype),
            report,
            links={file.name: file for file in weight_files(path)},
            texts={TOKENIZER: vocabulary},
        )
    ]
