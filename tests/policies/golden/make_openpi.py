"""How openpi.json, openpi_pi0.npz, openpi_pi05.npz and tokenizer.json here were made: by openpi's own PyTorch code
(Physical-Intelligence/openpi, commit 15a9616).

    python make_openpi.py OPENPI_CHECKOUT

in an environment of its own: torch, sentencepiece, transformers 4.53.2 with openpi's `transformers_replace` copied over
it. openpi's sizes are in its code, so two of its classes are given others here; what they compute is untouched. Weights
follow from their names (`seeded_weights`), so none are stored.
"""

# ruff: noqa: SLF001 (openpi's functions that have no public name)

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np

HERE = Path(__file__).parent
BATCH, CHUNK, WIDTH, DIMS, STEPS, TIME = 3, 8, 8, 7, 4, 0.37
SIZES = {
    "text": {"width": 32, "mlp_dim": 64},
    "expert": {"width": 32, "mlp_dim": 64},
    "shared": {"depth": 2, "num_heads": 4, "num_kv_heads": 1, "head_dim": 8},
    "vision": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 16,
    },
}
INSTRUCTIONS = ["put the marker in the bowl", " Close_the drawer\n", "stack the red cup on the blue one"]
STATISTICS = {
    "state": {"q01": [0.2, -0.5, 0.0, -3.1, -1.2, -2.1, 0.0], "q99": [0.8, 0.4, 0.8, 3.1, 0.9, 2.0, 1.0]},
    "actions": {"q01": [0.1, -0.6, 0.0, -3.0, -1.3, -2.0, 0.0], "q99": [0.9, 0.5, 0.7, 3.0, 0.8, 1.9, 1.0]},
}


def seeded_weights(names: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Random float32 weights of these names and shapes; each follows from its own name."""
    found = {}
    for name, shape in names.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        scale = 0.2 if "norm" in name or name.endswith("bias") else 1.0 / np.sqrt(shape[-1])
        found[name] = (scale * rng.standard_normal(shape)).astype(np.float32)
    return found


def toy_tokenizer(folder: Path) -> tuple[object, str]:
    """A small SentencePiece model of PaliGemma's kind, and its tokenizer.json."""
    import sentencepiece
    from transformers import GemmaTokenizerFast

    text = folder / "text.txt"
    text.write_text("\n".join([*INSTRUCTIONS, "Task: State: Action: , ; move the arm to the left of the table"] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "toy"),
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        user_defined_symbols=["\n", *"0123456789"],
        hard_vocab_limit=False,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "toy.model"))
    fast = GemmaTokenizerFast(vocab_file=str(folder / "toy.model"))
    return model, fast.backend_tokenizer.to_str()


def openpi_network(kind: str, vocabulary: int):
    """openpi's PI0Pytorch at the sizes above."""
    import torch
    from openpi.models_pytorch import gemma_pytorch, pi0_pytorch
    from transformers import GemmaForCausalLM, PaliGemmaForConditionalGeneration
    from transformers.models.auto import CONFIG_MAPPING

    class Toy(gemma_pytorch.PaliGemmaWithExpertModel):
        def __init__(self, vlm, expert, use_adarms, precision):
            torch.nn.Module.__init__(self)
            del precision
            sizes = SIZES["shared"]
            common = {
                "num_attention_heads": sizes["num_heads"],
                "num_key_value_heads": sizes["num_kv_heads"],
                "head_dim": sizes["head_dim"],
                "num_hidden_layers": sizes["depth"],
                "vocab_size": vocabulary,
                "hidden_activation": "gelu_pytorch_tanh",
            }
            config = CONFIG_MAPPING["paligemma"](
                text_config={
                    "model_type": "gemma",
                    "hidden_size": vlm.width,
                    "intermediate_size": vlm.mlp_dim,
                    **common,
                },
                vision_config={
                    "model_type": "siglip_vision_model",
                    "projection_dim": vlm.width,
                    "vision_use_head": False,
                    **SIZES["vision"],
                },
                projection_dim=vlm.width,
            )
            config._vocab_size = config.image_token_index = vocabulary
            config.text_config.use_adarms, config.text_config.adarms_cond_dim = False, None
            own = CONFIG_MAPPING["gemma"](
                hidden_size=expert.width,
                intermediate_size=expert.mlp_dim,
                use_adarms=use_adarms[1],
                adarms_cond_dim=expert.width if use_adarms[1] else None,
                **common,
            )
            self.paligemma = PaliGemmaForConditionalGeneration(config=config)
            self.gemma_expert = GemmaForCausalLM(config=own)
            self.gemma_expert.model.embed_tokens = None
            self.to(torch.float32)

    pi0_pytorch.PaliGemmaWithExpertModel = Toy
    variants = {name: SimpleNamespace(**SIZES[name]) for name in ("text", "expert")}
    pi0_pytorch._gemma.get_config = variants.__getitem__
    pi0_pytorch._preprocessing.preprocess_observation_pytorch = lambda observation, train: observation
    config = SimpleNamespace(
        pi05=kind == "pi05",
        paligemma_variant="text",
        action_expert_variant="expert",
        dtype="float32",
        action_dim=WIDTH,
        action_horizon=CHUNK,
        pytorch_compile_mode=None,
    )
    return pi0_pytorch.PI0Pytorch(config).eval()


def main(checkout: Path) -> None:
    sys.path[:0] = [str(checkout / "src"), str(checkout / "packages" / "openpi-client" / "src")]
    from transformers import AutoProcessor, PaliGemmaForConditionalGeneration  # noqa: F401 (looks for packages itself)

    # What openpi imports for JAX and for downloads, and the code used here does not need.
    names = (
        "jax jax.numpy flax flax.traverse_util orbax orbax.checkpoint "
        "openpi.models.gemma openpi.models.model openpi.shared openpi.shared.array_typing openpi.shared.download "
        "openpi.shared.image_tools openpi.shared.normalize openpi.models.utils openpi.models.utils.fsq_tokenizer "
        "openpi.models_pytorch.preprocessing_pytorch"
    )
    for name in names.split():
        sys.modules[name] = MagicMock()
    import torch
    from openpi import transforms
    from openpi.models.tokenizer import PaligemmaTokenizer
    from openpi_client import image_tools
    from safetensors.torch import load_file, save_model

    rng = np.random.default_rng(17)
    images = rng.integers(0, 256, (BATCH, 3, 32, 32, 3), dtype=np.uint8)
    states = rng.uniform(STATISTICS["state"]["q01"], STATISTICS["state"]["q99"], (BATCH, DIMS))
    states[0, 0] = 5.0  # far outside the quantiles
    wide = np.kron(rng.integers(0, 256, (2, 12, 20, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    wide += rng.integers(0, 8, wide.shape, dtype=np.uint8)
    noise = rng.standard_normal((BATCH, CHUNK, WIDTH)).astype(np.float32)
    statistics = {
        key: SimpleNamespace(**{name: np.array(values) for name, values in found.items()})
        for key, found in STATISTICS.items()
    }
    normalized = transforms.Normalize._normalize_quantile(None, states, statistics["state"])
    masks = {
        "droid": np.array([[True, True, False]] * BATCH),
        "mixed": np.array([[True, False, True], [False, True, True], [True, True, True]]),
    }
    with tempfile.TemporaryDirectory() as folder:
        model, text = toy_tokenizer(Path(folder))
        (HERE / "tokenizer.json").write_text(text + "\n")
        tokenizer = PaligemmaTokenizer.__new__(PaligemmaTokenizer)
        tokenizer._tokenizer = model
        record = {"instructions": INSTRUCTIONS, "statistics": STATISTICS, "weights": {}}
        for kind, length in (("pi0", 48), ("pi05", 200)):
            tokenizer._max_len = length
            rows = [
                tokenizer.tokenize(words, state if kind == "pi05" else None)
                for words, state in zip(INSTRUCTIONS, normalized, strict=True)
            ]
            tokens, valid = (np.stack(column) for column in zip(*rows, strict=True))
            network = openpi_network(kind, model.get_piece_size())
            save_model(network, str(Path(folder) / "model.safetensors"))
            stored = load_file(str(Path(folder) / "model.safetensors"))
            names = {name: list(value.shape) for name, value in sorted(stored.items())}
            record["weights"][kind] = names
            weights = {name: torch.from_numpy(value) for name, value in seeded_weights(names).items()}
            lacking = network.load_state_dict(weights, strict=False)
            assert not lacking.unexpected_keys, lacking.unexpected_keys
            record.setdefault("tied", {})[kind] = sorted(lacking.missing_keys)
            network.paligemma_with_expert.paligemma.tie_weights()
            pixels = torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 255.0 * 2.0 - 1.0
            state = torch.nn.functional.pad(torch.from_numpy(normalized).float(), (0, WIDTH - DIMS))
            kept = {
                "wide": wide,
                "square": image_tools.resize_with_pad(wide, 32, 32),
                "images": images,
                "states": states.astype(np.float32),
                "noise": noise,
                "tokens": tokens,
            }
            for run, mask in masks.items():
                observation = SimpleNamespace(
                    images=dict(enumerate(pixels.unbind(1))),
                    image_masks=dict(enumerate(torch.from_numpy(mask).unbind(1))),
                    tokenized_prompt=torch.from_numpy(tokens).long(),
                    tokenized_prompt_mask=torch.from_numpy(valid),
                    state=state,
                )
                actions = network.sample_actions("cpu", observation, torch.from_numpy(noise), STEPS).numpy()
                targets = transforms.Unnormalize._unnormalize_quantile(None, actions[..., :DIMS], statistics["actions"])
                kept |= {
                    f"{run}_mask": mask,
                    f"{run}_actions": actions,
                    f"{run}_targets": targets.astype(np.float32),
                    f"{run}_velocity": velocity(network, observation, torch.from_numpy(noise)).numpy(),
                }
            np.savez_compressed(HERE / f"openpi_{kind}.npz", **kept)
        (HERE / "openpi.json").write_text(json.dumps(record, indent=1) + "\n")


def velocity(network, observation, x):
    """openpi's velocity at (x, TIME), by the parts that its sampler is made of."""
    import torch
    from openpi.models_pytorch.pi0_pytorch import make_att_2d_masks

    with torch.no_grad():
        images, masks, tokens, valid, state = network._preprocess_observation(observation, train=False)
        embedded, pad, attend = network.embed_prefix(images, masks, tokens, valid)
        mask = network._prepare_attention_masks_4d(make_att_2d_masks(pad, attend))
        _, cache = network.paligemma_with_expert.forward(
            attention_mask=mask,
            position_ids=pad.cumsum(1) - 1,
            past_key_values=None,
            inputs_embeds=[embedded, None],
            use_cache=True,
        )
        return network.denoise_step(state, pad, cache, x, torch.full((len(x),), TIME))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
