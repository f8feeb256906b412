"""QwenJudge: transformers' Qwen3-VL asked whether the task is done; P(yes) from the logits at the answer position.

The prompt, the video patches, the model; one code path from a toy made from scratch to Qwen3-VL-4B loaded by path or
hub id (`from_pretrained`). The cameras stand side by side in one video, as the world model stacks its views. Text ids
and patches are made here from the model's own tokenizer and sizes, not by its processor, so that frames already in
memory need no video file; a test holds the patches against transformers' video processor.

P(yes) is the softmax over the logits of the words "yes" and "no" only, at the position where the assistant's answer
begins; other words' probabilities are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.modeling_layers import GradientCheckpointingLayer

from vlaw_models import checkpoint
from vlaw_models.device import seeded
from vlaw_models.errors import VlawError
from vlaw_models.reward_models.base import RewardModel, as_float, check_cameras, plain, question
from vlaw_models.reward_models.words import padded_ids, word_tokenizer

START, END = "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"
IMAGE = "<|image_pad|>"
"""Never in a prompt; the model's configuration wants an id for it."""
SPECIAL = (START, END, VISION_START, VISION_END, VIDEO, IMAGE)
WORDS = "user assistant camera views side by side answer yes or no. < > seconds 0 1 2 3 4 5 6 7 8 9"


@dataclass(frozen=True)
class QwenJudgeConfig:
    """How a QwenJudge looks at an episode; the sizes of the network are in Qwen3VLConfig."""

    cameras: tuple[str, ...]
    num_frames: int = 16
    image_size: int | tuple[int, int] = 64
    """Of the episode's frames, pixels: one number for square ones, else height and width."""
    view_size: int = 64
    """Every camera picture is resized to as many pixels as a square of this size has, in its own shape, each side a
    whole number of merged patches; of a multiple of these for square pictures."""
    seconds: float = 6.4
    """Length of an episode whose frames nobody gives times of, in the time stamps before the frames."""


class QwenJudge(RewardModel):
    """16 frames and a question -> logits of yes and no, by a Qwen3-VL."""

    config_class = QwenJudgeConfig
    autocast = False
    reads_times = True

    def __init__(self, config: QwenJudgeConfig, tokenizer: Tokenizer, model: Qwen3VLForConditionalGeneration):
        super().__init__()
        self.settings, self.tokenizer, self.model = config, tokenizer, model
        self.cameras = check_cameras(config.cameras, where="QwenJudge")
        self.num_frames, self.image_size = config.num_frames, config.image_size
        vision = model.config.vision_config
        if (
            config.view_size % (vision.patch_size * vision.spatial_merge_size)
            or config.num_frames % vision.temporal_patch_size
        ):
            raise VlawError(
                f"view_size {config.view_size} and num_frames {config.num_frames} do not fit the patches",
                where="QwenJudge's configuration",
                remedy=f"view_size must be a multiple of {vision.patch_size * vision.spatial_merge_size}, "
                f"num_frames of {vision.temporal_patch_size}.",
            )
        # Of the possible spellings, the one a model writes when asked to "answer yes or no".
        self.answers = [self._token("yes"), self._token("no")]

    @classmethod
    def build(
        cls, config: QwenJudgeConfig, sizes: dict[str, Any], instructions: Sequence[str], *, seed: int
    ) -> QwenJudge:
        """A judge from scratch. `sizes` are Qwen3VLConfig's text_config and vision_config; see `toy_sizes`."""
        tokenizer = word_tokenizer([WORDS, *(question(text) for text in instructions)], SPECIAL)
        text = {"vocab_size": tokenizer.get_vocab_size(), **sizes["text_config"]}
        named = {
            name: tokenizer.token_to_id(token)
            for name, token in (
                ("video_token_id", VIDEO),
                ("image_token_id", IMAGE),
                ("vision_start_token_id", VISION_START),
                ("vision_end_token_id", VISION_END),
            )
        }
        with seeded(seed):
            model = Qwen3VLForConditionalGeneration(
                Qwen3VLConfig(
                    text_config=text,
                    vision_config=sizes["vision_config"],
                    tie_word_embeddings=True,
                    **named,
                )
            )
        return cls(config, tokenizer, model)

    @classmethod
    def from_pretrained(cls, source: str, config: QwenJudgeConfig, *, dtype: torch.dtype = torch.bfloat16) -> QwenJudge:
        """A published Qwen3-VL (e.g. Qwen/Qwen3-VL-4B-Instruct) by folder or hub id. VlawError where it cannot be
        had."""
        from transformers import AutoTokenizer

        try:
            model = Qwen3VLForConditionalGeneration.from_pretrained(source, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise VlawError(
                f"the Qwen3-VL model cannot be loaded: {str(error)[:300]}",
                where=source,
                remedy="Give a folder with the model's config, safetensors and tokenizer, or a hub id that "
                "this machine can reach.",
            ) from error
        return cls(config, tokenizer.backend_tokenizer, model)

    def recomputed(self) -> list[nn.Module]:
        return [part for part in self.modules() if isinstance(part, GradientCheckpointingLayer)]

    def forward(
        self,
        frames: Tensor,
        instructions: Sequence[str],
        states: Tensor | None = None,
        times: Tensor | None = None,
    ) -> Tensor:
        del states  # it judges by what it sees, as the paper's does
        output = self.model(**self.inputs(frames, instructions, times), logits_to_keep=1, use_cache=False)
        return output.logits[:, -1, self.answers]

    def features(self, frames: Tensor, instructions: Sequence[str], states: Tensor | None = None) -> Tensor:
        del states
        # The video comes before the question, and attention is causal: its tokens have not read the question.
        inputs = self.inputs(frames, instructions)
        hidden = self.model.model(**inputs, use_cache=False).last_hidden_state.float()
        seen = (inputs["input_ids"] == self._token(VIDEO)).to(hidden.dtype)[..., None]
        return (hidden * seen).sum(1) / seen.sum(1)

    def inputs(self, frames: Tensor, instructions: Sequence[str], times: Tensor | None = None) -> dict[str, Tensor]:
        """What transformers' model is given; ids and patches are those of its processor. `times` (B, F): seconds."""
        device = self.model.device
        patches, grid = self.patches(frames.to(device))
        stamps = self._stamps(grid[0], len(instructions), times)
        prompts = [self._prompt(text, own, grid) for text, own in zip(instructions, stamps, strict=True)]
        ids, mask = padded_ids(self.tokenizer, prompts, left=True)
        ids, mask = ids.to(device), mask.to(device)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "pixel_values_videos": patches.to(self.model.dtype),
            "video_grid_thw": torch.tensor([grid] * len(ids), device=device),
            # 2 marks video tokens: without it the model does not give them their place in time and picture.
            "mm_token_type_ids": torch.where(ids == self._token(VIDEO), 2, 0).int(),
        }

    def lora_targets(self) -> list[str]:
        """The attention projections of the language and the vision part."""
        ends = ("q_proj", "k_proj", "v_proj", "o_proj", "attn.qkv", "attn.proj")
        return [name for name, _ in self.named_modules() if name.endswith(ends)]

    def save(self, folder: Path) -> Path:
        dtype = str(self.model.dtype).removeprefix("torch.")
        config = judge_config(self.settings, self.model.config.to_dict(), dtype)
        tensors = self.model.state_dict()
        if self.model.config.tie_word_embeddings:
            tensors.pop("lm_head.weight", None)
        return checkpoint.save_checkpoint(folder, config, tensors, tokenizer=self.tokenizer.to_str())

    @classmethod
    def load(cls, folder: Path) -> QwenJudge:
        values = checkpoint.load_config(folder)
        where = str(Path(folder) / checkpoint.CONFIG)
        try:
            settings = {key: values[key] for key in QwenJudgeConfig.__dataclass_fields__}
            dtype, network = getattr(torch, values["dtype"]), Qwen3VLConfig.from_dict(values["model"])
        except (KeyError, AttributeError, TypeError) as error:
            raise VlawError(
                f"config.json lacks or misspells {error}",
                where=where,
                remedy="Use a complete checkpoint written by this version of vlaw.",
            ) from error
        with seeded(0):
            model = Qwen3VLForConditionalGeneration(network).to(dtype)
        tensors = checkpoint.load_tensors(folder)
        if network.tie_word_embeddings and "model.language_model.embed_tokens.weight" in tensors:
            tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"]
        checkpoint.load_weights(model, tensors, where=folder)
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
        return cls(QwenJudgeConfig(**settings), Tokenizer.from_str(checkpoint.read_tokenizer(folder)), model).eval()

    def _stamps(self, steps: int, count: int, times: Tensor | None) -> list[list[float]]:
        """Of each of `count` clips the seconds that its temporal patches are said to be at: as in the processor, the
        middle between a patch's first frame and its last."""
        if times is None:
            return [[self.settings.seconds * (step + 0.5) / steps for step in range(steps)]] * count
        span = times.shape[1] // steps
        return ((times[:, ::span] + times[:, span - 1 :: span]) / 2).tolist()

    def _prompt(self, instruction: str, stamps: Sequence[float], grid: tuple[int, int, int]) -> str:
        """The chat prompt with one time-stamped run of video tokens per temporal patch, up to the answer."""
        merge = self.model.config.vision_config.spatial_merge_size
        run = VISION_START + VIDEO * (grid[1] // merge * (grid[2] // merge)) + VISION_END
        video = "".join(f"<{seconds:.1f} seconds>{run}" for seconds in stamps)
        views = "camera views side by side. " if len(self.cameras) > 1 else ""
        return f"{START}user\n{video}{views}{question(instruction)} Answer yes or no.{END}\n{START}assistant\n"

    def patches(self, frames: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """(B, F, V, h, w, 3) -> the patch rows Qwen3-VL wants, (B t h w, C p_t p p), and the grid (t, h, w) of a
        clip."""
        vision = self.model.config.vision_config
        patch, merge, span = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
        batch, count, views = frames.shape[:3]
        pictures = as_float(frames).flatten(0, 2)
        full = pictures.shape[-2:]
        height, width = view_shape(full[0], full[1], self.settings.view_size, patch * merge)
        if pictures.shape[-2:] != (height, width):
            pictures = functional.interpolate(
                pictures, size=(height, width), mode="bilinear", antialias=True, align_corners=False
            )
        wide = pictures.unflatten(0, (batch, count, views)).movedim(2, -2).flatten(-2)
        grid = (count // span, height // patch, views * width // patch)
        cells = wide.reshape(batch, grid[0], span, 3, grid[1] // merge, merge, patch, grid[2] // merge, merge, patch)
        # Row order: time, then blocks of merge x merge patches; within a row: channel, time, height, width.
        rows = cells.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(batch * grid[0] * grid[1] * grid[2], -1)
        return rows, grid

    def _token(self, text: str) -> int:
        token = self.tokenizer.token_to_id(text)
        if token is None:
            raise VlawError(
                f"the tokenizer has no token {text!r}", where="QwenJudge", remedy="Use a Qwen3-VL tokenizer."
            )
        return token


def judge_config(settings: QwenJudgeConfig, network: dict[str, Any], dtype: str) -> dict[str, Any]:
    """What config.json holds: how the judge looks, transformers' configuration of the network, its numbers' type."""
    return {"class": "QwenJudge", "format": 1, **plain(asdict(settings)), "model": network, "dtype": dtype}


def view_shape(height: int, width: int, size: int, multiple: int) -> tuple[int, int]:
    """(height, width) of a picture that keeps its shape at the area of a square of `size`, both multiples of
    `multiple`."""
    scale = size / (height * width) ** 0.5
    rows, columns = (max(round(side * scale / multiple), 1) for side in (height, width))
    return rows * multiple, columns * multiple


def toy_sizes(width: int = 96, text_layers: int = 2, vision_layers: int = 3, patch: int = 8) -> dict[str, Any]:
    """Sizes of a Qwen3-VL small enough to train from scratch on a CPU (defaults: about 0.9 million parameters)."""
    head = width // 4
    return {
        "text_config": {
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": head,
            "max_position_embeddings": 1024,
            # The three parts (time, height, width) must sum to half a head.
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_interleaved": True,
                "mrope_section": [head // 2 - 2 * (head // 6), head // 6, head // 6],
            },
        },
        "vision_config": {
            "depth": vision_layers,
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_heads": 4,
            "patch_size": patch,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": width,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
    }
